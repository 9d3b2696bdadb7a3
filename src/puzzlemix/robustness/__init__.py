"""Robustness: how a trained network bears up against images made to mislead it."""

from puzzlemix.robustness import attacks

__all__ = ["attacks"]
