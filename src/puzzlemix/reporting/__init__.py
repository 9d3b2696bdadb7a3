"""Reporting: results as tables, puzzles as pictures."""
