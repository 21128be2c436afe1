"""In which order a grid's points are asked, and which of them need not be asked any more.

A mask is seen here only by the grid's points that lie in it. Two points that answer with nearly the same mask confirm
it; where the smallest known mask around a point is confirmed, and is what most points in it have as their own smallest,
the point's answer is foretold. Points in a whole whose parts are known do not count as foretold by the whole, and a
model whose answers differ from point to point foretells nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

_SAME = 0.8
"""IoU, counted in points, from which two masks are one."""
_COARSE = 4
"""The first level has every fourth point along either side."""


def coarse_to_fine(points: Float[np.ndarray, "n 2"]) -> list[Int[np.ndarray, " k"]]:
    """Split points of the unit square, a grid or any others, into levels: each halves the distance between points.

    A level has, of every cell of its size without a point so far, the point nearest to the cell's centre.
    """
    levels: list[Int[np.ndarray, " k"]] = []
    left = np.arange(len(points))
    cells = max(1, round(len(points) ** 0.5) // _COARSE)
    taken: Int[np.ndarray, "k 2"] = np.zeros((0, 2), np.int64)
    while left.size and cells < 1 << 20:
        cell = np.minimum((points * cells).astype(np.int64), cells - 1)
        key = cell[:, 1] * cells + cell[:, 0]
        away = np.abs(points * cells - cell - 0.5).max(axis=1)
        free = left[~np.isin(key[left], key[taken])] if len(taken) else left
        ranked = free[np.lexsort((free, away[free], key[free]))]
        _, first = np.unique(key[ranked], return_index=True)
        levels.append(ranked[first])
        taken = np.concatenate([taken.reshape(-1), ranked[first]]).astype(np.int64)
        left = np.setdiff1d(left, taken)
        cells *= 2
    return [*levels, left] if left.size else levels  # points that coincide


class Foretold:
    """What the points asked so far say about the others."""

    def __init__(self, num_points: int, *, min_support: float = 0.5) -> None:
        self._min_support = min_support
        self._asked = np.zeros(num_points, bool)
        self._masks = np.zeros((0, num_points), np.float32)
        """A row for each distinct mask: 1 at the points inside."""
        self._areas = np.zeros(0, np.int64)
        self._votes = np.zeros(0, np.int64)
        """How many asked points have the mask as their smallest."""

    def add(self, point: int, inside: Bool[np.ndarray, "m n"], areas: Int[np.ndarray, " m"]) -> None:
        """Take in the confident masks that a point answered with: the points inside each, and its area."""
        self._asked[point] = True
        around = np.flatnonzero(inside[:, point])
        smallest = around[np.argmin(areas[around])] if around.size else -1
        for index in range(len(inside)):
            known = self._find(inside[index])
            if known is None:
                self._masks = np.concatenate([self._masks, inside[index : index + 1].astype(np.float32)])
                self._areas = np.append(self._areas, areas[index])
                self._votes = np.append(self._votes, 0)
                known = len(self._masks) - 1
            self._votes[known] += index == smallest

    def __call__(self, points: Int[np.ndarray, " k"]) -> Bool[np.ndarray, " k"]:
        """Say which of these points need not be asked."""
        if not len(self._masks):
            return np.zeros(len(points), bool)
        inside = self._masks[:, points] > 0
        smallest = np.where(inside, self._areas[:, None], np.iinfo(np.int64).max).argmin(axis=0)
        asked_inside = self._masks @ self._asked.astype(np.float32)
        settled = (self._votes >= 2) & (self._votes >= self._min_support * asked_inside)
        return np.asarray(settled[smallest] & inside.any(axis=0))

    def _find(self, inside: Bool[np.ndarray, " n"]) -> int | None:
        """Return the known mask that this one is nearly the same as."""
        if not len(self._masks):
            return None
        shared = self._masks @ inside.astype(np.float32)
        iou = shared / np.maximum(self._masks.sum(axis=1) + inside.sum() - shared, 1)
        best = int(iou.argmax())
        return best if iou[best] >= _SAME else None
