"""What a trained network is worth beyond its clean error: under attack, on corrupted images, and how sure it is."""

from puzzlemix.evaluation import attacks

__all__ = ["attacks"]
