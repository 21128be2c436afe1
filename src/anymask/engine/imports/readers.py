"""Readers of COCO, SA-1B, LabelMe, folders of masks and folders of plain images; each checks all before it yields.

Raises, all of them, DataError or ImageError that names the file, and in it the line or the id.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from anymask.data.coco import CocoFiles
from anymask.data.folder import IMAGE_SUFFIXES, FolderFiles
from anymask.data.images import read_header, read_image
from anymask.data.sa1b import TarFiles
from anymask.engine.imports.found import FoundImage, FoundMask
from anymask.engine.store.names import plain_key
from anymask.errors import AnymaskError, DataError, InputError
from anymask.geometry import polygons, rle


def read_source(kind: str, path: str, *, images: str | None = None, masks: bool = True) -> Iterator[FoundImage]:
    """Read a source of one of `FORMATS`; `images` is the folder of a COCO file's, `masks` False leaves masks out.

    An address of a folder that fsspec knows, such as s3://bucket/photographs, is read as plain images.
    """
    if kind not in FORMATS:
        raise InputError(f"there is no format {kind!r}; there are {', '.join(FORMATS)}")
    if kind == "coco":
        return _coco(Path(path), Path(images) if images else Path(path).parent, masks)
    if kind == "images" and "://" in path:
        return _remote(path)
    return FORMATS[kind](Path(path), masks)


def _coco(path: Path, folder: Path, masks: bool) -> Iterator[FoundImage]:
    files = CocoFiles(folder, path)
    for index in range(len(files)):
        place = Path(files.key(index)).absolute()
        size, objects = files.objects(index)
        found = [
            FoundMask(
                key=plain_key(f"{path.stem}-{id}"),
                rle=mask,
                label=None if category is None else files.categories.get(category),
            )
            for id, category, mask in objects
        ]
        name = _below(place, folder.absolute())
        yield FoundImage(name=name, location=str(place), size=size, masks=found if masks else [])


def _sa1b(path: Path, masks: bool) -> Iterator[FoundImage]:
    if path.is_dir():
        tars = sorted(path.glob("*.tar"))
        yield from (found for tar in tars for found in _tar(tar, masks)) if tars else _sa1b_folder(path, masks)
    else:
        yield from _tar(path, masks)


def _tar(path: Path, masks: bool) -> Iterator[FoundImage]:
    files = TarFiles([path], labelled=masks)
    for index in range(len(files)):
        key = PurePosixPath(files.key(index)).relative_to(path.name)
        encoded = files.image_bytes(index)
        header = read_header(encoded)
        suffix = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}.get(header.format, ".img")
        name = f"{path.stem}/{key}{suffix}"
        found = _sa1b_masks(f"{path}: {key}.json", files.json_bytes(index), header.size) if masks else []
        yield FoundImage(name=name, location=f"images/{name}", size=header.size, masks=found, content=encoded)


def _sa1b_folder(folder: Path, masks: bool) -> Iterator[FoundImage]:
    images = _images_of(folder)
    for path in images:
        size = read_header(path).size
        document = path.with_suffix(".json")
        found = _sa1b_masks(str(document), _bytes(document), size) if masks and document.exists() else []
        yield FoundImage(name=_below(path, folder), location=str(path.absolute()), size=size, masks=found)


def _sa1b_masks(name: str, document: bytes, size: tuple[int, int]) -> list[FoundMask]:
    values = _json(name, document)
    entries = values.get("annotations") if isinstance(values, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{name}: is none of SA-1B's, which have a list of annotations")
    found = []
    for place, entry in enumerate(entries):
        id = entry.get("id", place) if isinstance(entry, dict) else place
        try:
            mask = rle.checked(entry["segmentation"], size)
            score = entry.get("predicted_iou")
            found.append(
                FoundMask(key=plain_key(f"sa1b-{id}"), rle=mask, score=None if score is None else float(score))
            )
        except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{name}: annotation {id} cannot be used: {error}") from error
    _distinct(name, found)
    return found


def _labelme(folder: Path, masks: bool) -> Iterator[FoundImage]:
    documents = sorted(folder.glob("*.json")) if folder.is_dir() else [folder]
    if not documents or not documents[0].is_file():
        raise DataError(f"{folder}: no file of LabelMe's, which end in .json, is there")
    for document in documents:
        values = _json(str(document), _bytes(document))
        shapes = values.get("shapes") if isinstance(values, dict) else None
        if not isinstance(shapes, list) or not isinstance(values.get("imagePath"), str):
            raise DataError(f"{document}: is none of LabelMe's, which have shapes and an imagePath")
        path = document.parent / PurePosixPath(values["imagePath"].replace("\\", "/"))
        size = read_header(path).size
        found = [_shape(f"{document}: shape {n}", f"labelme-{n}", shape, size) for n, shape in enumerate(shapes)]
        name = _below(path.absolute(), folder.absolute())
        kept = [each for each in found if each is not None]
        yield FoundImage(name=name, location=str(path.absolute()), size=size, masks=kept if masks else [])


def _shape(name: str, key: str, shape: Any, size: tuple[int, int]) -> FoundMask | None:
    """Read a polygon, a rectangle, a circle or a bitmap; lines and points, which are no regions, are left out."""
    try:
        kind = shape.get("shape_type") or "polygon"
        points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
        if kind == "mask":
            mask = _bitmap(shape["mask"], points[0], size)
        elif kind in ("polygon", "rectangle", "circle"):
            mask = polygons.from_coco([_ring(kind, points).ravel().tolist()], size)
        else:
            return None
    except (AnymaskError, binascii.Error, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{name} cannot be used: {error}") from error
    label = shape.get("label")
    return FoundMask(key=key, rle=mask, label=str(label) if label else None)


def _ring(kind: str, points: np.ndarray) -> np.ndarray:
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        angles = np.linspace(0, 2 * np.pi, max(16, int(radius * 4)), endpoint=False)
        return np.asarray(points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1))
    return points


def _bitmap(encoded: str, corner: np.ndarray, size: tuple[int, int]) -> rle.RLE:
    crop = read_image(base64.b64decode(encoded, validate=True))[..., 0] > 0
    return rle.encode_at(crop, (round(float(corner[0])), round(float(corner[1]))), size)


def _masks(folder: Path, masks: bool) -> Iterator[FoundImage]:
    files = FolderFiles([folder])
    for index in range(len(files)):
        path = Path(files.key(index))
        sample = files.sample(index)
        stored = rle.encode_many(sample.masks)
        found = [FoundMask(key=f"mask-{number}", rle=mask) for number, mask in enumerate(stored)]
        size = (sample.image.shape[0], sample.image.shape[1])
        name = _below(path.absolute(), folder.absolute())
        yield FoundImage(name=name, location=str(path.absolute()), size=size, masks=found if masks else [])


def _images(folder: Path, masks: bool) -> Iterator[FoundImage]:
    for path in _images_of(folder):
        name = _below(path.absolute(), folder.absolute())
        yield FoundImage(name=name, location=str(path.absolute()), size=read_header(path).size)


def _remote(address: str) -> Iterator[FoundImage]:
    """Find images in any store that fsspec knows; their headers are read from it."""
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(address)
        for path in sorted(files.find(root)):
            if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES:
                size = read_header(files.cat_file(path)).size
                name = str(path).removeprefix(str(root)).lstrip("/")
                yield FoundImage(name=name, location=files.unstrip_protocol(path), size=size)
    except (OSError, ImportError, ValueError) as error:
        raise DataError(f"{address}: cannot be listed ({error})") from error


FORMATS: dict[str, Callable[[Path, bool], Iterator[FoundImage]]] = {
    "coco": lambda path, masks: _coco(path, path.parent, masks),
    "sa1b": _sa1b,
    "labelme": _labelme,
    "masks": _masks,
    "images": _images,
}
"""`coco`: a file; `sa1b`: a tar, or a folder of tars or of pairs; `labelme`, `masks`, `images`: folders."""


def _images_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"{folder}: no image is in this folder")
    return found


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _json(name: str, document: bytes) -> Any:
    try:
        return json.loads(document)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}: is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{name}: is no JSON ({error})") from error


def _distinct(name: str, found: Sequence[FoundMask]) -> None:
    seen: set[str] = set()
    for each in found:
        if each.key in seen:
            raise DataError(f"{name}: two annotations have the id {each.key.removeprefix('sa1b-')}")
        seen.add(each.key)
