"""One automatically made mask, with what is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anymask.data.writers.sa1b import annotation
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


def sa1b_annotation(
    index: int, record: MaskRecord, *, level: int | None = None, parent: int | None = None
) -> dict[str, Any]:
    """Return a record as SA-1B has it, its numbers rounded to what they are worth."""
    return annotation(
        index,
        record.rle,
        bbox=record.bbox,
        area=record.area,
        predicted_iou=round(record.predicted_iou, 6),
        stability_score=round(record.stability_score, 6),
        crop_box=record.crop_box,
        point_coords=[(round(x, 3), round(y, 3)) for x, y in record.point_coords],
        level=level,
        parent=parent,
    )
