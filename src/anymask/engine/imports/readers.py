"""Data from elsewhere as a project takes it in: opened by `anymask.data.open`, images without masks included.

Raises, all of it, DataError or ImageError that names the file, and in it the line or the id.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from anymask.data.images import Header, read_header
from anymask.data.listing import is_image_name, list_images
from anymask.data.open import open_data
from anymask.data.readers.labelme import LabelMeFiles
from anymask.data.readers.pairs import PairFiles
from anymask.data.readers.tars import TarFiles
from anymask.data.sample import AnnotatedMask, AnnotatedSet
from anymask.engine.store.names import plain_key
from anymask.errors import DataError, ImageError, InputError
from anymask.geometry.rle import RLE

_LOG = logging.getLogger(__name__)

FORMATS = ("coco", "sa1b", "labelme", "masks", "images")
"""`coco`: a file; `sa1b`: a tar, or a folder of tars or of pairs; `labelme`, `masks`, `images`: folders."""


def read_source(kind: str, path: str, *, images: str | None = None, masks: bool = True) -> Iterator[FoundImage]:
    """Read a source of one of `FORMATS`; `images` is the folder of a COCO file's, `masks` False leaves masks out.

    The format says what names and keys are like; where a source turns out to be of another kind that can be opened, it
    is read as what it is. An address of a folder that fsspec knows, such as s3://bucket/photographs, is read as plain
    images.
    """
    if kind not in FORMATS:
        raise InputError(f"there is no format {kind!r}; there are {', '.join(FORMATS)}")
    if kind == "images":
        return _remote(path) if "://" in path else _images(Path(path))
    return _labelled(kind, Path(path), None if images is None else Path(images), masks)


def read_data(where: str, *, images: str | None = None) -> Iterator[FoundImage]:
    """Read the labelled images of any data that `anymask.data.open.open_data` opens; `images` is a COCO file's folder.

    Names and keys are those that `read_source` gives.
    """
    path = Path(where)
    yield from _found(open_data(where, images), Path(images) if images else path if path.is_dir() else path.parent)


def _labelled(kind: str, path: Path, images: Path | None, masks: bool) -> Iterator[FoundImage]:
    files = _open(kind, path, images, masks)
    yield from _found(files, images or (path if path.is_dir() else path.parent), masks=masks)


def _found(files: AnnotatedSet, folder: Path, *, masks: bool = True) -> Iterator[FoundImage]:
    """Give what an open set has; an image in `folder` is named by its path there."""
    if isinstance(files, TarFiles):
        yield from _from_tars(files, masks)
        return
    folder = folder.absolute()
    for index in range(len(files)):
        found, source = files.annotations(index), files.source(index)
        kept = [_mask(mask) for mask in found.masks] if masks else []
        if isinstance(source, bytes):  # a picture that the file of its annotations holds
            name = _below(Path(files.key(index)).absolute(), folder)
            name = str(PurePosixPath(name).with_suffix(_suffix(read_header(source))))
            yield FoundImage(name=name, location=f"images/{name}", size=found.size, masks=kept, content=source)
        else:
            place = source.absolute()
            yield FoundImage(name=_below(place, folder), location=str(place), size=found.size, masks=kept)


def _open(kind: str, path: Path, images: Path | None, masks: bool) -> AnnotatedSet:
    """Open a source so that images without masks come along."""
    if kind == "labelme":
        return LabelMeFiles(path, images=images, unlabelled=True)
    if kind == "sa1b" and path.is_dir() and not any(path.glob("*.tar")):
        return PairFiles(path, unlabelled=True, recursive=True)
    if kind == "coco" and path.is_file():
        return open_data(path, images or path.parent, unlabelled=True)
    return open_data(path, images, unlabelled=True)


def _from_tars(files: TarFiles, masks: bool) -> Iterator[FoundImage]:
    for index in range(len(files)):
        tar, key = files.member(index)
        encoded = files.image_bytes(index)
        header = read_header(encoded)
        name = f"{PurePosixPath(tar).stem}/{key}{_suffix(header)}"
        found = [_mask(mask) for mask in files.annotations(index).masks] if masks else []
        yield FoundImage(name=name, location=f"images/{name}", size=header.size, masks=found, content=encoded)


def _mask(mask: AnnotatedMask) -> FoundMask:
    return FoundMask(key=plain_key(mask.id), rle=mask.rle, label=mask.label, score=mask.score)


def _suffix(header: Header) -> str:
    return {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}.get(header.format, ".img")


def _images(folder: Path) -> Iterator[FoundImage]:
    """Find the images of a folder and of those below it; broken ones are left out where others are sound."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    paths = list_images(folder, recursive=True)
    if not paths:
        raise DataError(f"{folder}: no image is in this folder")
    broken: list[ImageError] = []
    for path in paths:
        try:
            size = read_header(path).size
        except ImageError as error:
            broken.append(error)
            _LOG.warning("left out: %s", error)
            continue
        yield FoundImage(name=_below(path.absolute(), folder.absolute()), location=str(path.absolute()), size=size)
    if len(broken) == len(paths):
        raise broken[0]


def _remote(address: str) -> Iterator[FoundImage]:
    """Find images in any store that fsspec knows; their headers are read from it."""
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(address)
        for path in sorted(files.find(root)):
            if is_image_name(PurePosixPath(path)):
                size = read_header(files.cat_file(path)).size
                name = str(path).removeprefix(str(root)).lstrip("/")
                yield FoundImage(name=name, location=files.unstrip_protocol(path), size=size)
    except (OSError, ImportError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise DataError(f"{address}: cannot be listed ({error})") from error


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMask:
    """A mask and what its source calls it; `key`, a plain one, is the same whenever the source is read."""

    key: str
    rle: RLE
    label: str | None = None
    """Name of its class."""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """An image, by reference where it is a file of its own, else with its content to be copied into the project."""

    name: str
    location: str
    """Absolute, an address of fsspec's, or below the project's folder where there is a `content`."""
    size: tuple[int, int]
    """(height, width), upright."""
    masks: list[FoundMask] = field(default_factory=list)
    content: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How much of a source was new to the project, and how much it had."""

    images: int
    masks: int
    known_images: int
    known_masks: int
