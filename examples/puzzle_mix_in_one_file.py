"""Puzzle Mix (Kim, Choo, Song, ICML 2020, arXiv 2009.06962) in one file that needs only numpy and torch.

It is written to be read, and solves one image after another. `puzzlemix.puzzle_mix` computes the same for whole
batches, much faster. As a script, this file mixes the two photographs of scikit-learn.

    line  step             function                         paper                  fast path: src/puzzlemix/mixing
    21    saliency         saliency                         section 3              saliency.py
    50    energy           shares, costs_and_weights        equation (3)           costs.py
    91    mask             minimum_cut, solve_mask          equation (3)           graph.py, cut.py
    140   transport        plan                             Algorithm 1            transport.py
    155   mixed image      move, puzzle_mix                 mixup function h       assembly.py, puzzle.py
"""

from math import comb

import numpy as np
import torch
import torch.nn.functional as F


def saliency(network, images, labels, std):
    """Size of the loss's gradient at each pixel, (B, H, W), for images (B, C, H, W) in [0, 1] and labels (B,).

    The network is in eval mode and divides by std (C,) inside; the gradient is with respect to the normalised image.
    """
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(images), labels), images)  # (B, C, H, W)
    return (gradient * torch.as_tensor(std).view(-1, 1, 1)).square().mean(1).sqrt()


def cell_of(length, cells):
    """The cell in which each of `length` pixels lies, (length,). Cell i begins at pixel floor(i * length / cells)."""
    return (torch.arange(1, length + 1) * cells - 1) // length


def pool(values, rows, columns):
    """Mean of each cell: (..., H, W) -> (..., rows, columns)."""
    down, across = (
        F.normalize(F.one_hot(cell_of(length, cells), cells).to(values).T, p=1)  # (cells, length), rows sum to 1
        for length, cells in zip(values.shape[-2:], (rows, columns), strict=True)
    )
    return down @ values @ across.T


def enlarge(values, height, width):
    """Repeat each cell over its pixels: (..., rows, columns) -> (..., H, W)."""
    return values[..., cell_of(height, values.shape[-2])[:, None], cell_of(width, values.shape[-1])]


def shares(saliency, rows, columns):
    """Each cell's share of the image's saliency, (B, rows, columns); equal shares if the sum is 0 or not finite."""
    pooled = pool(saliency, rows, columns)
    total = pooled.sum((1, 2), keepdim=True)
    return torch.where((total > 0) & (total < torch.inf), pooled / total, 1 / (rows * columns))


def differences(first, second, along, across):
    """Mean difference between a block in `first` and the block below it in `second`, at their border, (B, n - 1, n)."""
    last, following = first[:, :, along - 1 : -1 : along], second[:, :, along::along]  # (B, C, n - 1, n across)
    return (last - following).abs().mean(1).unflatten(-1, (-1, across)).mean(-1)


