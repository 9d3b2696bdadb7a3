"""Puzzle Mix's inner loops for a CPU, compiled by numba when first called and kept on disk from then on.

Why numba: nothing is compiled at installation, and a plain loop over one image stays as readable as the pseudocode that
it follows. Imported only where a loop is called, so that importing puzzlemix needs torch and numpy alone.
"""

from puzzlemix.errors import InputError
from puzzlemix.mixing.compiled.cores import for_all_images

try:
    import numba  # noqa: F401
except ImportError as error:
    raise InputError("mixing on a CPU needs numba: pip install numba") from error

__all__ = ["for_all_images"]
