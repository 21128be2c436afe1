"""What the card of a data set tells: counts, and how sizes, shapes and places of masks are distributed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from anymask.geometry import rle

_MAP_SIDE = 50
_MAX_SHAPES = 20_000
"""Masks whose concavity is taken; more would say the same."""


@dataclass(slots=True)
class Measures:
    """Distributions over the masks of a data set, gathered image by image."""

    counts: list[int] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    concavities: list[float] = field(default_factory=list)
    origins: dict[str, int] = field(default_factory=dict)
    centres: Float[np.ndarray, "h w"] = field(default_factory=lambda: np.zeros((_MAP_SIDE, _MAP_SIDE)))

    def add(self, records: list[dict[str, Any]], origins: list[str], size: tuple[int, int]) -> None:
        """Count an image of `size` = (height, width) and its masks as SA-1B has them."""
        height, width = size
        self.counts.append(len(records))
        for record, origin in zip(records, origins, strict=True):
            self.origins[origin] = self.origins.get(origin, 0) + 1
            self.sizes.append(float(np.sqrt(record["area"] / (height * width))))
            x, y, w, h = record["bbox"]
            row = int((y + h / 2) / height * _MAP_SIDE)
            column = int((x + w / 2) / width * _MAP_SIDE)
            self.centres[min(row, _MAP_SIDE - 1), min(column, _MAP_SIDE - 1)] += 1
            if len(self.concavities) < _MAX_SHAPES:
                self.concavities.append(concavity(record["segmentation"]))

    def summary(self) -> dict[str, Any]:
        """Return the numbers in a few words."""
        masks = sum(self.counts)
        return {
            "images": len(self.counts),
            "masks": masks,
            "masks_per_image": round(masks / max(len(self.counts), 1), 2),
            "median_relative_size": round(float(np.median(self.sizes)), 4) if self.sizes else 0.0,
            "median_concavity": round(float(np.median(self.concavities)), 4) if self.concavities else 0.0,
            "origins": dict(sorted(self.origins.items())),
        }


def concavity(mask: rle.RLE) -> float:
    """Return one minus the share of its convex hull that a mask covers; 0 for an empty one (SAM, sec. 5)."""
    x, y, width, height = rle.bbox(mask)
    if not width:
        return 0.0
    crop = rle.decode_columns(mask, x, x + width)[y : y + height].astype(np.uint8)
    rows = np.flatnonzero(crop.any(axis=1))
    first, last = crop[rows].argmax(axis=1), width - 1 - crop[rows, ::-1].argmax(axis=1)
    ends = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1)  # no other pixel is a corner
    hull = np.zeros_like(crop)
    cv2.fillConvexPoly(hull, cv2.convexHull(ends.astype(np.int32)), 1)
    return 1 - float(crop.sum()) / float(max(int(hull.sum()), int(crop.sum())))
