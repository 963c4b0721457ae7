"""Benchmarks, and how the sample scores are made; run from the repository root."""
