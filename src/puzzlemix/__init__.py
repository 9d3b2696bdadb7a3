"""Puzzle Mix (Kim, Choo, Song, ICML 2020): the method, the networks it was published with, attacks, and training.

Importing this needs torch and numpy only.
"""

from puzzlemix import evaluation, networks
from puzzlemix.mixing import (
    Augmentation,
    AugmentedPuzzleMix,
    AugMix,
    CutMix,
    InputMixup,
    ManifoldMixup,
    Mixer,
    PGDTraining,
    Puzzle,
    PuzzleMix,
    PuzzlePGD,
    puzzle_mix,
)

__version__ = "0.1.0"

__all__ = [
    "AugMix",
    "Augmentation",
    "AugmentedPuzzleMix",
    "CutMix",
    "InputMixup",
    "ManifoldMixup",
    "Mixer",
    "PGDTraining",
    "Puzzle",
    "PuzzleMix",
    "PuzzlePGD",
    "evaluation",
    "networks",
    "puzzle_mix",
]
