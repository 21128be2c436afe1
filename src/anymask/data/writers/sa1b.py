"""Samples written in SA-1B's layout: a tar of pairs, `<key>.jpg` and `<key>.json`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from anymask.data.files import write_bytes_atomic
from anymask.data.sample import Sample
from anymask.geometry import points, rle

_QUALITY = 92


def write_tar(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples to a tar, in memory first, then in one move; the same samples give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for sample in samples:
            add_files(tar, ((f"{sample.key}.{suffix}", stored) for suffix, stored in pack(sample).items()))
    write_bytes_atomic(path, packed.getvalue())


def add_files(tar: tarfile.TarFile, files: Iterable[tuple[str, bytes]]) -> None:
    """Add files, by name and content, without times and owners."""
    for name, content in files:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def pack(sample: Sample) -> dict[str, bytes]:
    """A sample as the two files of SA-1B, by suffix: "jpg" and "json".

    Each annotation carries "level" and "parent" (an index into the list, -1 for none) besides SA-1B's keys, where
    the sample knows them; its point is the one farthest from the mask's edge, its scores are 1.
    """
    height, width = sample.image.shape[:2]
    annotations = []
    for index, stored in enumerate(rle.encode_many(sample.masks)):
        point = points.centre(sample.masks[index])
        annotations.append(
            annotation(
                index,
                stored,
                point_coords=[] if point is None else [point],
                level=None if sample.levels is None else int(sample.levels[index]),
                parent=None if sample.parents is None else int(sample.parents[index]),
            )
        )
    document = pair_document(sample.key, (height, width), f"{sample.key}.jpg", annotations)
    return {"jpg": encode_jpeg(sample.image), "json": document}


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode an RGB image at the quality of our tars."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()


def annotation(
    id: int,
    segmentation: rle.RLE,
    *,
    point_coords: Sequence[Sequence[float]],
    predicted_iou: float = 1.0,
    stability_score: float = 1.0,
    bbox: Sequence[int] | None = None,
    area: int | None = None,
    crop_box: Sequence[float] | None = None,
    level: int | None = None,
    parent: int | None = None,
) -> dict[str, Any]:
    """One mask as SA-1B has it; boxes are (x, y, width, height), points (x, y), all in pixels of the original image.

    `bbox` and `area` are the mask's own where they are not known already, `crop_box` is the whole image. `level` and
    `parent` are ours, left out for None.
    """
    height, width = segmentation["size"]
    made: dict[str, Any] = {
        "id": id,
        "segmentation": segmentation,
        "bbox": list(rle.bbox(segmentation) if bbox is None else bbox),
        "area": rle.area(segmentation) if area is None else area,
        "predicted_iou": predicted_iou,
        "stability_score": stability_score,
        "crop_box": [0, 0, width, height] if crop_box is None else list(crop_box),
        "point_coords": [list(point) for point in point_coords],
    }
    if level is not None:
        made["level"] = level
    if parent is not None:
        made["parent"] = parent
    return made


def pair_document(
    image_id: int | str, size: tuple[int, int], file_name: str, annotations: Sequence[Mapping[str, Any]]
) -> bytes:
    """Return the JSON that lies beside an image of `size` = (height, width)."""
    image = {"image_id": image_id, "width": size[1], "height": size[0], "file_name": file_name}
    return json.dumps({"image": image, "annotations": list(annotations)}, separators=(",", ":")).encode()
