"""Benchmarks: what each part costs and gains, with all that is compared measured in one process."""
