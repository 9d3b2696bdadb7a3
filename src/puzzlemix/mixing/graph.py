"""The graph whose minimum cut is the mask of least energy: what `cut.py` and `kernels/cut.py` cut.

Labels as nodes: with m labels and M = m - 1, the label s of a block, z = s / M, is M nodes; the first s of them lie on
the source's side of the cut. With x_pa = 1 for those,

    (s - t)^2 = sum over a, b of |x_pa - x_qb| - s (M - s) - t (M - t),

so a border of weight w is M^2 pairs of arcs of capacity w / M^2, what is taken off again goes to the blocks' own costs,
and no capacity is negative: the minimum cut is the minimum of E. Ishikawa's construction (2003) for a convex pairwise
term; the arcs that keep the nodes of a block in order cannot be cut.
"""

from functools import lru_cache

import numpy as np

from puzzlemix.mixing.blocks import Grid

STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left, as rows and columns


@lru_cache(maxsize=64)
def arcs(grid: Grid, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the arcs of each node lead, and which arc of that node leads back; both (N, 4 M + 2) uint32.

    Node a of block p is number p M + a. Its arcs: M to the neighbour's nodes in each of the four directions, one to the
    node below in its block, one to the node above. An arc that does not exist leads from the node to itself: its
    capacity is 0 and stays 0.
    """
    n_h, n_w = grid
    nodes = n_h * n_w * layers
    target, back = np.indices((nodes, 4 * layers + 2), np.uint32)  # each to itself
    below, above = 4 * layers, 4 * layers + 1
    for node in range(nodes):
        (row, column), layer = divmod(node // layers, n_w), node % layers
        for direction, (down, right) in enumerate(STEPS):
            y, x = row + down, column + right
            if 0 <= y < n_h and 0 <= x < n_w:
                own = slice(direction * layers, (direction + 1) * layers)
                target[node, own] = (y * n_w + x) * layers + np.arange(layers)
                back[node, own] = (direction + 2) % 4 * layers + layer
        if layer > 0:
            target[node, below], back[node, below] = node - 1, above
        if layer < layers - 1:
            target[node, above], back[node, above] = node + 1, below
    return target, back
