"""A COCO dataset file, written as its images come: any number of them, in the memory of one.

The layout is that of COCO's object detection: info, licenses, images, annotations, categories. Masks are compressed
run lengths with iscrowd 0, which pycocotools reads.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from anymask.data.files import write_whole
from anymask.errors import DataError

OBJECT: Mapping[str, Any] = {"id": 1, "name": "object", "supercategory": "object"}
"""The category of masks that have none."""

_RUN = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoImage:
    """An image of a data set with its annotations, each of which has `segmentation` (RLE), `bbox` and `area` at least.

    What else an annotation has is kept, but for these: `id` becomes a number that is unique in the file, and
    `parent`, an index into the annotations or -1, becomes the parent's id or None. A `score` of None is left out.
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
        with closing(CocoStream(temporary, licenses=licenses, info=info, category=int(categories[0]["id"]))) as stream:
            for image in images:
                stream.add(image)
            counts = stream.finish(categories)

    write_whole(path, write)
    return counts


class CocoStream:
    """The same file written as its images are given: `add` each, then `finish`; `close` in any case.

    Images and annotations are lists of their own in the file but come together, so the annotations wait in a file
    beside it. Annotations without a `category_id` are of `category`.
    """

    def __init__(
        self,
        path: Path,
        *,
        licenses: Sequence[Mapping[str, Any]] = (),
        info: Mapping[str, Any] | None = None,
        category: int = 1,
    ) -> None:
        self._category = category
        self._ids: dict[int, int] = {}
        """Which ids there were: of each run of `_RUN` of them the bits. A million images in a row take 200 KB."""
        self._images = 0
        self._written = 0
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self._annotations: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent)
        self._file.write(f'{{"info":{_json(info or {})},"licenses":{_json(list(licenses))},"images":[')

    def add(self, image: CocoImage) -> None:
        """Write an image; raises DataError where another has its id."""
        run, place = divmod(image.id, _RUN)
        seen = self._ids.get(run, 0)
        if seen >> place & 1:
            raise DataError(f"{image.file_name}: another image of the data set has the id {image.id} as well")
        described = {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
        self._file.write(("," if self._images else "") + _json(described))
        self._ids[run] = seen | 1 << place
        self._images += 1
        first = self._written + 1
        for annotation in image.annotations:
            record = _annotation(annotation, image.id, first, self._category, self._written)
            self._annotations.write(("," if self._written else "") + _json(record))
            self._written += 1

    def finish(self, categories: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Write what comes after the images, and return how many of them and of annotations the file has."""
        self._file.write('],"annotations":[')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._file, 1 << 16)
        self._file.write(f'],"categories":{_json(list(categories))}}}\n')
        self.close()
        return self._images, self._written

    def close(self) -> None:
        """Close the files."""
        self._annotations.close()
        self._file.close()


def _annotation(
    annotation: Mapping[str, Any], image_id: int, first: int, category: int, written: int
) -> dict[str, Any]:
    own: dict[str, Any] = {"id": written + 1, "image_id": image_id, "category_id": category, "iscrowd": 0}
    kept = {key: value for key, value in annotation.items() if key not in ("id", "image_id")}
    if "predicted_iou" in kept and "score" not in kept:
        own["score"] = kept["predicted_iou"]
    if kept.get("score", 0) is None:
        del kept["score"]
    if "parent" in kept:
        kept["parent"] = first + kept["parent"] if kept["parent"] >= 0 else None
    return own | kept


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
