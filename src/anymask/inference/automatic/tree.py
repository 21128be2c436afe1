"""The whole/part/subpart tree of an image's masks: what lies inside what (SAM, sec. 2 and 4).

Everything is counted on run lengths; no mask is decoded, so an image's area costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from anymask.errors import InputError
from anymask.geometry import boxes as box_geometry
from anymask.geometry import rle


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskTree:
    """Each mask's place: `parents` holds its parent's index or -1, `levels` its depth, 0 for what lies in nothing."""

    parents: Int[np.ndarray, " n"]
    levels: Int[np.ndarray, " n"]

    def children(self, index: int) -> list[int]:
        """Return the indices of the masks whose parent is mask `index`; the roots for -1."""
        return [int(child) for child in np.flatnonzero(self.parents == index)]


def build_tree(masks: Sequence[rle.RLE], *, containment: float = 0.9, twin: float = 0.9) -> MaskTree:
    """Find each mask's parent: the smallest mask that holds at least `containment` of its pixels.

    A mask of more than `twin` of another's area is about the same thing and no part of it; both then hang on the same
    parent. An empty mask has none. Raises InputError for masks of different sizes and for shares that are not above 0
    and at most 1.
    """
    for name, share in (("containment", containment), ("twin", twin)):
        if not 0 < share <= 1:
            raise InputError(f"{name} is {share}; a share above 0 and at most 1 was expected")
    sizes = {tuple(mask["size"]) for mask in masks}
    if len(sizes) > 1:
        raise InputError(f"a tree needs masks of one image, not of sizes {sorted(sizes)}")
    parents = np.full(len(masks), -1, np.int64)
    levels = np.zeros(len(masks), np.int64)
    spans = [_Spans.of(mask) for mask in masks]
    areas = np.array([int(span.before[-1]) for span in spans], np.int64)
    boxes = box_geometry.xywh_to_xyxy(np.array([rle.bbox(mask) for mask in masks], np.int64).reshape(-1, 4))
    falling = np.argsort(-areas, kind="stable")
    for index in falling[areas[falling] > 0].tolist():
        for larger in _may_hold(index, areas, boxes, containment, twin):
            if spans[index].shared(spans[larger]) >= containment * areas[index]:
                parents[index], levels[index] = larger, levels[larger] + 1  # the larger one's level is known by now
                break
    return MaskTree(parents=parents, levels=levels)


def _may_hold(
    index: int, areas: Int[np.ndarray, " n"], boxes: Int[np.ndarray, "n 4"], containment: float, twin: float
) -> list[int]:
    """Return the masks that are large enough and whose boxes leave room for the share, the smallest first."""
    low = np.maximum(boxes[:, :2], boxes[index, :2])
    high = np.minimum(boxes[:, 2:], boxes[index, 2:])
    room = box_geometry.area(np.concatenate([low, high], axis=1))
    possible: Bool[np.ndarray, " n"] = (room >= containment * areas[index]) & (areas[index] <= twin * areas)
    found = np.flatnonzero(possible & (areas > areas[index]))
    smallest_first: list[int] = found[np.argsort(areas[found], kind="stable")].tolist()
    return smallest_first


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Spans:
    """A mask's runs of pixels, in the order of run lengths: down the columns, left to right.

    pycocotools would read each mask's string again for each comparison, which takes most of the time.
    """

    starts: Int[np.ndarray, " r"]
    ends: Int[np.ndarray, " r"]
    before: Int[np.ndarray, " r+1"]
    """The mask's pixels before each run, and all of them."""

    @classmethod
    def of(cls, mask: rle.RLE) -> _Spans:
        edges = np.cumsum(rle.runs(mask))
        ends = edges[1::2]
        starts = edges[: 2 * len(ends) : 2]
        return cls(starts=starts, ends=ends, before=np.concatenate([[0], np.cumsum(ends - starts)]))

    def shared(self, other: _Spans) -> int:
        """Return how many pixels both masks have."""
        return int((other._pixels_before(self.ends) - other._pixels_before(self.starts)).sum())

    def _pixels_before(self, places: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
        """Return how many of the mask's pixels come before each place, itself left out."""
        run = np.searchsorted(self.starts, places, side="right") - 1
        within = np.minimum(places, self.ends[run]) - self.starts[run]
        return np.where(run < 0, 0, self.before[run] + within)
