"""Connected regions of a mask: finding them, removing small holes and islands.

Pixels that touch at a corner are connected, of the mask and of its holes alike, as in the public SAM code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Int

from anymask.geometry import boxes

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


def tidy(
    mask: Bool[np.ndarray, "h w"],
    clicks: Sequence[tuple[float, float]],
    *,
    min_part: float = 0.1,
    max_hole: float = 0.02,
) -> Bool[np.ndarray, "h w"]:
    """Drop a mask's crumbs and close its pinholes, both by their share of it, whatever its size.

    Regions of less than `min_part` of the largest go, unless one of the (x, y) `clicks` lies in them; holes of less
    than `max_hole` of what stays are closed. What reaches the mask's outside, or the image's border, is no hole.
    """
    x0, y0, x1, y1 = boxes.from_masks(mask).tolist()
    if x1 == 0:
        return mask
    # Around the mask's box lies its outside, which is one region in a frame of one pixel more.
    framed = np.pad(mask[y0:y1, x0:x1], 1)
    regions, areas = components(framed)
    stays = np.concatenate([[False], areas >= min_part * areas.max()])
    for x, y in clicks:
        column, row = math.floor(x) - x0 + 1, math.floor(y) - y0 + 1
        if 0 <= row < framed.shape[0] and 0 <= column < framed.shape[1]:
            stays[regions[row, column]] |= regions[row, column] > 0
    framed = stays[regions]
    gaps, sizes = components(~framed)
    closed = np.concatenate([[False], sizes < max_hole * np.count_nonzero(framed)])
    closed[gaps[0, 0]] = False
    result = np.zeros_like(mask)
    result[y0:y1, x0:x1] = (framed | closed[gaps])[1:-1, 1:-1]
    return result
