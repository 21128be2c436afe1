"""What `anymask everything` writes of one image: the JSON, the label map, the overlay."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from anymask.data.files import make_folder, write_bytes_atomic, write_image_atomic
from anymask.data.sa1b_writer import pair_document
from anymask.data.sample import SUBPART
from anymask.errors import OutputError
from anymask.inference.label_maps import Labels, OnTop, label_map
from anymask.inference.mask_record import MaskRecord, sa1b_annotation
from anymask.inference.tree import build_tree
from anymask.plots import draw_everything, palette
from anymask.workflows.folder_jobs import Format, Job

_PALETTE_LABELS = 255
"""A PNG with a palette has 256 colours; the first is for no mask."""


def annotations_of(records: Sequence[MaskRecord], *, tree: bool) -> list[dict[str, Any]]:
    """Return the records as SA-1B has them; with `tree`, also each mask's level and its parent's index (-1: none)."""
    made = build_tree([record.rle for record in records]) if tree else None
    return [
        sa1b_annotation(
            index,
            record,
            level=None if made is None else min(int(made.levels[index]), SUBPART),
            parent=None if made is None else int(made.parents[index]),
        )
        for index, record in enumerate(records)
    ]


def write_document(folder: Path, job: Job, size: tuple[int, int], annotations: Sequence[dict[str, Any]]) -> None:
    """Write the JSON of an image of `size` = (height, width)."""
    path = job.path(folder, Format.sa1b)
    make_folder(path.parent)
    write_bytes_atomic(path, pair_document(job.image_id, size, Path(job.file_name).name, annotations))


def write_pictures(
    folder: Path,
    job: Job,
    kinds: Sequence[Format],
    pixels: UInt8[np.ndarray, "h w 3"],
    annotations: Sequence[dict[str, Any]],
    *,
    on_top: OnTop,
    cover: bool,
) -> None:
    """Write the label map and the overlay, whichever of them is among `kinds`."""
    masks = [annotation["segmentation"] for annotation in annotations]
    if Format.labels in kinds:
        scores = [annotation["predicted_iou"] for annotation in annotations]
        labels = label_map(masks, (pixels.shape[0], pixels.shape[1]), scores=scores, on_top=on_top, cover=cover)
        write_bytes_atomic(job.path(folder, Format.labels), encode_labels(labels, len(masks)))
    if Format.overlay in kinds:
        write_image_atomic(job.path(folder, Format.overlay), draw_everything(pixels, masks), quality=90)


def encode_labels(labels: Labels, num_masks: int) -> bytes:
    """Return a PNG of the numbers: with a palette, so that it can be looked at, up to 255 masks; 16-bit grey beyond.

    Raises OutputError for more masks than 16 bits can number.
    """
    if num_masks >= 1 << 16:
        raise OutputError(f"{num_masks} masks are more than the 65,535 that a label map in 16 bits can number")
    if num_masks <= _PALETTE_LABELS:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(np.concatenate([np.zeros((1, 3), np.uint8), palette(_PALETTE_LABELS)]).tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    return encoded.getvalue()
