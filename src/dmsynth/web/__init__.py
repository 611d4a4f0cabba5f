"""A face in a web page: what a page must know of it, and a page that needs no server."""
