"""Training a network: the loop, its recipe, its state, its files."""
