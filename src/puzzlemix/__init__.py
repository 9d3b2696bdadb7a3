"""Puzzle Mix (Kim, Choo, Song, ICML 2020): the method, the networks it was published with, attacks, and training.

Importing this needs torch and numpy only.
"""

from puzzlemix import networks, robustness
from puzzlemix.mixing import (
    Augmentation,
    AugMix,
    CutMix,
    InputMixup,
    ManifoldMixup,
    Mixer,
    PGDTraining,
    Puzzle,
    PuzzleAugMix,
    PuzzleMix,
    PuzzlePGD,
    puzzle_mix,
)

__all__ = [
    "AugMix",
    "Augmentation",
    "CutMix",
    "InputMixup",
    "ManifoldMixup",
    "Mixer",
    "PGDTraining",
    "Puzzle",
    "PuzzleAugMix",
    "PuzzleMix",
    "PuzzlePGD",
    "networks",
    "puzzle_mix",
    "robustness",
]
