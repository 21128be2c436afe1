"""Formats that have masks as outlines: YOLO's text files and LabelMe's JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from anymask.engine.formats.item import ClassNumbers, File, Item, Writer
from anymask.engine.formats.rasters import png
from anymask.engine.store import Annotation, Class
from anymask.geometry import polygons, rle
from anymask.geometry.polygons import Polygon

_LABELME = "5.5.0"
"""The version of LabelMe that the files say they are of; masks came with 5.3."""


class YoloWriter(Writer):
    """A text file of normalised outlines for each image, and data.yaml with the classes, numbered from 0 in their
    order.

    An object is one ring: its pieces and holes are joined by cuts of no width, there and back. Outlines are simpler by
    a `tolerance` in pixels; images are in `images` where `with_images`, labels in `labels`, in folders of their split.
    """

    def __init__(self, classes: Sequence[Class], *, with_images: bool, tolerance: float = 0.0) -> None:
        self._classes, self._with_images, self._tolerance = ClassNumbers(classes), with_images, tolerance
        self._splits: set[str] = set()

    def add(self, item: Item) -> Iterator[File]:
        """Give the image's labels, and its file."""
        self._splits.add(item.folder.rstrip("/"))
        if self._with_images:
            yield f"images/{item.folder}{item.file_name}", item.file.content
        height, width = item.size
        lines = []
        for annotation in item.annotations:
            number = self._classes.place(annotation)
            ring = one_ring(outlines(annotation.rle, self._tolerance))
            if len(ring):
                lines.append(" ".join([str(number), *(f"{value:.6g}" for value in (ring / (width, height)).ravel())]))
        yield f"labels/{item.folder}{item.stem}.txt", "".join(f"{line}\n" for line in lines).encode()

    def finish(self) -> Iterator[File]:
        """Give data.yaml; a split that has no image is given the images of the other, as every name must be there."""
        folders = {name: f"images/{name}" for name in self._splits if name}
        train, val = (folders.get(name) or next(iter(folders.values()), "images") for name in ("train", "val"))
        listed = "".join(
            f"  {number}: {json.dumps(name, ensure_ascii=False)}\n"
            for number, name in enumerate(self._classes.all_names())
        )
        yield "data.yaml", f"path: .\ntrain: {train}\nval: {val}\nnames:\n{listed}".encode()


class LabelMeWriter(Writer):
    """LabelMe's JSON for each image, beside the image where `with_images`; masks are bitmaps, which say all of them.

    With `polygons` a mask is a polygon where one says all of it, or nearly, within a `tolerance` in pixels.
    """

    def __init__(
        self, classes: Sequence[Class], *, with_images: bool, polygons: bool = False, tolerance: float = 0.0
    ) -> None:
        self._classes, self._with_images = ClassNumbers(classes), with_images
        self._tolerance = tolerance if polygons else None

    def add(self, item: Item) -> Iterator[File]:
        """Give the image's JSON, and its file."""
        if self._with_images:
            yield f"{item.folder}{item.file_name}", item.file.content
        image = PurePosixPath(item.file_name if self._with_images else item.image.name.replace("\\", "/")).name
        document: dict[str, Any] = {
            "version": _LABELME,
            "flags": {},
            "shapes": [self._shape(each) for each in item.annotations if rle.area(each.rle)],
            "imagePath": image,
            "imageData": None,
            "imageHeight": item.size[0],
            "imageWidth": item.size[1],
        }
        yield f"{item.folder}{item.stem}.json", json.dumps(document, ensure_ascii=False).encode()

    def _shape(self, annotation: Annotation) -> dict[str, Any]:
        flat = None if self._tolerance is None else flat_polygons(annotation.rle, self._tolerance)
        is_polygon = flat is not None and len(flat) == 1
        described: dict[str, Any] = {
            "label": self._classes.name(annotation),
            "description": annotation.name or "",
            "group_id": None,
            "flags": {},
            "shape_type": "polygon" if is_polygon else "mask",
        }
        if annotation.score is not None:
            described["score"] = annotation.score
        if flat is not None and is_polygon:
            return described | {"points": np.reshape(flat[0], (-1, 2)).tolist(), "mask": None}
        x, y, width, height = rle.bbox(annotation.rle)
        bitmap, _ = crop(annotation.rle)
        encoded = base64.b64encode(png(bitmap * np.uint8(255))).decode()
        # LabelMe's corners are pixels, the last one included.
        return described | {"points": [[x, y], [x + width - 1, y + height - 1]], "mask": encoded}


def one_ring(pieces: Sequence[Polygon]) -> Float[np.ndarray, "n 2"]:
    """Join rings to one that encloses, by the even-odd rule, the same pixels: there and back along one cut each."""
    rings = [ring for piece in pieces for ring in (piece.exterior, *piece.holes)]
    if not rings:
        return np.zeros((0, 2), np.float32)
    first, *others = rings
    start = first[:1]
    parts = [first]
    for ring in others:
        parts += [start, ring, ring[:1]]
    return np.concatenate([*parts, start] if others else parts)


def flat_polygons(mask: rle.RLE, tolerance: float) -> list[list[float]] | None:
    """Return a mask as COCO's flat polygons, one per piece, or None where they would not be the mask."""
    found = outlines(mask, tolerance)
    if not found or any(piece.holes for piece in found):
        return None
    flat = polygons.to_coco(found)
    if tolerance == 0 and polygons.from_coco(flat, (mask["size"][0], mask["size"][1])) != mask:
        return None
    return flat


def outlines(mask: rle.RLE, tolerance: float) -> list[Polygon]:
    """Trace a mask, its points (x, y) in pixels of the image; simpler by a `tolerance` in pixels."""
    inner, corner = crop(mask)
    return [
        Polygon(exterior=piece.exterior + corner, holes=tuple(hole + corner for hole in piece.holes))
        for piece in polygons.from_mask(inner, tolerance)
    ]


def crop(mask: rle.RLE) -> tuple[Bool[np.ndarray, "h w"], Float[np.ndarray, " 2"]]:
    """Decode a mask within its box; also return the box's corner (x, y)."""
    return rle.decode_box(mask), np.array(rle.bbox(mask)[:2], np.float32)
