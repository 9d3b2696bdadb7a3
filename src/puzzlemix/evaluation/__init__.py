"""The evaluation of trained networks: clean, under attack, on corrupted images, and their calibration."""

from puzzlemix.evaluation import attacks

__all__ = ["attacks"]
