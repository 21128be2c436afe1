"""Outlines of masks as polygons with holes, and masks from polygons.

Coordinates are (x, y) along pixel edges: pixel (column, row) covers [column, column + 1) x [row, row + 1).
Outlines of a mask run clockwise as seen on the screen and its holes counter-clockwise, so the mask is always
to the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from pycocotools import mask as coco

from anymask.errors import DataError, InputError
from anymask.geometry import boxes, rle

# Headings of an outline.
_EAST, _SOUTH, _WEST, _NORTH = range(4)

# How outlines turn at a corner, by which of the four pixels around it are in the mask: 1 north-west, 2 north-east,
# 4 south-west, 8 south-east. Where two pixels touch at the corner alone, two outlines pass and keep them joined.
_TURNS: dict[int, tuple[tuple[int, int], ...]] = {
    8: ((_NORTH, _EAST),),
    4: ((_EAST, _SOUTH),),
    1: ((_SOUTH, _WEST),),
    2: ((_WEST, _NORTH),),
    1 + 2 + 4: ((_WEST, _SOUTH),),
    2 + 4 + 8: ((_EAST, _NORTH),),
    1 + 4 + 8: ((_SOUTH, _EAST),),
    1 + 2 + 8: ((_NORTH, _WEST),),
    1 + 8: ((_SOUTH, _EAST), (_NORTH, _WEST)),
    2 + 4: ((_EAST, _NORTH), (_WEST, _SOUTH)),
}

_MAX_COORDINATE = 1e6  # pycocotools' memory grows with an edge's length


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polygon:
    """One connected piece: its outer ring and those of its holes, each closed and without a repeated last
    point.
    """

    exterior: Float[np.ndarray, "n 2"]
    holes: tuple[Float[np.ndarray, "m 2"], ...] = ()


def from_mask(mask: Bool[np.ndarray, "h w"], tolerance: float = 0.0) -> list[Polygon]:
    """Return the outlines of a mask's pieces, which `to_mask` turns back into exactly that mask.

    Pixels that touch at a corner are one piece. Rings begin at their topmost, then leftmost corner; pieces
    and holes come in that order too. With a `tolerance` in pixels each ring is simplified to within it
    (Douglas-Peucker): then the mask comes back only nearly, and a hole may vanish, but never a piece.
    """
    x0, y0, x1, y1 = boxes.from_masks(mask).tolist()
    crop = mask[y0:y1, x0:x1]
    if crop.size == 0:
        return []
    rings = _rings(crop)
    labels = cv2.connectedComponents(np.ascontiguousarray(crop, bool).view(np.uint8), connectivity=8)[1]
    exteriors: dict[int, Int[np.ndarray, "n 2"]] = {}
    holes: dict[int, list[Int[np.ndarray, "m 2"]]] = {}
    for ring in rings:
        x, y = ring[0]
        if _signed_area(ring) > 0:
            exteriors[int(labels[y, x])] = ring
        else:  # The first corner of a hole has the mask to its left.
            holes.setdefault(int(labels[y, x - 1]), []).append(ring)
    offset = np.array([x0, y0])
    return [
        _simplified(ring + offset, [hole + offset for hole in holes.get(label, [])], tolerance)
        for label, ring in exteriors.items()
    ]


def _simplified(exterior: Int[np.ndarray, "n 2"], holes: Sequence[Int[np.ndarray, "m 2"]], tolerance: float) -> Polygon:
    rings = [np.asarray(ring, np.float32) for ring in (exterior, *holes)]
    if tolerance > 0:
        simpler = [_approximated(ring, tolerance) for ring in rings]
        if _signed_area(simpler[0]) == 0:
            simpler[0] = rings[0]
        rings = [ring for ring in simpler if _signed_area(ring) != 0]
    return Polygon(exterior=rings[0], holes=tuple(rings[1:]))


def _approximated(ring: Float[np.ndarray, "n 2"], tolerance: float) -> Float[np.ndarray, "m 2"]:
    return np.asarray(cv2.approxPolyDP(ring[:, None], tolerance, True), np.float32).reshape(-1, 2)


def _signed_area(ring: Shaped[np.ndarray, "n 2"]) -> float:
    """Return a ring's area, positive if it runs clockwise on the screen (y pointing down)."""
    x, y = ring.astype(np.float64).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _rings(mask: Bool[np.ndarray, "h w"]) -> list[Int[np.ndarray, "n 2"]]:
    """Return all closed outlines as (x, y) corners, ordered by their first, topmost and then leftmost corner."""
    x, y, entering, leaving = _turns(mask)
    # Along one row of corners, outline edges join the first and second, the third and fourth, and so on; likewise
    # along columns. Of two turns at one place, the one with its edge to the left (above) comes first.
    to_the_right = (leaving == _EAST) | (entering == _WEST)
    below = (leaving == _SOUTH) | (entering == _NORTH)
    by_rows, by_columns = np.lexsort((to_the_right, x, y)), np.lexsort((below, y, x))
    along_row, along_column = _partners(by_rows), _partners(by_columns)
    following = np.where((leaving == _EAST) | (leaving == _WEST), along_row, along_column).tolist()
    rings, seen = [], bytearray(len(x))
    for first in by_rows.tolist():
        ring, current = [], first
        while not seen[current]:
            seen[current] = 1
            ring.append(current)
            current = following[current]
        if ring:
            rings.append(np.stack([x[ring], y[ring]], axis=1))
    return rings


