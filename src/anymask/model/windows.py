"""Grids cut into square windows and put together again.

Legend: B images, H×W grid, S side of a window, n = ceil(H/S) · ceil(W/S) windows per image, C channels.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def split_windows(
    x: Float[Tensor, "b h w c"], side: int, filler: Float[Tensor, " c"]
) -> Float[Tensor, "b*n side side c"]:
    """Cut a grid into windows, row by row; cells that windows have beyond the grid hold `filler`."""
    batch, height, width, _ = x.shape
    rows, columns = -(-height // side), -(-width // side)
    if (rows * side, columns * side) != (height, width):
        whole = filler.to(x.dtype).expand(batch, rows * side, columns * side, -1).clone()
        whole[:, :height, :width] = x
        x = whole
    windows: Tensor = x.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3)
    return windows.reshape(-1, side, side, x.shape[-1])


def join_windows(windows: Float[Tensor, "b*n side side c"], grid: tuple[int, int]) -> Float[Tensor, "b h w c"]:
    """Undo `split_windows` for a grid of (height, width), dropping the cells beyond it."""
    side, (height, width) = windows.shape[1], grid
    rows, columns = -(-height // side), -(-width // side)
    whole: Tensor = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return whole[:, :height, :width]
