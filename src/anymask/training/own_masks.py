"""A model's own masks of photographs that nobody has labelled, as training data.

The data engine's third stage in small (SAM, sec. 4): once the model is good enough, its confident and stable masks
train the next one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, UInt8

from anymask.geometry import rle
from anymask.inference import AutomaticMasks
from anymask.model import Sam

MAX_SIDES = 1
"""Sides of the picture that a mask may touch: what lies across two is background, and ends in a ragged line."""


class OwnMasks:
    """Finds the masks of everything that a model is sure of, and that lie within the picture."""

    def __init__(
        self, model: Sam, *, min_iou: float = 0.65, min_stability: float = 0.85, points_per_side: int = 12
    ) -> None:
        self._automatic = AutomaticMasks(
            model,
            pred_iou_thresh=min_iou,
            stability_score_thresh=min_stability,
            points_per_side=points_per_side,
            adaptive=True,
        )

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "m h w"]:
        """Return the masks of an RGB picture, the surest first; none where the model is not sure."""
        masks = [rle.decode(record.rle) for record in self._automatic.generate(image)]
        stacked = np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), bool)
        kept: Bool[np.ndarray, "m h w"] = stacked[touched_sides(stacked) <= MAX_SIDES]
        return kept


def touched_sides(masks: Bool[np.ndarray, "m h w"]) -> Int[np.ndarray, " m"]:
    """Return how many of the picture's four sides each mask touches."""
    sides = (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1])
    touched: Int[np.ndarray, " m"] = np.sum([side.any(1) for side in sides], axis=0)
    return touched
