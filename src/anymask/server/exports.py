"""Annotations as the files that other programs read: COCO, SA-1B, YOLO, label maps, cut-outs.

Every format gives (name, content) pairs, one image at a time. Names may have folders, never steps out of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.data.coco_writer import OBJECT, CocoImage, write_coco
from anymask.data.listing import unique_names
from anymask.engine.store import Annotation, Class, StoredImage
from anymask.errors import ImageError
from anymask.geometry import points, polygons, rle
from anymask.geometry.polygons import Polygon
from anymask.inference.label_maps import label_map

Files = Iterator[tuple[str, bytes]]
UNNAMED = "object"
"""The class of annotations that have none, in formats that demand one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotated:
    """An image with its annotations; pixels are read only where a format needs them."""

    image: StoredImage
    stem: str
    """A file's name without its suffix, of no other image."""
    annotations: tuple[Annotation, ...]
    pixels: Callable[[], UInt8[np.ndarray, "h w 3"]]


def stems(images: Sequence[StoredImage]) -> dict[int, str]:
    """Return a file's stem for each image, its id behind it where two would be alike."""
    choices = []
    for image in images:
        parts = [part for part in PurePosixPath(image.name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        plain = str(PurePosixPath(*parts).with_suffix("")) if parts else "image"
        choices.append((plain, f"{plain}-{image.id}"))
    names = unique_names(choices)
    return {image.id: name for image, name in zip(images, names, strict=True)}


def coco(
    images: Iterator[Annotated],
    classes: Sequence[Class],
    scratch: Path,
    *,
    as_polygons: bool = False,
    tolerance: float = 0.0,
) -> Files:
    """One COCO file for all images, first written to the folder `scratch`.

    COCO's polygons have no holes. With `as_polygons` a mask is given as polygons where they say all of it: one without
    holes that pycocotools rasterises to the very same pixels or, with a `tolerance` in pixels, nearly so. Every other
    stays run lengths.
    """
    all_images = list(images)
    names = {each.id: each.name for each in classes}
    unnamed = max(names, default=0) + 1
    described = [_coco_image(each, unnamed, tolerance if as_polygons else None) for each in all_images]
    for record in (record for image in described for record in image.annotations):
        names.setdefault(record["category_id"], UNNAMED)
    categories: list[Mapping[str, Any]] = [{"id": id, "name": name} for id, name in sorted(names.items())]
    with TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "annotations.json"
        write_coco(path, described, categories=categories or [OBJECT], info={"description": "anymask"})
        yield path.name, path.read_bytes()


def _coco_image(annotated: Annotated, unnamed: int, tolerance: float | None) -> CocoImage:
    image = annotated.image
    places = {annotation.id: place for place, annotation in enumerate(annotated.annotations)}
    records = []
    for annotation in annotated.annotations:
        flat = None if tolerance is None else _coco_polygons(annotation.rle, tolerance)
        record: dict[str, Any] = {
            "category_id": unnamed if annotation.class_id is None else annotation.class_id,
            "segmentation": annotation.rle if flat is None else flat,
            "area": rle.area(annotation.rle),
            "bbox": list(rle.bbox(annotation.rle)),
            "parent": places.get(annotation.parent or "", -1),
            "key": annotation.id,
        }
        optional = {"name": annotation.name, "score": annotation.score}
        records.append(record | {name: value for name, value in optional.items() if value is not None})
    height, width = image.size
    return CocoImage(id=image.id, file_name=image.name, width=width, height=height, annotations=records)


def sa1b(images: Iterator[Annotated]) -> Files:
    """A JSON file an image in SA-1B's layout; its scores and points are those of the prompts, where there are any."""
    for annotated in images:
        image = annotated.image
        height, width = image.size
        records = []
        for index, annotation in enumerate(annotated.annotations):
            score = 1.0 if annotation.score is None else annotation.score
            records.append(
                {
                    "id": index,
                    "segmentation": annotation.rle,
                    "bbox": list(rle.bbox(annotation.rle)),
                    "area": rle.area(annotation.rle),
                    "predicted_iou": score,
                    "stability_score": 1.0,
                    "crop_box": [0, 0, width, height],
                    "point_coords": _centre(annotation.rle),
                }
            )
        described = {"image_id": image.id, "width": width, "height": height, "file_name": image.name}
        yield f"{annotated.stem}.json", _json({"image": described, "annotations": records})


def yolo(images: Iterator[Annotated], classes: Sequence[Class], *, tolerance: float = 0.0) -> Files:
    """A text file of normalised outlines an image, and data.yaml with the classes, numbered from 0 in their order.

    An object is one ring: its pieces and holes are joined by cuts of no width, there and back.
    """
    numbers = {each.id: number for number, each in enumerate(classes)}
    unnamed = False
    for annotated in images:
        height, width = annotated.image.size
        lines = []
        for annotation in annotated.annotations:
            number = numbers.get(_class_of(annotation), len(numbers))
            unnamed = unnamed or number == len(numbers)
            ring = one_ring(_outlines(annotation.rle, tolerance))
            if len(ring):
                lines.append(" ".join([str(number), *(f"{value:.6g}" for value in (ring / (width, height)).ravel())]))
        yield f"labels/{annotated.stem}.txt", "".join(f"{line}\n" for line in lines).encode()
    names = [each.name for each in classes] + [UNNAMED] * unnamed
    listed = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(names))
    yield "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{listed}".encode()


def labels(images: Iterator[Annotated], classes: Sequence[Class], *, values: Literal["instance", "class"]) -> Files:
    """A PNG an image: 0 where nothing is, else the object's place in the list or its class's, both counted from 1.

    Where objects overlap the smaller is on top. 8 bits where they suffice, else 16.
    """
    numbers = {each.id: number for number, each in enumerate(classes, 1)}
    for annotated in images:
        masks = [annotation.rle for annotation in annotated.annotations]
        painted = label_map(masks, annotated.image.size)
        if values == "class":
            of_class = [numbers.get(_class_of(annotation), len(numbers) + 1) for annotation in annotated.annotations]
            painted = np.array([0, *of_class])[painted]
        deep = np.uint8 if painted.max(initial=0) < 256 else np.uint16
        yield f"{annotated.stem}.png", _png(painted.astype(deep))


def cutouts(images: Iterator[Annotated], classes: Sequence[Class]) -> Files:
    """A PNG an object: its box cut out of the image, transparent outside the mask."""
    names = {each.id: each.name for each in classes}
    for annotated in images:
        if not annotated.annotations:
            continue
        pixels = annotated.pixels()
        if pixels.shape[:2] != annotated.image.size:
            raise ImageError(f"{annotated.image.name}: has another size than when it was annotated")
        for number, annotation in enumerate(annotated.annotations, 1):
            x, y, width, height = rle.bbox(annotation.rle)
            if not width:
                continue
            alpha = rle.decode_columns(annotation.rle, x, x + width)[y : y + height]
            crop = cv2.cvtColor(pixels[y : y + height, x : x + width], cv2.COLOR_RGB2BGRA)
            crop[..., 3] = alpha * np.uint8(255)
            crop[~alpha] = 0
            said = annotation.name or names.get(_class_of(annotation), "")
            kind = "".join(letter for letter in said if letter.isalnum() or letter in "-_ ").strip()
            yield f"{annotated.stem}_{number}{f'_{kind}' if kind else ''}.png", _png(crop)


def _class_of(annotation: Annotation) -> int:
    """Return its class, or -1, which is none."""
    return -1 if annotation.class_id is None else annotation.class_id


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


def _coco_polygons(mask: rle.RLE, tolerance: float) -> list[list[float]] | None:
    """Return flat polygons, or None where they would not be the mask."""
    outlines = _outlines(mask, tolerance)
    if not outlines or any(piece.holes for piece in outlines):
        return None
    flat = polygons.to_coco(outlines)
    if tolerance == 0 and polygons.from_coco(flat, (mask["size"][0], mask["size"][1])) != mask:
        return None
    return flat


def _outlines(mask: rle.RLE, tolerance: float) -> list[Polygon]:
    """Trace a mask within its box."""
    crop, corner = _crop(mask)
    return [
        Polygon(exterior=piece.exterior + corner, holes=tuple(hole + corner for hole in piece.holes))
        for piece in polygons.from_mask(crop, tolerance)
    ]


def _centre(mask: rle.RLE) -> list[list[float]]:
    crop, corner = _crop(mask)
    point = points.centre(crop) if crop.any() else None
    return [] if point is None else [[float(value) for value in point + corner]]


def _crop(mask: rle.RLE) -> tuple[Bool[np.ndarray, "h w"], Float[np.ndarray, " 2"]]:
    """Decode a mask within its box; also return the box's (x, y)."""
    x, y, width, height = rle.bbox(mask)
    return rle.decode_columns(mask, x, x + width)[y : y + height], np.array([x, y], np.float32)


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _png(pixels: np.ndarray) -> bytes:
    done, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise ImageError(f"pixels of shape {pixels.shape} do not fit into a PNG")
    return encoded.tobytes()
