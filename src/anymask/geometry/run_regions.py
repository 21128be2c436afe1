"""Connected regions of a mask in its stored form: `regions` for masks of any size, in memory that runs alone take.

Pixels that touch at a corner are connected, of the mask and of its holes alike, as in `regions`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from anymask.geometry import rle


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Runs:
    """Runs of pixels, each within one column, by rising place in the image read column by column."""

    starts: Int[np.ndarray, " n"]
    stops: Int[np.ndarray, " n"]
    """Column at which each run stops, exclusive."""


def clean(mask: rle.RLE, min_area: float) -> tuple[rle.RLE, bool]:
    """Fill holes, then drop islands, of less than `min_area` pixels; also return whether any there were.

    Every region outside the mask is a hole, also one at the image's border. If all islands are small the largest
    stays, of several the first from the left; an empty mask stays empty (SAM, app. B). Raises DataError if the stored
    form is malformed.
    """
    size = (mask["size"][0], mask["size"][1])
    inside, outside = _runs(mask)
    holes = _areas(outside, _regions(outside, size[0])) < min_area
    if holes.any():
        mask = _stored(_joined(inside, outside, holes), size)
        inside, _ = _runs(mask)
    region = _regions(inside, size[0])
    areas = _areas(inside, region)
    islands = areas < min_area
    if islands.any():
        kept = ~islands if not islands.all() else region == region[areas.argmax()]
        mask = _stored(_Runs(starts=inside.starts[kept], stops=inside.stops[kept]), size)
    return mask, bool(holes.any() or islands.any())


def _runs(mask: rle.RLE) -> tuple[_Runs, _Runs]:
    """Return the runs inside and outside, cut at the columns' ends."""
    height = mask["size"][0]
    edges = np.concatenate([[0], np.cumsum(rle.runs(mask))])
    inside = _cut_at_columns(edges[1:-1:2], edges[2::2], height)
    return inside, _cut_at_columns(edges[0:-1:2], edges[1::2], height)


def _cut_at_columns(starts: Int[np.ndarray, " n"], stops: Int[np.ndarray, " n"], height: int) -> _Runs:
    starts, stops = starts[stops > starts], stops[stops > starts]
    first = starts // height
    num_columns = (stops - 1) // height - first + 1
    owner = np.repeat(np.arange(starts.size), num_columns)
    column = np.arange(owner.size) - np.repeat(np.cumsum(num_columns) - num_columns, num_columns) + first[owner]
    return _Runs(
        starts=np.maximum(starts[owner], column * height), stops=np.minimum(stops[owner], (column + 1) * height)
    )


def _areas(runs: _Runs, region: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return for each run the area of the region it belongs to."""
    lengths = runs.stops - runs.starts
    return np.asarray(np.bincount(region, weights=lengths, minlength=1)[region], np.int64)


def _regions(runs: _Runs, height: int) -> Int[np.ndarray, " n"]:
    """Return for each run the first run of its region.

    Labels fall to the least of their neighbours' and jump to their labels' labels, until none falls.
    """
    left, right = _neighbours(runs, height)
    label = np.arange(runs.starts.size)
    while left.size:
        before = label
        least = np.minimum(label[left], label[right])
        label = label.copy()
        for end in (before[left], before[right], left, right):
            np.minimum.at(label, end, least)
        label = label[label]
        if np.array_equal(label, before):
            break
    return label


def _neighbours(runs: _Runs, height: int) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """Return the pairs of runs in columns side by side that touch, at a corner included."""
    column = runs.starts // height
    # One row of nothing after each column, so that no run touches one of another column beyond its ends.
    starts, stops = runs.starts + 2 * column, runs.stops + 2 * column
    first = np.searchsorted(stops, starts + height + 2, side="left")
    last = np.searchsorted(starts, stops + height + 2, side="right")
    counts = np.maximum(last - first, 0)
    left = np.repeat(np.arange(starts.size), counts)
    right = np.arange(left.size) - np.repeat(np.cumsum(counts) - counts, counts) + first[left]
    return left, right


def _joined(inside: _Runs, outside: _Runs, chosen: Bool[np.ndarray, " n"]) -> _Runs:
    starts = np.concatenate([inside.starts, outside.starts[chosen]])
    stops = np.concatenate([inside.stops, outside.stops[chosen]])
    order = np.argsort(starts)
    return _Runs(starts=starts[order], stops=stops[order])


def _stored(runs: _Runs, size: tuple[int, int]) -> rle.RLE:
    edges = np.stack([runs.starts, runs.stops], axis=1).reshape(-1)
    return rle.from_uncompressed(np.diff(edges, prepend=0, append=size[0] * size[1]), size)
