"""Datasets: `arrays.py` for what fits in memory, `folders.py` for what does not, and one file for each source."""
