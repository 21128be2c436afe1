"""Boxes as (x0, y0, x1, y1) in pixels, with exclusive right and bottom edges.

A mask's box has x1 = its last column + 1, so x1 - x0 counts pixels, and converting to (x, y, width, height)
gives COCO's bbox. The public SAM code instead stores the last column and row themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from anymask.geometry.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor


def xywh_to_xyxy(boxes: Shaped[np.ndarray, "*n 4"]) -> Shaped[np.ndarray, "*n 4"]:
    """Turn (x, y, width, height) into (x0, y0, x1, y1), keeping the dtype."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def clip(boxes: Shaped[np.ndarray, "*n 4"], size: tuple[int, int]) -> Shaped[np.ndarray, "*n 4"]:
    """Move every edge that lies outside an image of `size` = (height, width) onto its border."""
    height, width = size
    return np.asarray(np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype)))


def area(boxes: Shaped[np.ndarray, "*n 4"]) -> Shaped[np.ndarray, "*n"]:
    """Return the boxes' areas in pixels; a box whose edges have crossed has none."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def pairwise_iou(a: Shaped[np.ndarray, "n 4"], b: Shaped[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Return the intersection over union of each box of `a` with each of `b`; 0 where both are empty.

    Float32 boxes are compared in float32, all others in float64.
    """
    dtype = np.float32 if a.dtype == b.dtype == np.float32 else np.float64
    a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    width, height = (
        np.minimum(a[:, None, high], b[None, :, high]) - np.maximum(a[:, None, low], b[None, :, low])
        for low, high in ((0, 2), (1, 3))
    )
    shared = np.maximum(width, 0, out=width)
    shared *= np.maximum(height, 0, out=height)
    union = area(a)[:, None] + area(b)[None, :]
    union -= shared
    np.maximum(union, np.finfo(dtype).tiny, out=union)  # 0 / 0 becomes 0; no other quotient changes
    shared /= union
    return np.asarray(shared)


def from_any_masks(masks: Bool[Array, "*n h w"]) -> Int[Array, "*n 4"]:
    """Return what `from_masks` does, for an array or, on its device, for a tensor."""
    return from_masks(masks) if isinstance(masks, np.ndarray) else from_masks_torch(masks)


def from_masks(masks: Bool[np.ndarray, "*n h w"]) -> Int[np.ndarray, "*n 4"]:
    """Return each mask's tightest box with exclusive right and bottom edges.

    (0, 0, 0, 0) for an empty mask.
    """
    height, width = masks.shape[-2:]
    if masks.size == 0:
        return np.zeros((*masks.shape[:-2], 4), np.int64)
    rows, columns = np.asarray(masks.any(axis=-1)), np.asarray(masks.any(axis=-2))
    x0, y0 = columns.argmax(axis=-1), rows.argmax(axis=-1)
    x1 = width - columns[..., ::-1].argmax(axis=-1)
    y1 = height - rows[..., ::-1].argmax(axis=-1)
    return np.asarray(np.stack([x0, y0, x1, y1], axis=-1) * rows.any(axis=-1, keepdims=True))


def from_masks_torch(masks: Bool[Tensor, "*n h w"]) -> Int[Tensor, "*n 4"]:
    """Return what `from_masks` does for a tensor, on the tensor's device."""
    import torch

    height, width = masks.shape[-2:]
    if masks.numel() == 0:
        return torch.zeros((*masks.shape[:-2], 4), dtype=torch.int64, device=masks.device)
    rows, columns = masks.any(dim=-1).to(torch.uint8), masks.any(dim=-2).to(torch.uint8)
    x0, y0 = columns.argmax(dim=-1), rows.argmax(dim=-1)
    x1 = width - columns.flip(-1).argmax(dim=-1)
    y1 = height - rows.flip(-1).argmax(dim=-1)
    return torch.stack([x0, y0, x1, y1], dim=-1) * rows.any(dim=-1)[..., None]


def is_near_crop_edge(
    boxes: Shaped[np.ndarray, "n 4"],
    crop: tuple[int, int, int, int],
    image: tuple[int, int, int, int],
    tolerance: float = 20.0,
) -> Bool[np.ndarray, " n"]:
    """Say which boxes have an edge near the same edge of their crop that is not near that edge of the image.

    `boxes` are in the crop's own frame; `crop` and `image` are xyxy boxes in the image's frame. Near is at
    most `tolerance` pixels away. The numbers are compared as given: with inclusive boxes the result is
    exactly that of the public SAM code (SAM, app. B: masks that touch an inner crop border are removed).
    """
    placed = np.asarray(boxes, np.float64) + np.array([crop[0], crop[1], crop[0], crop[1]])
    near_crop = np.abs(placed - np.array(crop)) <= tolerance
    near_image = np.abs(placed - np.array(image)) <= tolerance
    return np.asarray((near_crop & ~near_image).any(axis=-1))
