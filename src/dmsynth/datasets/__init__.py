"""Datasets of faces, made from a posed photo, recordings, or a cut-out face at known positions."""
