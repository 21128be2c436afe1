"""Maps of edges made thin: ridges of a strength by non-maximum suppression, binary lines by morphological thinning."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

_TOLERANCE = 1.01
"""A pixel stays unless a neighbour across the edge is stronger by over one part in a hundred."""
_RIDGE_SIGMA = 1.5
"""Pixels of blur before curvature is taken: wide enough for edges of two or three pixels."""
_WEIGHTS = np.array([[8, 4, 2], [16, 0, 1], [32, 64, 128]], np.float32)
"""One bit for each neighbour: east first, then against the clock, as x1 to x8 of Guo and Hall."""


def ridge_normals(strength: Float[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Return (x, y) of the unit vector across the ridge at each pixel: along which the blurred strength curves most.

    Down on its crest, up beside it.
    """
    blurred = cv2.GaussianBlur(strength.astype(np.float32), (0, 0), _RIDGE_SIGMA, borderType=cv2.BORDER_REPLICATE)
    xx, yy, xy = (
        cv2.Sobel(blurred, cv2.CV_32F, dx, dy, ksize=3, borderType=cv2.BORDER_REPLICATE)
        for dx, dy in ((2, 0), (0, 2), (1, 1))
    )
    # Each of the three comes out four times too large, so they compare as they are.
    upward = 0.5 * np.arctan2(2 * xy, xx - yy)
    angle = upward + np.float32(np.pi / 2) * (xx + yy < 0)
    return np.cos(angle), np.sin(angle)


def suppress(
    strength: Float[np.ndarray, "h w"], across_x: Float[np.ndarray, "h w"], across_y: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Keep the strength where it is largest among its two neighbours one pixel away across the edge, 0 elsewhere.

    The direction is a unit vector, its sign without meaning; values between pixels are interpolated linearly
    (Canny, 1986). Outside the image the strength is taken for that of the border.
    """
    values = strength.astype(np.float32)
    height, width = values.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    kept = values > 0
    for sign in (1, -1):
        x, y = columns + np.float32(sign) * across_x, rows + np.float32(sign) * across_y
        beside = cv2.remap(
            values, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        kept &= values * np.float32(_TOLERANCE) >= beside
    return np.where(kept, values, np.float32(0))


def thin_ridges(strength: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Thin a map of edge strengths, ≥ 0, to the crests of its ridges."""
    return suppress(strength, *ridge_normals(strength))


def thin(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Thin lines and shapes until nothing changes, keeping what is connected; as MATLAB's bwmorph(mask, "thin", Inf).

    Source: Guo and Hall, 1989, in the form of Lam, Lee and Suen, 1992. Outside the image there is nothing.
    """
    current: UInt8[np.ndarray, "h w"] = mask.astype(np.uint8)
    while True:
        before = current
        for table in _TABLES:
            code = cv2.filter2D(current, cv2.CV_8U, _WEIGHTS, borderType=cv2.BORDER_CONSTANT)
            current = current & np.asarray(cv2.LUT(code, table), np.uint8)
        if np.array_equal(before, current):
            return current.astype(bool)


def _tables() -> tuple[UInt8[np.ndarray, " 256"], UInt8[np.ndarray, " 256"]]:
    """Return, for the two halves of a pass, 0 for each code of neighbours at which a pixel is removed, 1 otherwise."""
    x = [(np.arange(256) >> bit & 1).astype(bool) for bit in range(8)]
    x1, x2, x3, x4, x5, x6, x7, x8 = x
    ring = [*x, x1]
    crossings = sum((~ring[i] & (ring[i + 1] | ring[i + 2])).astype(int) for i in (0, 2, 4, 6))
    one = sum((ring[i] | ring[i + 1]).astype(int) for i in (0, 2, 4, 6))
    other = sum((ring[i + 1] | ring[i + 2]).astype(int) for i in (0, 2, 4, 6))
    fewest = np.minimum(one, other)
    removable = (crossings == 1) & (fewest >= 2) & (fewest <= 3)
    first = removable & ~((x2 | x3 | ~x8) & x1)
    second = removable & ~((x6 | x7 | ~x4) & x5)
    return (~first).astype(np.uint8), (~second).astype(np.uint8)


_TABLES = _tables()
