"""An image with its annotations, as every format is given it, and names that no two images share."""

from __future__ import annotations

import io
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from anymask.data.images import read_header
from anymask.data.listing import unique_names
from anymask.engine.formats.pairs import records
from anymask.engine.pictures import image_bytes, read_picture
from anymask.engine.store import Annotation, Class, Project, StoredImage
from anymask.errors import ImageError

File: TypeAlias = tuple[str, bytes | Path]
"""A file's name, with "/" between folders, and what is in it: bytes, or a finished file that may be moved away."""

_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_WRITTEN_SUFFIXES = (".json", ".txt", ".png", ".jpg", ".webp")
"""Those that formats put behind an image's stem."""
_QUALITY = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """An image file as it is written out."""

    content: bytes
    suffix: str
    """Without the dot: "jpg", "png" or "webp"."""


@dataclass(frozen=True, kw_only=True, eq=False)  # without slots, as what is computed is kept
class Item:
    """An image with its annotations; its file and its pixels are read only where a format needs them."""

    image: StoredImage
    annotations: tuple[Annotation, ...]
    """In the frame of the file as it is written out; their parents are ids among them, or of none of them."""
    size: tuple[int, int]
    """(height, width) of that file, in pixels."""
    stem: str
    """A file's name without its suffix, perhaps with folders: no other image's, whatever suffix follows."""
    read_file: Callable[[], ImageFile]
    read_pixels: Callable[[], UInt8[np.ndarray, "h w 3"]]
    split: str | None = None
    """"train" or "val", None where images are not divided."""

    @cached_property
    def file(self) -> ImageFile:
        """The image's file; raises ImageError where it cannot be read."""
        return self.read_file()

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The annotations as SA-1B has them."""
        return records(self.annotations)

    @property
    def file_name(self) -> str:
        """What the image's file is called, perhaps with folders."""
        return f"{self.stem}.{self.file.suffix}"

    @property
    def folder(self) -> str:
        """Where the files of the image's split belong: "", or its name and a slash."""
        return "" if self.split is None else f"{self.split}/"


class Writer(ABC):
    """A format: it is given images one after the other, gives files as they are finished, and holds one image at most.

    No two files have one name, their case aside, and none has the name of another's folder.
    """

    @abstractmethod
    def add(self, item: Item) -> Iterator[File]:
        """Write an image, and give the files that are finished by that; raises AnymaskError."""

    def finish(self) -> Iterator[File]:
        """Give the files that are finished once no image follows."""
        yield from ()

    def close(self) -> None:  # noqa: B027 (most have none open)
        """Close open files, also where an image could not be written."""


class ClassNumbers:
    """The project's classes as a format numbers them: masks of no class, or of one that is gone, are `UNNAMED`."""

    UNNAMED = "object"

    def __init__(self, classes: Sequence[Class]) -> None:
        self.classes = tuple(classes)
        self.names: Mapping[int, str] = {each.id: each.name for each in classes}
        self._places = {each.id: place for place, each in enumerate(classes)}
        self.has_unnamed = False
        """Whether a mask without a class has been met."""

    def known(self, annotation: Annotation) -> int | None:
        """Return the id of a mask's class, None where it has none."""
        return annotation.class_id if annotation.class_id in self.names else None

    def place(self, annotation: Annotation) -> int:
        """Return the place of a mask's class in the list, from 0; the next after the last for none."""
        known = self.known(annotation)
        if known is None:
            self.has_unnamed = True
            return len(self.classes)
        return self._places[known]

    def name(self, annotation: Annotation) -> str:
        """Return the name of a mask's class."""
        known = self.known(annotation)
        return self.UNNAMED if known is None else self.names[known]

    def all_names(self) -> list[str]:
        """Return the names in their order, with that of no class if it was met."""
        return [*(each.name for each in self.classes), *[self.UNNAMED] * self.has_unnamed]


def project_items(
    project: Project,
    images: Sequence[StoredImage] | None = None,
    *,
    read_pixels: Callable[[StoredImage], UInt8[np.ndarray, "h w 3"]] | None = None,
) -> Iterator[Item]:
    """Give a project's images, or some of them, with their annotations as they are now, each when it is asked for.

    Files are named after the images; `read_pixels` reads an image in its own way.
    """
    chosen = project.images.all() if images is None else images
    names = stems(chosen)
    read = read_pixels or (lambda image: read_picture(project, image))
    for image in chosen:
        yield Item(
            image=image,
            annotations=project.annotations.state(image.id).annotations,
            size=image.size,
            stem=names[image.id],
            read_file=lambda image=image: image_file(project, image),  # type: ignore[misc]
            read_pixels=lambda image=image: read(image),  # type: ignore[misc]
        )


def image_file(project: Project, image: StoredImage) -> ImageFile:
    """Return an image's file: as it is where every reader shows it alike, else its pixels as a JPEG. Raises ImageError.

    A file of another size than the image had when it came to the project is refused.
    """
    encoded = image_bytes(project, image)
    header = read_header(encoded)
    suffix = _SUFFIXES.get(header.format)
    if suffix and header.is_upright and header.is_simple:
        if header.size != image.size:
            raise ImageError(f"{image.name}: has another size than when it came to the project")
        return ImageFile(content=encoded, suffix=suffix)
    return jpeg_file(read_picture(project, image))


def jpeg_file(pixels: UInt8[np.ndarray, "h w 3"]) -> ImageFile:
    """Return RGB pixels as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=_QUALITY)
    return ImageFile(content=buffer.getvalue(), suffix="jpg")


def stems(images: Sequence[StoredImage]) -> dict[int, str]:
    """Return a file's stem for each image, by its id: its name without suffix, with its id behind it if that is taken.

    All are found together: whatever suffix of ours follows, no two files have one name, their case and the way that
    accents are written aside, and none has the name of a folder that another lies in. None leads out of its folder.
    """
    choices = []
    for image in images:
        plain = _plain_stem(image.name)
        choices.append((plain, f"{plain}-{image.id}"))
    names = unique_names(choices)
    return {image.id: name for image, name in zip(images, names, strict=True)}


def _plain_stem(name: str) -> str:
    """Return an image's name without suffix, and below the folder where it is written; no folder looks like a file."""
    path = unicodedata.normalize("NFC", name.replace("\\", "/"))
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "//", "..", ".")]
    if not parts:
        return "image"
    folders = [f"{part}_" if part.casefold().endswith(_WRITTEN_SUFFIXES) else part for part in parts[:-1]]
    return str(PurePosixPath(*folders, parts[-1]).with_suffix(""))
