"""Samples written in SA-1B's layout: a tar of pairs, `<key>.jpg` and `<key>.json`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import cv2

from anymask.data.files import write_bytes_atomic
from anymask.data.sample import Sample
from anymask.geometry import points, rle

_QUALITY = 92


def write_tar(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples to a tar, in memory first, then in one move; the same samples give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for sample in samples:
            for suffix, stored in pack(sample).items():
                member = tarfile.TarInfo(f"{sample.key}.{suffix}")
                member.size = len(stored)
                tar.addfile(member, io.BytesIO(stored))
    write_bytes_atomic(path, packed.getvalue())


def pack(sample: Sample) -> dict[str, bytes]:
    """A sample as the two files of SA-1B, by suffix: "jpg" and "json".

    Each annotation carries "level" and "parent" (an index into the list, -1 for none) besides SA-1B's keys, where
    the sample knows them; its point is the one farthest from the mask's edge, its scores are 1.
    """
    height, width = sample.image.shape[:2]
    bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    annotations = []
    for index, stored in enumerate(rle.encode_many(sample.masks)):
        point = points.centre(sample.masks[index])
        annotation: dict[str, object] = {
            "id": index,
            "segmentation": stored,
            "bbox": list(rle.bbox(stored)),
            "area": rle.area(stored),
            "predicted_iou": 1.0,
            "stability_score": 1.0,
            "crop_box": [0, 0, width, height],
            "point_coords": [list(point)] if point is not None else [],
        }
        if sample.levels is not None:
            annotation["level"] = int(sample.levels[index])
        if sample.parents is not None:
            annotation["parent"] = int(sample.parents[index])
        annotations.append(annotation)
    image = {"image_id": sample.key, "width": width, "height": height, "file_name": f"{sample.key}.jpg"}
    document = {"image": image, "annotations": annotations}
    return {"jpg": jpeg.tobytes(), "json": json.dumps(document, separators=(",", ":")).encode()}
