"""Complete experiments: the demo, benchmarks, validations, and the thesis's chapters."""
