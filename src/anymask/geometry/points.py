"""Points to prompt with: grids, the centre of a mask, the next click, a random pixel.

A point that stands for a pixel is that pixel's index (x = column, y = row), as the prompt encoder expects; it
adds the half pixel to the centre itself.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float

from anymask.errors import InputError
from anymask.geometry import boxes


def grid(points_per_side: int) -> Float[np.ndarray, "n 2"]:
    """Return the centres of `points_per_side`² equal cells of the unit square, row by row, as (x, y)."""
    if points_per_side < 1:
        raise InputError(f"a grid of {points_per_side} points per side has no points: use 1 or more")
    centres = (np.arange(points_per_side) + 0.5) / points_per_side
    x, y = np.meshgrid(centres, centres)
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


def layer_grids(points_per_side: int, num_layers: int, downscale: int = 1) -> list[Float[np.ndarray, "n 2"]]:
    """Return the unit-square grid of the image and of the crops of each further layer.

    Layer i has int(points_per_side / downscale^i) points per side, though never less than one (the public SAM
    code divides by zero there).
    """
    return [grid(max(int(points_per_side / downscale**layer), 1)) for layer in range(num_layers + 1)]


def centre(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int] | None:
    """Return the (x, y) pixel farthest from the mask's edge; None for an empty mask.

    The image's border counts as an edge. Of several such pixels it is the first, row by row (SAM, sec. 7: the
    most "central" point, a maximum of the distance transform).
    """
    found = _deepest(mask)
    return None if found is None else found[0]


def next_click(
    prediction: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]
) -> tuple[tuple[int, int], int] | None:
    """Return the (x, y) and label of the click that corrects the largest error; None where there is no error.

    Missing pixels (label 1) and surplus pixels (label 0) are two regions; the click is the pixel of either
    that lies farthest from its region's edge. On a tie the surplus wins. *Decision:* the paper (app. D) says
    "the error region" and leaves open whether adjoining errors of both kinds make one.
    """
    if prediction.shape != truth.shape:
        raise InputError(f"prediction {prediction.shape} and truth {truth.shape} must have one shape")
    missing, surplus = _deepest(truth & ~prediction), _deepest(prediction & ~truth)
    if missing is not None and (surplus is None or missing[1] > surplus[1]):
        return missing[0], 1
    return None if surplus is None else (surplus[0], 0)


def _deepest(mask: Bool[np.ndarray, "h w"]) -> tuple[tuple[int, int], int] | None:
    """Return the pixel farthest from the mask's edge with its squared distance, the first in rows on a tie.

    Squared distances are whole numbers; OpenCV's float ones vary in the last bit from run to run.
    """
    x0, y0, x1, y1 = boxes.from_masks(mask).tolist()
    if x1 == 0:
        return None
    # Outside its box there is no mask, so a frame of zeros around the box is all of the outside that matters.
    framed = np.pad(mask[y0:y1, x0:x1].astype(np.uint8), 1)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    squared = np.rint(np.square(distance, dtype=np.float64)).astype(np.int64)
    y, x = np.unravel_index(int(squared.argmax()), squared.shape)
    return (x0 + int(x), y0 + int(y)), int(squared[y, x])


def random_point(mask: Bool[np.ndarray, "h w"], generator: np.random.Generator) -> tuple[int, int] | None:
    """Return the (x, y) of a pixel drawn uniformly from the mask; None for an empty mask."""
    inside = np.flatnonzero(mask)
    if inside.size == 0:
        return None
    y, x = divmod(int(inside[generator.integers(inside.size)]), mask.shape[1])
    return x, y
