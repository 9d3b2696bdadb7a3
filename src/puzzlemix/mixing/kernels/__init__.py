"""The solvers of `cut.py` and `transport.py` for a GPU, in Triton, which comes with PyTorch.

Neither needs a host/device synchronisation. One program (thread block) works on one image. Its threads share scratch
memory that is small enough for a cache. Barriers separate the steps: between two of them, no thread reads what another
thread writes, except where a comment says that the order does not matter. So the result does not depend on the order of
the threads.

Without a GPU the kernels run in Triton's interpreter (TRITON_INTERPRET=1), as they do in their tests.
"""