def _turns(mask: Bool[np.ndarray, "h w"]) -> tuple[Int[np.ndarray, " n"], ...]:
    """Return x, y, the heading before and the heading after of every turn of an outline."""
    padded = np.pad(mask, 1).astype(np.uint8)
    around = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    parts = []
    for which in (0, 1):
        table = np.full(16, -1, np.int8)
        for pixels, turns in _TURNS.items():
            if which < len(turns):
                table[pixels] = 4 * turns[which][0] + turns[which][1]
        y, x = np.nonzero(table[around] >= 0)
        entering, leaving = np.divmod(table[around[y, x]].astype(np.int64), 4)
        parts.append(np.stack([x, y, entering, leaving]))
    return tuple(np.concatenate(parts, axis=1))


def _partners(order: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return, for an order in which neighbours 2k and 2k + 1 belong together, each one's partner."""
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners


def to_mask(polygons: Sequence[Polygon], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the union of polygons as a mask of `size` = (height, width): the pixels whose centre lies
    inside.

    Inside a polygon is what its rings, holes included, enclose an odd number of times. Centres exactly on an
    edge belong to the side to the right of it, or below. Parts beyond the image are cut off. Raises
    InputError for coordinates that are not finite.
    """
    mask = np.zeros(size, bool)
    for polygon in polygons:
        rings = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in (polygon.exterior, *polygon.holes)]
        _fill(mask, rings)
    return mask


def _fill(mask: Bool[np.ndarray, "h w"], rings: Sequence[Float[np.ndarray, "n 2"]]) -> None:
    """Set the pixels inside `rings` by the even-odd rule."""
    height, width = mask.shape
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    if not np.isfinite(start).all():
        raise InputError("polygon coordinates must be finite numbers")
    upper, lower = np.minimum(start[:, 1], stop[:, 1]), np.maximum(start[:, 1], stop[:, 1])
    first = np.clip(np.ceil(upper - 0.5), 0, height).astype(np.int64)
    past = np.clip(np.ceil(lower - 0.5), 0, height).astype(np.int64)
    crossed = past - first
    if not crossed.any():
        return
    edge = np.repeat(np.arange(len(start)), crossed)
    row = np.arange(edge.size) - np.repeat(np.cumsum(crossed) - crossed - first, crossed)
    (x0, y0), (x1, y1) = start[edge].T, stop[edge].T
    crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    top, left, bottom, right = row.min(), column.min(), row.max() + 1, column.max()
    toggles = np.zeros((bottom - top, right - left + 1), np.uint8)
    np.bitwise_xor.at(toggles, (row - top, column - left), 1)
    inside = np.bitwise_xor.accumulate(toggles, axis=1)[:, : right - left]
    mask[top:bottom, left:right] |= inside.view(np.bool_)


def to_coco(polygons: Sequence[Polygon]) -> list[list[float]]:
    """Return COCO's flat [x, y, x, y, ...] lists, one per outer ring.

    The format has no holes: they are lost.
    """
    return [[float(value) for value in polygon.exterior.ravel()] for polygon in polygons]


def from_coco(segmentation: object, size: tuple[int, int]) -> rle.RLE:
    """Return the mask of a COCO segmentation: flat polygon lists or an RLE, for an image of `size` = (height,
    width).

    Polygons are rasterised by pycocotools, so that areas agree with COCO's own. Raises DataError if it is
    neither, or malformed.
    """
    if not isinstance(segmentation, list):
        return rle.checked(segmentation, size)
    height, width = size
    flat = [_checked_ring(ring) for ring in segmentation]
    if not flat:
        return rle.encode_at(np.zeros((0, 0), bool), (0, 0), size)
    merged = coco.merge(coco.frPyObjects(flat, height, width))
    return rle.checked(merged, size)


def _checked_ring(ring: object) -> list[float]:
    try:
        values = np.asarray(ring, np.float64)
    except (TypeError, ValueError):
        values = np.zeros((0, 0))
    if values.ndim != 1 or values.size < 6 or values.size % 2:
        raise DataError(f"a COCO polygon is a list [x, y, x, y, ...] of three or more points, not {str(ring)[:60]}")
    if not (np.abs(values) <= _MAX_COORDINATE).all():
        raise DataError(f"a COCO polygon's coordinates must be finite and below {_MAX_COORDINATE:g}")
    return [float(value) for value in values]


def sound_rings(segmentation: object) -> tuple[object, int]:
    """Return a segmentation's sound rings as flat lists, and how many are none; run lengths as they are.

    A flat list of numbers is one ring, and so are a list of points and rings of points. A sound ring has three or more
    finite points.
    """
    if not isinstance(segmentation, list):
        return segmentation, 0
    if segmentation and all(isinstance(value, int | float | str) for value in segmentation):
        segmentation = [segmentation]
    elif len(segmentation) >= 3 and all(_is_point(value) for value in segmentation):
        segmentation = [segmentation]
    rings = [_ring(each) for each in segmentation]
    return [ring for ring in rings if ring is not None], sum(ring is None for ring in rings)


def _is_point(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(each, int | float) for each in value)


def _ring(ring: object) -> list[float] | None:
    try:
        values = np.asarray(ring, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if values.ndim == 2 and values.shape[1] == 2:
        values = values.ravel()
    if values.ndim != 1 or values.size < 6 or values.size % 2 or not np.isfinite(values).all():
        return None
    found: list[float] = values.tolist()
    return found
