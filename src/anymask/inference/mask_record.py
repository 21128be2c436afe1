"""One automatically made mask, with what is known about it."""

from __future__ import annotations

from dataclasses import dataclass

from anymask.geometry.rle import RLE


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRecord:
    """One mask in the original image's frame, with SA-1B's fields."""

    rle: RLE
    bbox: tuple[int, int, int, int]
    """(x, y, width, height) as COCO counts: the mask's last column is x + width - 1."""
    area: int
    predicted_iou: float
    stability_score: float
    point_coords: tuple[tuple[float, float], ...]
    """The (x, y) that the model was asked about."""
    crop_box: tuple[int, int, int, int]
    """(x, y, width, height) of the part of the image that the model saw."""
