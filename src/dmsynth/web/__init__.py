"""A face in a web page: its description for scripts, and a page that needs no server."""
