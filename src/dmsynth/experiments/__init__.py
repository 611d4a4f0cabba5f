"""Whole experiments as code: the demo, and later the thesis's chapters."""
