"""A COCO dataset file, written as its images come: any number of them, in the memory of one.

The layout is that of COCO's object detection: info, licenses, images, annotations, categories. Masks are compressed
run lengths with iscrowd 0, which pycocotools reads.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from anymask.data.files import write_whole
from anymask.errors import DataError

OBJECT: Mapping[str, Any] = {"id": 1, "name": "object", "supercategory": "object"}
"""The category of masks that have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoImage:
    """An image of a data set with its annotations, each of which has `segmentation` (RLE), `bbox` and `area` at least.

    What else an annotation has is kept, but for these: `id` becomes a number that is unique in the file, and
    `parent`, an index into the annotations or -1, becomes the parent's id or None.
    """

    id: int
    file_name: str
    width: int
    height: int
    annotations: Sequence[Mapping[str, Any]]


def write_coco(
    path: str | Path,
    images: Iterable[CocoImage],
    *,
    categories: Sequence[Mapping[str, Any]] = (OBJECT,),
    licenses: Sequence[Mapping[str, Any]] = (),
    info: Mapping[str, Any] | None = None,
) -> tuple[int, int]:
    """Write the file whole or not at all, and return how many images and annotations it has.

    Annotations without a `category_id` are of the first category, and those without a `score` get their
    `predicted_iou` as one. The same images give the same bytes. Raises DataError where two images share an id, and
    OutputError where the file cannot be written.
    """
    counts = (0, 0)

    def write(temporary: Path) -> None:
        nonlocal counts
        # Images and annotations are lists of their own in the file, but come together.
        with temporary.open("w+", encoding="utf-8") as file, _scratch(temporary.parent) as annotations:
            file.write(f'{{"info":{_json(info or {})},"licenses":{_json(list(licenses))},"images":[')
            counts = _write_images(file, annotations, images, int(categories[0]["id"]))
            file.write('],"annotations":[')
            annotations.seek(0)
            shutil.copyfileobj(annotations, file, 1 << 16)
            file.write(f'],"categories":{_json(list(categories))}}}\n')

    write_whole(path, write)
    return counts


def _scratch(folder: Path) -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)


def _write_images(file: IO[str], annotations: IO[str], images: Iterable[CocoImage], category: int) -> tuple[int, int]:
    """Write images to one file and their annotations to the other, commas between them."""
    ids: set[int] = set()
    written = 0
    for image in images:
        if image.id in ids:
            raise DataError(f"{image.file_name}: another image of the data set has the id {image.id} as well")
        described = {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
        file.write(("," if ids else "") + _json(described))
        ids.add(image.id)
        first = written + 1
        for annotation in image.annotations:
            annotations.write(
                ("," if written else "") + _json(_annotation(annotation, image.id, first, category, written))
            )
            written += 1
    return len(ids), written


def _annotation(
    annotation: Mapping[str, Any], image_id: int, first: int, category: int, written: int
) -> dict[str, Any]:
    own: dict[str, Any] = {"id": written + 1, "image_id": image_id, "category_id": category, "iscrowd": 0}
    kept = {key: value for key, value in annotation.items() if key not in ("id", "image_id")}
    if "predicted_iou" in kept:
        own["score"] = kept["predicted_iou"]
    if "parent" in kept:
        kept["parent"] = first + kept["parent"] if kept["parent"] >= 0 else None
    return own | kept


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
