"""What scripts take from Meta's module of helpers for masks of everything: masks, run lengths and boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anymask.geometry import rle


def mask_to_rle_pytorch(tensor: Bool[Tensor, "b h w"]) -> list[dict[str, Any]]:
    """Return each mask's uncompressed run lengths, as COCO has them."""
    height, width = tensor.shape[1:]
    stored = rle.encode_many(tensor.cpu().numpy().astype(bool))
    return [{"size": [height, width], "counts": rle.runs(each).tolist()} for each in stored]


def rle_to_mask(encoded: dict[str, Any]) -> Bool[np.ndarray, "h w"]:
    """Return the mask of run lengths, compressed or not; raises DataError for malformed ones."""
    return rle.decode(rle.checked(encoded))


def area_from_rle(encoded: dict[str, Any]) -> int:
    """Return a mask's pixels; raises DataError for malformed run lengths."""
    return rle.area(rle.checked(encoded))


def coco_encode_rle(uncompressed_rle: dict[str, Any]) -> dict[str, Any]:
    """Return COCO's compressed form of run lengths; raises DataError for malformed ones."""
    return dict(rle.checked(uncompressed_rle))


def batched_mask_to_box(masks: Bool[Tensor, "*b h w"]) -> Int[Tensor, "*b 4"]:
    """Return (x0, y0, x1, y1) of each mask, its last column and row included; zeros for an empty one."""
    rows, columns = masks.any(-1), masks.any(-2)
    found = []
    for line in (columns, rows):
        length = line.shape[-1]
        first = line.int().argmax(-1)
        found.append((first, length - 1 - line.flip(-1).int().argmax(-1)))
    (x0, x1), (y0, y1) = found
    boxes = torch.stack([x0, y0, x1, y1], -1)
    return torch.where(masks.flatten(-2).any(-1, keepdim=True), boxes, 0)


def calculate_stability_score(
    masks: Float[Tensor, "*b h w"], mask_threshold: float, threshold_offset: float
) -> Float[Tensor, " *b"]:
    """Return the IoU of each mask at a higher threshold with that at a lower one; 0 where the lower is empty."""
    inner = (masks > mask_threshold + threshold_offset).sum((-1, -2))
    outer = (masks > mask_threshold - threshold_offset).sum((-1, -2))
    return inner / outer.clamp(min=1)


def build_point_grid(n_per_side: int) -> Float[np.ndarray, "n 2"]:
    """Return the centres of a grid's cells, (x, y) in [0, 1], row by row."""
    centres = (np.arange(n_per_side) + 0.5) / n_per_side
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], -1)
