"""What scripts take from Meta's module of helpers for masks of everything: masks, run lengths and boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from anymask.errors import InputError
from anymask.geometry import boxes as geometry_boxes
from anymask.geometry import crops, points, regions, rle


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


def build_all_layer_point_grids(n_per_side: int, n_layers: int, scale_per_layer: int) -> list[Float[np.ndarray, "n 2"]]:
    """Return the grid of the image and of the crops of each further layer."""
    return points.layer_grids(n_per_side, n_layers, scale_per_layer)


def generate_crop_boxes(
    im_size: tuple[int, ...], n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """Return crops (x0, y0, x1, y1) of an image of (height, width), the image itself first, and the layer of each."""
    found = crops.layered((im_size[0], im_size[1]), n_layers, overlap_ratio)
    return [list(crop.box) for crop in found], [crop.layer for crop in found]


def uncrop_boxes_xyxy(boxes: Shaped[Tensor, "*b 4"], crop_box: Sequence[int]) -> Shaped[Tensor, "*b 4"]:
    """Bring boxes of a crop into its image's frame."""
    return boxes + torch.tensor([*crop_box[:2], *crop_box[:2]], device=boxes.device)


def uncrop_points(points: Shaped[Tensor, "*b 2"], crop_box: Sequence[int]) -> Shaped[Tensor, "*b 2"]:
    """Bring points of a crop into its image's frame."""
    return points + torch.tensor([*crop_box[:2]], device=points.device)


def uncrop_masks(
    masks: Shaped[Tensor, "*b hc wc"], crop_box: Sequence[int], orig_h: int, orig_w: int
) -> Shaped[Tensor, "*b h w"]:
    """Lay masks of a crop into its image, 0 outside the crop."""
    x0, y0, x1, y1 = crop_box
    return F.pad(masks, (x0, orig_w - x1, y0, orig_h - y1), value=0)


def is_box_near_crop_edge(
    boxes: Shaped[Tensor, "n 4"], crop_box: Sequence[int], orig_box: Sequence[int], atol: float = 20.0
) -> Bool[Tensor, " n"]:
    """Tell boxes of a crop that end within `atol` pixels of its edge, and not of the image's."""
    crop, image = ((box[0], box[1], box[2], box[3]) for box in (crop_box, orig_box))
    found = geometry_boxes.is_near_crop_edge(boxes.cpu().numpy(), crop, image, atol)
    return torch.as_tensor(found, device=boxes.device)


def remove_small_regions(
    mask: Bool[np.ndarray, "h w"], area_thresh: float, mode: str
) -> tuple[Bool[np.ndarray, "h w"], bool]:
    """Fill the "holes" or drop the "islands" of less than `area_thresh` pixels; also return whether there were any.

    Raises InputError for another mode.
    """
    if mode not in ("holes", "islands"):
        raise InputError(f'mode is {mode!r}; it must be "holes" or "islands"')
    return regions.remove_small(mask, area_thresh, "holes" if mode == "holes" else "islands")


def box_xyxy_to_xywh(box_xyxy: Shaped[Tensor, " 4"]) -> Shaped[Tensor, " 4"]:
    """Return (x, y, width, height) of one box (x0, y0, x1, y1)."""
    return torch.cat([box_xyxy[:2], box_xyxy[2:] - box_xyxy[:2]])


def batch_iterator(batch_size: int, *args: Any) -> Iterator[list[Any]]:
    """Yield as many of each as a batch holds, at last what is left; raises InputError for unequal lengths."""
    if not args or any(len(each) != len(args[0]) for each in args):
        raise InputError(f"what is batched together must be of one length, but got {[len(each) for each in args]}")
    for first in range(0, len(args[0]), batch_size):
        yield [each[first : first + batch_size] for each in args]
