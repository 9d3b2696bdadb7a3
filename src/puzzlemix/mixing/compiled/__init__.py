"""Puzzle Mix's inner loops for a CPU, compiled by numba when first called and kept on disk from then on.

Imported only where a loop is called, so that importing puzzlemix needs torch and numpy alone.

Why numba: nothing is compiled at installation, costs stay floating point, threads share a batch without a process pool,
and a plain loop over one image stays as readable as the pseudocode that it follows. Milliseconds of the cuts of 100
pairs of CIFAR-100 images (two cores of a virtual AMD EPYC, medians of 5, m = 3), graphs built anew for each image:

    blocks a side                               2     4     8     16
    numba, this package                       0.2   0.5   2.2   10.4
    PyMaxflow 1.3 (its licence: GPL)          1.6   1.7   4.2   18.8
    OR-tools 9.15, on integers                1.7   2.5   7.1   39.9
    igraph 1.0                                1.5   3.0   8.9   52.7
    SciPy maximum_flow, on integers, no cut    20    19    23     76
    these loops in Python                      15    81   368   3168
    gco 3.0, swap: not the minimum             11    10    16     45

An extension in C++ would need a compiler, or a wheel for each platform.
"""

from puzzlemix.errors import InputError
from puzzlemix.mixing.compiled.cores import for_all_images

try:
    import numba  # noqa: F401
except ImportError as error:
    raise InputError("mixing on a CPU needs numba: pip install numba") from error

__all__ = ["for_all_images"]
