"""Utilities without domain knowledge: files, processes, progress, errors."""
