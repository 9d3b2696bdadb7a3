"""Puzzle Mix's two solvers for a GPU, in Triton, which PyTorch brings along: those of `cut.py` and `transport.py`.

The host waits for neither. One program (a thread block) works on one image; what its threads share lies in scratch
memory, small enough to stay in a cache. They go from step to step at barriers, and between two of those
no place is read that another thread writes, or the order does not matter and the comment says so: whatever the order of
threads, the result is one.

Without a GPU the kernels run in Triton's interpreter (TRITON_INTERPRET=1); their tests do that.
"""
