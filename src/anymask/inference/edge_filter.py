"""Logits upsampled along the image's edges: a guided filter with the colours as its guide (He, Sun and Tang 2013).

In a window around each pixel the logits are taken for a linear function of the colours there, so that a mask's outline,
which the network knows only to a sample or so, comes to lie where the colours change.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.geometry import boxes
from anymask.geometry.arrays import Array
from anymask.geometry.frames import Frame
from anymask.inference.automatic.upsampling import num_samples, outer_box, upsample_window
from anymask.model import MASK_THRESHOLD

_LONGEST = 1024
"""Long side at which larger images are filtered; their masks are interpolated from there."""
_RADIUS = 1 / 80
"""Of the window, as a share of the long side."""
_EPSILON = 1e-3
"""What counts as flat: a variance of the colours, which lie from 0 to 1."""


def guide_of(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "hg wg 3"]:
    """Return what guides the filter: the image itself, or a smaller copy of a large one."""
    height, width = image.shape[:2]
    scale = _LONGEST / max(height, width)
    if scale >= 1:
        return image
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def mask_along_edges(
    logits: Float[Array, "hm wm"], guide: UInt8[np.ndarray, "hg wg 3"], frame: Frame
) -> Bool[np.ndarray, "h w"]:
    """Return the mask of low-resolution logits at the original size, its outline drawn to the edges of the guide."""
    side = logits.shape[-1]
    coarse = Frame((guide.shape[0], guide.shape[1]), frame.model_size, frame.fit)
    rows, columns = num_samples(coarse, side)
    x0, y0, x1, y1 = boxes.from_any_masks(logits[:rows, :columns] > MASK_THRESHOLD).tolist()
    if x1 == 0:
        return np.zeros(frame.original, np.bool_)
    radius = max(1, round(_RADIUS * max(coarse.original)))
    left, top, right, bottom = outer_box((x0, y0, x1, y1), coarse, side)
    left, top = max(left - 2 * radius, 0), max(top - 2 * radius, 0)
    right, bottom = min(right + 2 * radius, guide.shape[1]), min(bottom + 2 * radius, guide.shape[0])
    values = upsample_window(logits, coarse, (left, top, right, bottom))
    found = np.full(coarse.original, -1, np.float32)
    found[top:bottom, left:right] = guided_filter(values, guide[top:bottom, left:right], radius, _EPSILON)
    if coarse.original != frame.original:
        found = np.asarray(cv2.resize(found, frame.original[::-1], interpolation=cv2.INTER_LINEAR))
    return np.asarray(found > MASK_THRESHOLD)


def guided_filter(
    values: Float[np.ndarray, "h w"], guide: UInt8[np.ndarray, "h w 3"], radius: int, epsilon: float
) -> Float[np.ndarray, "h w"]:
    """Filter values along a guide's colours; windows are squares of 2 `radius` + 1 pixels, mirrored at the border."""
    side = 2 * radius + 1

    def mean(x: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(x, (side, side), borderType=cv2.BORDER_REFLECT))

    colours = guide.astype(np.float32) / 255
    values = np.ascontiguousarray(values, np.float32)
    mean_colour, mean_value = mean(colours), mean(values)
    with_value = mean(colours * values[..., None]) - mean_colour * mean_value[..., None]
    squares, products = mean(colours * colours), mean(colours * colours[..., (1, 2, 0)])
    variance = squares - mean_colour**2 + np.float32(epsilon)
    covariance = products - mean_colour * mean_colour[..., (1, 2, 0)]
    slope = _solve(variance, covariance, with_value)
    offset = mean_value - (slope * mean_colour).sum(-1)
    return np.asarray((mean(slope) * colours).sum(-1) + mean(offset))


def _solve(
    variance: Float[np.ndarray, "h w 3"], covariance: Float[np.ndarray, "h w 3"], right: Float[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "h w 3"]:
    """Solve a symmetric 3 × 3 system at each pixel, by cofactors.

    `variance` is its diagonal (rr, gg, bb), `covariance` what is beside it (rg, gb, br).
    """
    rr, gg, bb = np.moveaxis(variance, -1, 0)
    rg, gb, br = np.moveaxis(covariance, -1, 0)
    r, g, b = np.moveaxis(right, -1, 0)
    rows = (
        (gg * bb - gb * gb, gb * br - rg * bb, rg * gb - gg * br),
        (gb * br - rg * bb, rr * bb - br * br, br * rg - rr * gb),
        (rg * gb - gg * br, br * rg - rr * gb, rr * gg - rg * rg),
    )
    determinant = rr * rows[0][0] + rg * rows[0][1] + br * rows[0][2]
    return np.stack([(x * r + y * g + z * b) / determinant for x, y, z in rows], -1)
