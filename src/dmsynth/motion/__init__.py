"""Controls over time: a trajectory from motions in words, from a table, or from a tracked driver."""
