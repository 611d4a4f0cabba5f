"""Scenarios, DMSs under test, verdicts, and version A against version B."""
