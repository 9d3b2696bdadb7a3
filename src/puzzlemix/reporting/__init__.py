"""Reports: results as tables and as a page, puzzles as pictures, cards of kept weights."""
