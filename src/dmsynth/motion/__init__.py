"""Trajectories: controls over time, from motions in words, from a table, or from a tracked driver."""
