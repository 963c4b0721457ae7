"""Benchmarks (see README.md here), and how the sample scores are made; run from the root."""
