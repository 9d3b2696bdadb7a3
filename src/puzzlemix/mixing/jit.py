"""How plain loops over arrays are compiled for a CPU."""

from __future__ import annotations

from collections.abc import Callable

from puzzlemix.runtime.errors import InputError

try:
    from numba import njit
except ImportError as error:
    raise InputError("mixing on a CPU, and blurring, need numba: pip install numba") from error


def compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """By numba, without Python's lock and, where a folder for it can be written, kept on disk.

    That is `__pycache__` beside the loop, else the user's cache folder, else wherever NUMBA_CACHE_DIR says.
    """
    try:
        return njit(cache=True, nogil=True)(loop)
    except RuntimeError:  # no such folder
        return njit(nogil=True)(loop)
