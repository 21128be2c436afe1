"""Masks spoilt as automatic ones really go wrong, so that a verifier can learn before anybody has given a verdict.

Each way takes a true mask, its neighbours and the image's edges, and gives a mask that shares something with it: a
part, two neighbours as one, a leak into what surrounds it, an edge too tight or too wide, a shift, holes, a piece of
background. How wrong it is, is measured, not assumed: a mask that came out right is a right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Bool

from anymask.geometry import boxes

Mask = Bool[np.ndarray, "h w"]
Spoil = Callable[[Mask, Sequence[Mask], np.random.Generator], Mask]


def spoilt(mask: Mask, neighbours: Sequence[Mask], rng: np.random.Generator) -> tuple[str, Mask]:
    """Spoil a mask in a way drawn at random; return the way's name and the mask, which may be empty."""
    name = str(rng.choice(list(WAYS)))
    return name, WAYS[name](mask, neighbours, rng)


def part(mask: Mask, _: Sequence[Mask], rng: np.random.Generator) -> Mask:
    """Cut off what lies beyond a straight line across the mask: what is left is a part."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask.copy()
    angle = rng.uniform(0, 2 * np.pi)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    kept = along <= np.quantile(along, rng.uniform(0.15, 0.95))
    made = np.zeros_like(mask)
    made[rows[kept], columns[kept]] = True
    return made


def merge(mask: Mask, neighbours: Sequence[Mask], rng: np.random.Generator) -> Mask:
    """Take the nearest neighbour in, or some of them; without any the mask leaks instead."""
    if not neighbours:
        return leak(mask, neighbours, rng)
    reach = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    far = np.array([reach[each].min() if each.any() else np.inf for each in neighbours])
    made = mask.copy()
    for index in np.argsort(far, kind="stable")[: int(rng.integers(1, 3))].tolist():
        made |= neighbours[index]
    return made


def leak(mask: Mask, _: Sequence[Mask], rng: np.random.Generator) -> Mask:
    """Add a blob that begins on the mask's edge."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask.copy()
    side = np.sqrt(len(rows))
    at = int(rng.integers(len(rows)))
    radius = side * rng.uniform(0.2, 0.9)
    centre = np.array([columns[at], rows[at]]) + rng.normal(0, side / 3, 2)
    axes = np.maximum(1, radius * rng.uniform(0.5, 1.4, 2)).astype(int).tolist()
    blob = np.zeros(mask.shape, np.uint8)
    where = np.round(centre).astype(int).tolist()
    cv2.ellipse(blob, where, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask | (blob > 0)


def tight(mask: Mask, _: Sequence[Mask], rng: np.random.Generator) -> Mask:
    """Draw the edge inwards."""
    return _moved(mask, rng, inwards=True)


def wide(mask: Mask, _: Sequence[Mask], rng: np.random.Generator) -> Mask:
    """Draw the edge outwards."""
    return _moved(mask, rng, inwards=False)


def shift(mask: Mask, _: Sequence[Mask], rng: np.random.Generator) -> Mask:
    """Move the mask by up to half of its size."""
    x0, y0, x1, y1 = boxes.from_masks(mask).tolist()
    by = rng.uniform(-0.5, 0.5, 2) * (max(x1 - x0, 1), max(y1 - y0, 1)) * rng.uniform(0.1, 1)
    moved = cv2.warpAffine(
        mask.astype(np.uint8), np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float32), mask.shape[::-1]
    )
    return np.asarray(moved > 0)


def holes(mask: Mask, _neighbours: Sequence[Mask], rng: np.random.Generator) -> Mask:
    """Punch holes, or leave only what lies along the edge."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask.copy()
    punched = mask.astype(np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(rows)))
        radius = max(1, int(np.sqrt(len(rows)) * rng.uniform(0.05, 0.35)))
        cv2.circle(punched, (int(columns[at]), int(rows[at])), radius, 0, -1)
    return np.asarray(punched > 0)


def background(mask: Mask, neighbours: Sequence[Mask], rng: np.random.Generator) -> Mask:
    """Put the mask's shape, smaller or larger, where no object is, as far as that can be had."""
    taken = mask.copy()
    for each in neighbours:
        taken |= each
    free = np.argwhere(~taken)
    x0, y0, x1, y1 = boxes.from_masks(mask).tolist()
    if not len(free) or x1 <= x0 or y1 <= y0:
        return np.zeros_like(mask)
    crop = mask[y0:y1, x0:x1].astype(np.uint8)
    scale = rng.uniform(0.5, 1.5)
    size = (max(2, int(crop.shape[1] * scale)), max(2, int(crop.shape[0] * scale)))
    crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    row, column = (int(each) for each in free[int(rng.integers(len(free)))])
    top, left = row - crop.shape[0] // 2, column - crop.shape[1] // 2
    made = np.zeros_like(mask)
    rows = slice(max(top, 0), min(top + crop.shape[0], mask.shape[0]))
    columns = slice(max(left, 0), min(left + crop.shape[1], mask.shape[1]))
    made[rows, columns] = crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] > 0
    return np.asarray(made & ~taken)


def _moved(mask: Mask, rng: np.random.Generator, *, inwards: bool) -> Mask:
    """Move the edge by up to a third of the mask's inner radius."""
    depth = float(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3).max())
    by = max(1, int(depth * rng.uniform(0.05, 0.6)))
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    change = cv2.erode if inwards else cv2.dilate
    return np.asarray(change(mask.astype(np.uint8), element) > 0)


WAYS: dict[str, Spoil] = {
    "part": part,
    "merge": merge,
    "leak": leak,
    "tight": tight,
    "wide": wide,
    "shift": shift,
    "holes": holes,
    "background": background,
}
"""In which masks are spoilt."""
