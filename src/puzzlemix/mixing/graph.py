"""The graph whose minimum cut is the mask of least energy, for `cut.py` and `kernels/cut.py`.

The construction is Ishikawa's (2003) for a convex pairwise term. With m labels and M = m - 1, a block is M nodes. Its
label s means that its first s nodes are on the source's side of the cut; the mask value is z = s / M. With
x_pa = 1 for a node a of block p on that side,

    (s - t)^2 = sum over a, b of |x_pa - x_qb| - s (M - s) - t (M - t).

So a border of weight w becomes M^2 pairs of arcs of capacity w / M^2, and the subtracted terms go into the costs of the
two blocks. No capacity is negative, so the minimum cut is the minimum of E. Arcs of infinite capacity keep the
nodes of a block in order.
"""

from functools import lru_cache

import numpy as np

from puzzlemix.mixing.blocks import Grid

STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left, as rows and columns


@lru_cache(maxsize=64)
def arcs(grid: Grid, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """The head of each node's arcs, and the slot of the reverse arc at that head; both (N, 4 M + 2) uint32.

    Node a of block p has index p M + a. Its slots hold M arcs to the neighbour's nodes in each of the four directions,
    one to the node below it in its block, and one to the node above it. An arc that does not exist is a loop at the
    node, whose capacity is 0 and stays 0.
    """
    n_h, n_w = grid
    nodes = n_h * n_w * layers
    target, back = np.indices((nodes, 4 * layers + 2), np.uint32)  # loops
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
