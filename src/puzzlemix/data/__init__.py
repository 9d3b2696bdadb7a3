"""Datasets: `arrays.py` holds those that fit in memory, `folders.py` the others, and each source has its own file."""
