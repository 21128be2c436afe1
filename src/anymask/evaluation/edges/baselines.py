"""Edges without learning, to check the benchmark by: Sobel's and Canny's filters, Felzenszwalb's segmentation.

Each gives an image's binary maps, at levels that are the same for all images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.errors import MissingPackageError
from anymask.geometry.edges import suppress

Maps = Iterator[Bool[np.ndarray, "h w"]]

THRESHOLDS = tuple((np.arange(1, 100) / 100).tolist())
"""Of edge strengths from 0 to 1: 99, as in the public code."""
SCALES = tuple(np.geomspace(30, 30_000, 13).tolist())
"""Felzenszwalb's k: how much larger than its inner differences a region's edge must be; for 8-bit values."""
_CANNY_SIGMA = 2.0
_CANNY_LOW = 0.4
"""Canny's lower threshold as a share of the upper."""
_BLUR = 0.8
"""Pixels: what Felzenszwalb and Huttenlocher blur by before they segment."""
_MIN_REGION = 50
"""The least area of a region, in pixels."""


def above(strength: Float[np.ndarray, "h w"]) -> Maps:
    """Yield where a strength from 0 to 1 reaches each of the thresholds."""
    for threshold in THRESHOLDS:
        yield (strength >= threshold).astype(bool)


def sobel(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Return the strength of Sobel's filter on grey values, thinned across the edge."""
    return _gradient(_grey(image))


def canny(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Return for each pixel the highest upper threshold at which Canny's detector would keep it, blur 2 pixels.

    With lower thresholds of 0.4 of the upper, as MATLAB takes them.
    """
    ridges = _gradient(cv2.GaussianBlur(_grey(image), (0, 0), _CANNY_SIGMA, borderType=cv2.BORDER_REPLICATE))
    strength = np.zeros_like(ridges)
    for high in THRESHOLDS:
        # Strengths are square roots of gradients: so the share is, too.
        count, parts = cv2.connectedComponents((ridges >= high * _CANNY_LOW**0.5).astype(np.uint8), connectivity=8)
        strong = np.zeros(count, bool)
        strong[parts[ridges >= high]] = True
        strong[0] = False
        if not strong.any():
            break
        strength[strong[parts]] = high
    return strength


def felzenszwalb(image: UInt8[np.ndarray, "h w 3"]) -> Maps:
    """Yield the edges of segmentations at each of the scales (Felzenszwalb and Huttenlocher, 2004).

    Raises MissingPackageError where scikit-image is missing.
    """
    if find_spec("skimage") is None:
        raise MissingPackageError("Felzenszwalb's regions need scikit-image: pip install 'anymask[evaluate]' brings it")
    from skimage.segmentation import felzenszwalb as segment

    for scale in SCALES:
        regions = segment(image, scale=scale, sigma=_BLUR, min_size=_MIN_REGION)
        edges = np.zeros(regions.shape, bool)
        edges[:, :-1] |= regions[:, :-1] != regions[:, 1:]
        edges[:-1] |= regions[:-1] != regions[1:]
        yield edges


BASELINES: dict[str, tuple[tuple[float, ...], Callable[[UInt8[np.ndarray, "h w 3"]], Maps]]] = {
    "sobel": (THRESHOLDS, lambda image: above(sobel(image))),
    "canny": (THRESHOLDS, lambda image: above(canny(image))),
    "felzenszwalb": (SCALES, felzenszwalb),
}
"""Levels and maps of each baseline."""


def _grey(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)


def _gradient(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return the thinned strength of the gradient, 1 for a step from black to white.

    The square root of the contrast: it keeps the order, and spreads the thresholds over the contrasts that are common.
    """
    x, y = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx, scale=1 / 4, borderType=cv2.BORDER_REPLICATE) for dx in (1, 0))
    length = np.hypot(x, y)
    floor = np.maximum(length, 1e-9)
    return np.asarray(np.sqrt(np.minimum(suppress(length, x / floor, y / floor), 1)), np.float32)
