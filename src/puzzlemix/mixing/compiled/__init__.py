"""Puzzle Mix's inner loops for a CPU, compiled by numba when first called and kept on disk from then on.

Imported only where a loop is called, so that importing puzzlemix needs torch and numpy alone.

Why numba: nothing is compiled at installation, costs stay floating point, threads share a batch without a process pool,
and a plain loop over one image stays as readable as the pseudocode that it follows. Milliseconds of the cuts of 100
pairs of CIFAR-100 images (two cores of a virtual AMD EPYC, medians of 5, m = 3), graphs built anew for each image:

    blocks a side                               2     4     8     16
    numba, this package                       0.8   1.0   1.7    8.2
    PyMaxflow 1.3 (its licence: GPL)          1.1   1.7   4.1   14.0
    OR-tools 9.15, on integers                1.2   2.4   6.9   30.4
    igraph 1.0                                1.3   2.7   8.7   37.0
    SciPy maximum_flow, on integers, no cut    17    18    24     53
    these loops in Python                      14    56   297   2402
    gco 3.0, swap: not the minimum              9     9    13     29

An extension in C++ would need a compiler, or a wheel for each platform.
"""

from puzzlemix.mixing.compiled.cores import for_all_images

__all__ = ["for_all_images"]
