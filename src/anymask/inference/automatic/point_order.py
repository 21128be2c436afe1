"""In which order a grid's points are asked, and which of them need not be asked any more.

A point is skipped where all its neighbours that were asked are *resolved*: either nothing they answered came near
the thresholds, or every confident mask they gave was given by another point too. In the second case the point must
also lie in the smallest mask of one of them, so that gaps between objects are still asked about. A part that only one
point reveals leaves this point unresolved, and so all around it is asked. A model whose answers differ from point to
point skips only where it is sure of nothing.

Masks are seen here only by the grid's points that lie in them. Legend: N points, K of them at a time, M masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

BORDERLINE = 0.02
"""A score that falls short of its threshold by no more than this is near it."""
_SAME = 0.8
"""IoU, counted in points, from which two masks are one."""
_COARSE = 4
"""The first level has every fourth point along either side."""
_REACH = 1.1
"""Neighbours are at most this many distances of the coarser level away, along either axis: the eight around."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Level:
    """Points to ask about after those of the levels before."""

    points: Int[np.ndarray, " k"]
    reach: float
    """How far away neighbours among those before may be, in the unit square, along either axis."""


def coarse_to_fine(points: Float[np.ndarray, "n 2"]) -> list[Level]:
    """Split points of the unit square, a grid or any others, into levels: each halves the distance between points.

    A level has, of every cell of its size without a point so far, the point nearest to the cell's centre.
    """
    levels: list[Level] = []
    left, taken = np.arange(len(points)), np.zeros(0, np.int64)
    cells = max(1, round(len(points) ** 0.5) // _COARSE)
    while left.size:
        reach = _REACH * 2 / cells
        if cells > 1 << 16:  # points that coincide
            levels.append(Level(points=left, reach=reach))
            break
        cell = np.minimum((points * cells).astype(np.int64), cells - 1)
        key = cell[:, 1] * cells + cell[:, 0]
        away = np.abs(points * cells - cell - 0.5).max(axis=1)
        free = left[~np.isin(key[left], key[taken])]
        ranked = free[np.lexsort((free, away[free], key[free]))]
        _, first = np.unique(key[ranked], return_index=True)
        if first.size:
            levels.append(Level(points=ranked[first], reach=reach))
        taken = np.concatenate([taken, ranked[first]])
        left = np.setdiff1d(left, taken)
        cells *= 2
    return levels


class SkipRule:
    """What the points asked so far say about the others."""

    def __init__(self, points: Float[np.ndarray, "n 2"]) -> None:
        count = len(points)
        self._points = points
        self._asked = np.zeros(count, bool)
        self._empty = np.zeros(count, bool)
        """Asked, and nothing came near the thresholds."""
        self._smallest = np.full(count, -1)
        """The smallest mask around each point that it gave itself."""
        self._rows: Float[np.ndarray, "m n"] = np.zeros((64, count), np.float32)
        """For each distinct mask, then for masks to come: 1 at the points inside."""
        self._sizes: Float[np.ndarray, " m"] = np.zeros(64, np.float32)
        self._givers: list[set[int]] = []
        """The points that gave each mask."""

    def add(
        self, point: int, inside: Bool[np.ndarray, "m n"], areas: Int[np.ndarray, " m"], *, borderline: bool
    ) -> None:
        """Take in a point's confident masks: the points inside each, and its area.

        `borderline` says whether any of its masks, confident or not, came near the thresholds.
        """
        self._asked[point], self._empty[point] = True, not borderline
        known = [self._index(row) for row in inside]
        for index in known:
            self._givers[index].add(point)
        around = np.flatnonzero(inside[:, point])
        if around.size:
            self._smallest[point] = known[int(around[np.argmin(areas[around])])]

    def __call__(self, points: Int[np.ndarray, " k"], reach: float, *, empty: bool) -> Bool[np.ndarray, " k"]:
        """Say which of these points need not be asked; unless `empty`, only those in masks."""
        apart = np.abs(self._points[points][:, None] - self._points[None]).max(axis=-1)
        near = (apart <= reach) & self._asked
        unresolved, giving = self._states()
        calm = near.any(axis=1) & ~(near & unresolved).any(axis=1)
        in_masks = (near & giving).any(axis=1)
        own = np.flatnonzero(self._smallest >= 0)
        covered = (near[:, own] & (self._rows[self._smallest[own]][:, points].T > 0)).any(axis=1)
        return np.asarray(calm & np.where(in_masks, covered, empty))

    def _states(self) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Return which points are unresolved, and which gave masks."""
        giving, alone = np.zeros_like(self._asked), np.zeros_like(self._asked)
        for givers in self._givers:
            giving[list(givers)] = True
            if len(givers) == 1:
                alone[list(givers)] = True
        return alone | (self._asked & ~giving & ~self._empty), giving

    def _index(self, inside: Bool[np.ndarray, " n"]) -> int:
        """Return which distinct mask this is, if need be a new one."""
        count, row = len(self._givers), inside.astype(np.float32)
        shared = self._rows[:count] @ row
        iou = shared / np.maximum(self._sizes[:count] + row.sum() - shared, 1)
        if count and iou.max() >= _SAME:
            return int(iou.argmax())
        if count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
        self._rows[count], self._sizes[count] = row, row.sum()
        self._givers.append(set())
        return count
