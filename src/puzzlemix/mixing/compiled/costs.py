"""Means of cells and the costs of a mask, image by image: `blocks.pool_to_grid` and `costs.mask_costs`."""

from __future__ import annotations

import numpy as np

from puzzlemix.mixing.jit import compiled


@compiled
def pool_planes(begin, end, planes, top, left, means):
    """The mean of each cell of planes `begin` to `end`.

    Args:
        begin, end: which.
        planes: (P, H, W).
        top, left: (n_h + 1,), (n_w + 1,), where cells begin, in pixels.
        means: (P, n_h, n_w), filled.
    """
    _, n_h, n_w = means.shape
    sums = np.empty(planes.shape[2], np.float64)
    for p in range(begin, end):
        for i in range(n_h):
            sums[:] = 0
            for y in range(top[i], top[i + 1]):
                for x in range(len(sums)):
                    sums[x] += planes[p, y, x]
            for j in range(n_w):
                total = 0.0
                for x in range(left[j], left[j + 1]):
                    total += sums[x]
                means[p, i, j] = total / ((top[i + 1] - top[i]) * (left[j + 1] - left[j]))


@compiled
def add_borders(begin, end, first, second, smoothness, data, below, keep_first, take_second, weight):
    """Add what borders in one direction cost to pairs `begin` to `end`, and fill their weights.

    Args:
        begin, end: which.
        first, second: cells of x0 and x1 (B, C, n_h, k_h, n_w, k_w).
        smoothness, data: beta', and beta' gamma / 2.
        below: whether to the block below or to the right.
        keep_first, take_second: c1, c0 (B, n_h, n_w), added to.
        weight: w (B, n_h - 1, n_w) or (B, n_h, n_w - 1), filled.
    """
    _, channels, _, k_h, _, k_w = first.shape
    along = k_w if below else k_h  # cells along a border
    _, rows, columns = weight.shape
    down, right = (1, 0) if below else (0, 1)
    for b in range(begin, end):
        for i in range(rows):
            for j in range(columns):
                d00 = d01 = d10 = d11 = 0.0
                for c in range(channels):
                    for k in range(along):
                        y, x = (k_h - 1, k) if below else (k, k_w - 1)  # of the block's last row or column
                        next_y, next_x = (0, k) if below else (k, 0)
                        p0, p1 = first[b, c, i, y, j, x], second[b, c, i, y, j, x]
                        q0 = first[b, c, i + down, next_y, j + right, next_x]
                        q1 = second[b, c, i + down, next_y, j + right, next_x]
                        d00 += abs(p0 - q0)
                        d01 += abs(p0 - q1)
                        d10 += abs(p1 - q0)
                        d11 += abs(p1 - q1)
                scale = data / (channels * along)
                keep_first[b, i, j] += scale * (d00 + d01)  # this block as the first side
                take_second[b, i, j] += scale * (d10 + d11)
                keep_first[b, i + down, j + right] += scale * (d00 + d10)  # ... and its neighbour as the second
                take_second[b, i + down, j + right] += scale * (d01 + d11)
                weight[b, i, j] = smoothness + scale * (d01 + d10 - d00 - d11)
