"""Puzzle Mix (Kim, Choo, Song, ICML 2020): the method, the networks it was published with, attacks, and training.

Importing this needs torch and numpy only.
"""

from puzzlemix import networks, robustness
from puzzlemix.mixing import CutMix, InputMixup, ManifoldMixup, Mixer, Puzzle, PuzzleMix, puzzle_mix

__all__ = [
    "CutMix",
    "InputMixup",
    "ManifoldMixup",
    "Mixer",
    "Puzzle",
    "PuzzleMix",
    "networks",
    "puzzle_mix",
    "robustness",
]
