"""The parameters of Puzzle Mix."""

from __future__ import annotations

from dataclasses import dataclass

from puzzlemix.mixing.blocks import Grid
from puzzlemix.mixing.graphcut import SOLVERS, check_solver
from puzzlemix.mixing.transport import PLANS
from puzzlemix.runtime.errors import require, require_choice, require_number, require_whole


@dataclass(frozen=True, kw_only=True)  # nine of them, which could be swapped unnoticed
class PuzzleParameters:
    """How images are mixed, whatever the images.

    Args:
        beta: label smoothness of the mask, 0 or more.
        gamma: data smoothness, in [0, 1]; above only with `solver="swap"`.
        eta: weight of the prior that draws the share towards lam, 0 or more.
        neigh_size: pixels a side averaged before borders are compared.
        n_labels: m, mask values 0, 1/(m-1), ..., 1; 2 to 256.
        transport: move salient blocks, by the released auction (True) or for the least cost ("exact": by SciPy, on the
            CPU); False mixes in place.
        t_eps: xi, cost of a move across the whole image, in saliency shares.
        t_size: pixels a side of the cells that move where the mask's blocks are larger; None moves the mask's blocks.
        solver: "exact", the mask of least energy, or "swap", the released search for it.

    Raises:
        InputError: one is out of range.
    """

    beta: float = 1.2
    gamma: float = 0.5
    eta: float = 0.2
    neigh_size: int = 4
    n_labels: int = 3
    transport: bool | str = True
    t_eps: float = 0.8
    t_size: int | None = None
    solver: str = "exact"

    def __post_init__(self) -> None:
        for name in ("beta", "gamma", "eta", "t_eps"):
            require_number(name, getattr(self, name))
        require_whole("neigh_size", self.neigh_size, least=1)
        require_whole("n_labels", self.n_labels, least=2, most=256)  # as many values as a pixel has
        if self.t_size is not None:
            require_whole("t_size", self.t_size, least=1)
        require_choice("solver", self.solver, SOLVERS)
        fits = self.gamma <= 1 or self.solver == "swap"  # above 1 a weight could be negative
        require(fits, f"gamma must lie in [0, 1], not {self.gamma}: only solver=swap takes more")
        known = isinstance(self.transport, bool) or str(self.transport) in PLANS
        require(known, f"transport must be true, false, or one of {', '.join(PLANS)}, not {self.transport}")

    def check_grid(self, grid: Grid, height: int, width: int) -> None:
        """Raise `InputError` where masks of this grid cannot be made for images of this size, in pixels."""
        fits = 1 <= grid[0] <= height and 1 <= grid[1] <= width
        pixels, blocks = f"{height} x {width} pixels", f"{grid[0]} x {grid[1]} blocks"
        require(fits, f"images of {pixels} are smaller than a grid of {blocks}: use fewer blocks")
        check_solver(self.solver, self.beta, grid)
