"""Mixing methods, which all follow the contract of `base.Mixer`."""

from puzzlemix.mixing.augmix import Augmentation, AugmentedPuzzleMix, AugMix
from puzzlemix.mixing.base import Mixer
from puzzlemix.mixing.cutmix import CutMix
from puzzlemix.mixing.input_mixup import InputMixup
from puzzlemix.mixing.manifold_mixup import ManifoldMixup
from puzzlemix.mixing.pgd import PGDTraining, PuzzlePGD
from puzzlemix.mixing.puzzle import Puzzle, PuzzleMix, puzzle_mix

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
    "puzzle_mix",
]
