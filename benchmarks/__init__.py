"""Benchmarks: the costs and gains of each part. One process measures all that a benchmark compares."""
