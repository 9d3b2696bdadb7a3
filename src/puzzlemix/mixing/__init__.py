"""Mixing methods: one a file, all with the contract of `base.Mixer`."""

from puzzlemix.mixing.base import Mixer
from puzzlemix.mixing.cutmix import CutMix
from puzzlemix.mixing.input_mixup import InputMixup
from puzzlemix.mixing.manifold_mixup import ManifoldMixup
from puzzlemix.mixing.puzzle import PuzzleMix
from puzzlemix.mixing.puzzle_steps import Puzzle, puzzle_mix

__all__ = ["CutMix", "InputMixup", "ManifoldMixup", "Mixer", "Puzzle", "PuzzleMix", "puzzle_mix"]
