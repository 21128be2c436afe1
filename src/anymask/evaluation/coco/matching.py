"""Detections matched to truth as COCO's and LVIS' own evaluations do, one image at a time.

Greedy by falling score; a truth that is ignored (a crowd, or one of another size than is asked for) is taken only
where no other fits, and then counts neither way. What remains of an image is counts and bits, so any number streams.
Legend: D detections of falling score, G truths, T IoU thresholds, R ranges (of areas, of frequencies).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from pycocotools import mask as coco

from anymask.geometry.rle import RLE

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds of COCO's averages."""

AREAS: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's ranges in pixels, either end included."""

_ALMOST_ONE = 1 - 1e-10
"""A threshold of 1 is met by what rounding leaves of an IoU of 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """What each detection of one image hit, for every range and threshold."""

    hit: Bool[np.ndarray, "r t d"]
    """Whether a detection is matched to any truth."""
    ignored: Bool[np.ndarray, "r t d"]
    """Whether a detection is matched to a truth that is ignored."""


def iou(detections: Sequence[RLE], truths: Sequence[RLE], crowd: Bool[np.ndarray, " g"]) -> Float[np.ndarray, "d g"]:
    """Return the IoU of each detection with each truth; with a crowd, the share of the detection that lies in it."""
    if not detections or not truths:
        return np.zeros((len(detections), len(truths)))
    found = coco.iou(list(detections), list(truths), crowd.astype(np.uint8).tolist())
    return np.asarray(found, np.float64).reshape(len(detections), len(truths))


def outside(areas: Float[np.ndarray, " n"]) -> Bool[np.ndarray, "r n"]:
    """Say for each of `AREAS` which areas lie out of it."""
    return np.stack([(areas < low) | (areas > high) for low, high in AREAS.values()])


def match(
    ious: Float[np.ndarray, "d g"],
    crowd: Bool[np.ndarray, " g"],
    ignored: Bool[np.ndarray, "r g"],
    thresholds: Float[np.ndarray, " t"] = THRESHOLDS,
) -> Matched:
    """Give each detection, the best first, the truth that is left with the highest IoU; crowds are always left.

    Of equal IoUs the last truth is taken, as pycocotools does. Detections are in falling order of score.
    """
    num_ranges, num_thresholds = len(ignored), len(thresholds)
    least = np.minimum(thresholds, _ALMOST_ONE)
    taken = np.zeros((num_ranges, num_thresholds, ious.shape[1]), bool)
    hit = np.zeros((num_ranges, num_thresholds, len(ious)), bool)
    hit_ignored = np.zeros_like(hit)
    ranges, steps = np.mgrid[:num_ranges, :num_thresholds]
    for detection, row in enumerate(ious):
        near = np.flatnonzero(row >= least.min())
        if not near.size:
            continue
        fits = (row[near] >= least[:, None]) & (~taken[..., near] | crowd[near])
        counted = fits & ~ignored[:, None, near]
        pool = np.where(counted.any(axis=-1, keepdims=True), counted, fits)
        value = np.where(pool, row[near], -1.0)
        chosen = near[near.size - 1 - value[..., ::-1].argmax(axis=-1)]
        found = fits.any(axis=-1)
        hit[..., detection] = found
        hit_ignored[..., detection] = found & ignored[ranges, chosen]
        taken[ranges[found], steps[found], chosen[found]] = True
    return Matched(hit=hit, ignored=hit_ignored)
