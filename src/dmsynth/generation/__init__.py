"""Labelled frames in bulk: a plan, a balanced design of clips, shards for training code (``docs/generate.md``)."""