def costs_and_weights(x0, x1, u0, u1, beta, gamma, neigh_size):
    """The terms of the energy of a mask z that depend on the images. z = 1 keeps x0, z = 0 takes x1.

    E(z) = sum over blocks p of z_p c1(p) + (1 - z_p) c0(p) + eta / n^2 prior(z_p)
           + sum over neighbours p, q of w(p, q) (z_p - z_q)^2

    Args: images x0, x1 (B, C, H, W), and u0, u1 (B, n, n), the shares of their saliency.
    Returns: c1, c0 (B, n, n); w (B, n - 1, n) of vertical and (B, n, n - 1) of horizontal neighbours.
    """
    n = u0.shape[-1]
    smoothness = beta / (16 * n)
    data = smoothness * gamma / 2
    k = [side // n // min(neigh_size, side // n) for side in x0.shape[-2:]]  # pooled cells in a block: down, across
    p0, p1 = (pool(x, n * k[0], n * k[1]) for x in (x0, x1))
    c1, c0, weights = u1.clone(), u0.clone(), []  # a block that keeps x0 covers saliency of x1
    for flip in (False, True):  # borders with the block below, then with the block to the right
        a, b, keep, take = (t.mT if flip else t for t in (p0, p1, c1, c0))  # views: keep and take change c1 and c0
        along, across = reversed(k) if flip else k
        d00, d01, d10, d11 = (differences(p, q, along, across) for p in (a, b) for q in (a, b))  # (B, n - 1, n)
        keep[:, :-1] += data * (d00 + d01)
        keep[:, 1:] += data * (d00 + d10)
        take[:, :-1] += data * (d10 + d11)
        take[:, 1:] += data * (d01 + d11)
        weight = smoothness + data * (d01 + d10 - d00 - d11)
        weights.append(weight.mT if flip else weight)
    return c1, c0, *weights


def minimum_cut(capacity):
    """The largest source side (N,) of a minimum cut, by shortest augmenting paths from node 0 to node 1."""
    left = capacity.copy()  # (N, N), residual capacity of the arc from the row's node to the column's
    while True:
        before, frontier = np.full(len(left), -1), np.array([0])  # the node from which each node was reached
        before[0] = 0
        while before[1] < 0 and len(frontier):
            reaches = (left[frontier] > 0) & (before < 0)  # (frontier, N)
            new = np.flatnonzero(reaches.any(0))
            before[new] = frontier[reaches[:, new].argmax(0)]
            frontier = new
        if before[1] < 0:
            break
        path = [1]
        while path[-1] != 0:
            path.append(before[path[-1]])
        heads, tails = path[:-1], path[1:]
        flow = left[tails, heads].min()
        left[tails, heads] -= flow
        left[heads, tails] += flow
    sink_side = np.arange(len(left)) == 1
    while (more := (left[:, sink_side] > 0).any(1) & ~sink_side).any():
        sink_side |= more
    return ~sink_side


def solve_mask(c1, c0, below, right, lam, eta, m):
    """The mask of least energy of one pair, (n, n) with values 0, 1/(m-1), ..., 1; the largest if there are several.

    A block has M = m - 1 nodes. Its label s = 0..M means that its first s nodes are on the source's side. With
    x = 1 on that side, (s - t)^2 = sum over a, b of |x_pa - x_qb|  -  s (M - s)  -  t (M - t) for two blocks p and q,
    so E(z) is the capacity of a cut, and no capacity is negative (Ishikawa, 2003).
    """
    n, nodes, z = len(c1), m - 1, np.linspace(0, 1, m)
    prior = -np.log([comb(nodes, s) * lam**s * (1 - lam) ** (nodes - s) + 1e-8 for s in range(m)])
    cost = c1[..., None] * z + c0[..., None] * (1 - z) + eta / n**2 * prior  # (n, n, m)
    node = 2 + np.arange(n * n * nodes).reshape(n, n, nodes)
    capacity = np.zeros((2 + node.size,) * 2)
    for weight, p, q in ((below, np.s_[:-1], np.s_[1:]), (right, np.s_[:, :-1], np.s_[:, 1:])):
        for block in (p, q):
            cost[block] -= weight[..., None] * z * (1 - z)
        tails, heads = node[p][..., :, None], node[q][..., None, :]
        capacity[tails, heads] = capacity[heads, tails] = weight[..., None, None] / nodes**2
    step = np.diff(cost)  # (n, n, M): what one more label costs
    capacity[0, node], capacity[node, 1] = np.maximum(-step, 0), np.maximum(step, 0)
    capacity[node[..., 1:], node[..., :-1]] = np.inf  # a block's nodes are taken in order
    return minimum_cut(capacity)[node].sum(-1) / nodes


def plan(share, visible, xi):
    """The auction: which cell moves to each cell, (rows, columns), counted row by row; `visible` is from the mask."""
    side, sources = max(share.shape), np.arange(share.size)
    place = np.stack(np.divmod(sources, share.shape[1]), -1)  # (N, 2): row and column of N cells
    distance = np.square(place[:, None] - place).sum(-1) / max(side - 1, 1) ** 2
    cost = xi * distance - share.reshape(-1, 1) * visible.reshape(-1)  # (N, N): source, target
    for _ in range(side):
        bids = np.full_like(cost, np.inf)
        bids[sources, cost.argmin(1)] = cost.min(1)  # each source bids on its cheapest target
        winner = bids.argmin(0)  # each target keeps its cheapest bidder
        wins = np.isfinite(bids) & (sources[:, None] == winner)
        cost += np.isfinite(bids) & ~wins  # the cost of a lost bid rises by 1
    return np.where(wins.any(0), winner, sources).reshape(share.shape)


def move(image, source):
    """Fill each cell of an image (C, H, W) with the cell that source (rows, columns) names."""
    (height, width), (rows, columns) = image.shape[1:], source.shape
    top, left = np.arange(rows + 1) * height // rows, np.arange(columns + 1) * width // columns
    moved = image.clone()
    for (i, j), cell in np.ndenumerate(source):
        a, b = divmod(cell, columns)
        y = np.minimum(top[a] + np.arange(top[i + 1] - top[i]), top[a + 1] - 1)  # sizes may differ by a pixel
        x = np.minimum(left[b] + np.arange(left[j + 1] - left[j]), left[b + 1] - 1)
        moved[:, top[i] : top[i + 1], left[j] : left[j + 1]] = image[:, y[:, None], x]
    return moved


def puzzle_mix(images, saliency, partner, *, lam, n, m=3, beta=1.2, gamma=0.5, eta=0.2, neigh_size=4, xi=0.8,
               t_size=None, transport=True):  # fmt: skip
    """Mix each image with its partner. The share of the first image is near lam.

    Args: images (B, C, H, W) in [0, 1], saliency (B, H, W), partner (B,), n blocks per side, m values of the mask;
        beta, gamma, eta, xi: weights of label smoothness, data smoothness, prior and transport; neigh_size: side in
        pixels of the squares averaged before borders are compared; t_size: side of cells that move, None for blocks.
    Returns: mixed (B, C, H, W), share (B,), the weight of the first label, and mask (B, n, n).
    """
    size, u = images.shape[2:], shares(saliency, n, n)
    energy = costs_and_weights(images, images[partner], u, u[partner], beta, gamma, neigh_size)
    pairs = zip(*(term.double().numpy() for term in energy), strict=True)
    mask = torch.from_numpy(np.stack([solve_mask(*pair, lam, eta, m) for pair in pairs])).to(images)  # (B, n, n)
    first, second = images, images[partner]
    if transport:
        rows, columns = (n * max(1, side // n // t_size) if t_size else n for side in size)
        u, shown = shares(saliency, rows, columns).numpy(), enlarge(mask, rows, columns).numpy()
        first = torch.stack([move(images[i], plan(u[i], z > 0, xi)) for i, z in enumerate(shown)])
        second = torch.stack([move(images[i], plan(u[i], z < 1, xi)) for i, z in zip(partner, shown, strict=True)])
    z = enlarge(mask, *size)[:, None]  # (B, 1, H, W)
    return z * first + (1 - z) * second, z.mean((1, 2, 3)), mask


if __name__ == "__main__":
    from PIL import Image
    from sklearn.datasets import load_sample_images

    x = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2) / 255
    s = (x - x.mean((2, 3), keepdim=True)).square().sum(1)  # instead of a network: distance of a colour to the mean
    mixed, share, mask = puzzle_mix(x, s, torch.tensor([1, 0]), lam=0.5, n=16)
    Image.fromarray((mixed[0] * 255).byte().permute(1, 2, 0).numpy()).save("puzzle_mix.png")
    print(f"puzzle_mix.png: {share[0]:.0%} of it shows the pagoda, the rest the dahlia")
