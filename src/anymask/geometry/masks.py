"""Areas, intersection over union and stability of whole masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from anymask.geometry import boxes
from anymask.geometry.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_PIXELS = 1 << 20  # at most 2**24, so that float32 sums of ones stay exact


def area(masks: Bool[np.ndarray, "*n h w"]) -> Int[np.ndarray, "*n"]:
    """Return how many pixels each mask has."""
    if masks.ndim == 2:
        return np.asarray(np.count_nonzero(masks))
    # One by one: NumPy counts along several axes at once ten times as slowly.
    flat = masks.reshape(math.prod(masks.shape[:-2]), math.prod(masks.shape[-2:]))
    return np.array([np.count_nonzero(mask) for mask in flat], np.int64).reshape(masks.shape[:-2])


def pairwise_iou(a: Bool[np.ndarray, "n h w"], b: Bool[np.ndarray, "m h w"]) -> Float[np.ndarray, "n m"]:
    """Return the intersection over union of each mask of `a` with each of `b`; 0 where both are empty.

    Intersections are matrix products over chunks of pixels, so memory stays at (n + m) floats per pixel of a chunk.
    """
    num_pixels = a.shape[1] * a.shape[2]
    flat_a, flat_b = a.reshape(len(a), num_pixels), b.reshape(len(b), num_pixels)
    shared = np.zeros((len(a), len(b)))
    for start in range(0, num_pixels, _CHUNK_PIXELS):
        chunk = slice(start, start + _CHUNK_PIXELS)
        shared += flat_a[:, chunk].astype(np.float32) @ flat_b[:, chunk].astype(np.float32).T
    union = area(a)[:, None] + area(b)[None, :] - shared
    return np.asarray(shared / np.maximum(union, 1))


def pair_iou(a: Bool[np.ndarray, "*n h w"], b: Bool[np.ndarray, "*n h w"]) -> Float[np.ndarray, "*n"]:
    """Return the intersection over union of each mask of `a` with its partner in `b`.

    0 where both are empty.
    """
    return np.asarray(area(a & b) / np.maximum(area(a | b), 1))


def inner_band(mask: Bool[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """Return the mask's pixels that have one outside it at most `width` rows and `width` columns away.

    What lies beyond the image is outside. That is the mask without its erosion by `width` steps of a 3 × 3 square.
    """
    x0, y0, x1, y1 = boxes.from_masks(mask).tolist()
    part = np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8)
    band = np.zeros_like(mask)
    if part.size:
        square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        core = cv2.erode(part, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        band[y0:y1, x0:x1] = part > core
    return band


def stability_score(
    logits: Float[np.ndarray, "*n h w"], threshold: float = 0.0, offset: float = 1.0
) -> Float[np.ndarray, "*n"]:
    """Return the IoU of the masks cut at `threshold` + `offset` and at `threshold` - `offset`, as float32.

    Where even the lower cut is empty, 0/0, the score is 0: such a mask is never stable (SAM, app. B).
    """
    smaller = area(logits > threshold + offset)
    larger = area(logits > threshold - offset)
    return np.asarray(smaller / np.maximum(larger, 1), np.float32)


def any_stability_score(logits: Float[Array, "*n h w"], threshold: float, offset: float) -> Float[Array, "*n"]:
    """Return what `stability_score` does, for an array or, on its device, for a tensor."""
    score = stability_score if isinstance(logits, np.ndarray) else stability_score_torch
    return score(logits, threshold, offset)


def any_area(masks: Bool[Array, "n h w"]) -> Int[Array, " n"]:
    """Return how many pixels each mask has, for an array or, on its device, for a tensor."""
    return area(masks) if isinstance(masks, np.ndarray) else _count(masks)


def stability_score_torch(
    logits: Float[Tensor, "*n h w"], threshold: float = 0.0, offset: float = 1.0
) -> Float[Tensor, "*n"]:
    """Return what `stability_score` does for a tensor, on the tensor's device; no float64 is involved."""
    import torch

    smaller, larger = _count(logits > threshold + offset), _count(logits > threshold - offset)
    return smaller.to(torch.float32) / larger.clamp(min=1).to(torch.float32)


def _count(masks: Bool[Tensor, "*n h w"]) -> Int[Tensor, "*n"]:
    """Return each mask's pixels, adding up rows in 16 bits where they fit: five times as fast on a CPU."""
    import torch

    row_dtype = torch.int16 if masks.shape[-1] < 2**15 else torch.int32
    return masks.sum(dim=-1, dtype=row_dtype).sum(dim=-1, dtype=torch.int32)
