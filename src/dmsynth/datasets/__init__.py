"""Where faces come from: a posed photo, recordings, a cut-out at known places; and the dataset that each becomes."""
