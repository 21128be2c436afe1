"""Connected regions of a mask: finding them, removing small holes and islands.

Pixels that touch at a corner are connected, of the mask and of its holes alike, as in the public SAM code.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Int

_CORNERS_TOUCH = 8


def components(mask: Bool[np.ndarray, "h w"]) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, " n"]]:
    """Return each pixel's region, 1 to n and 0 outside the mask, and the n regions' areas in pixels."""
    if mask.size == 0:
        return np.zeros(mask.shape, np.int32), np.zeros(0, np.int64)
    pixels = np.ascontiguousarray(mask, bool).view(np.uint8)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(pixels, connectivity=_CORNERS_TOUCH)
    return np.asarray(labels), statistics[1:, cv2.CC_STAT_AREA].astype(np.int64)


def largest_component(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the mask's largest region alone, the first of several; an empty mask stays empty."""
    labels, areas = components(mask)
    return labels == int(areas.argmax()) + 1 if areas.size else np.zeros_like(mask)


def remove_small(
    mask: Bool[np.ndarray, "h w"], min_area: float, mode: Literal["holes", "islands"]
) -> tuple[Bool[np.ndarray, "h w"], bool]:
    """Fill the holes, or drop the islands, of less than `min_area` pixels; also return whether any there was.

    Every region outside the mask is a hole, also one at the image's border. If all islands are small the
    largest stays; an empty mask stays empty (SAM, app. B).
    """
    labels, areas = components(~mask if mode == "holes" else mask)
    small = areas < min_area
    if not small.any():
        return mask, False
    if mode == "islands" and small.all():
        small[areas.argmax()] = False
    to_mask = np.concatenate([[mode == "holes"], small if mode == "holes" else ~small])
    return to_mask[labels], True
