"""A project's images, wherever they lie, and which of them no model is trained on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8

from anymask.data.images import read_image
from anymask.engine.store import EngineSettings, Project, StoredImage
from anymask.errors import ImageError

_LOG = logging.getLogger(__name__)
_TOLD = 3
"""Images that are logged one by one."""

Note = Callable[[ImageError], None]
"""Called for each image that is left out."""

HELD_OUT = "held-out"
TRAIN = "train"


def image_bytes(project: Project, image: StoredImage) -> bytes:
    """Return an image's file, from the disk or from any store that fsspec knows. Raises ImageError."""
    if "://" in image.location:
        return read_address(image.location)
    try:
        return project.path(image.location).read_bytes()
    except OSError as error:
        raise ImageError(f"{image.location}: cannot be read ({error.strerror or error})") from error


def read_address(address: str) -> bytes:
    """Return a file by its path, or by its address in any store that fsspec knows. Raises ImageError."""
    try:
        import fsspec

        with fsspec.open(address, "rb") as file:
            return bytes(file.read())
    except ImportError as error:
        raise ImageError(f"{address}: cannot be opened ({error}): pip install 'anymask[engine]'") from error
    except Exception as error:  # each file system of fsspec raises its own kinds
        raise ImageError(f"{address}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_picture(project: Project, image: StoredImage) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image of the project; raises ImageError where it is broken or no longer of the size that it had."""
    return read_file_and_picture(project, image)[1]


def read_file_and_picture(project: Project, image: StoredImage) -> tuple[bytes, UInt8[np.ndarray, "h w 3"]]:
    """Return an image's file, and what is in it. Raises ImageError, as `read_picture` does."""
    try:
        encoded = image_bytes(project, image)
        pixels = read_image(encoded)
    except ImageError as error:
        raise ImageError(f"{image.name}: {error}") from error
    if pixels.shape[:2] != image.size:
        raise ImageError(
            f"{image.name}: has {pixels.shape[0]} x {pixels.shape[1]} pixels now, and had "
            f"{image.size[0]} x {image.size[1]} when it came to the project"
        )
    return encoded, pixels


@contextmanager
def leaving_out(purpose: str) -> Iterator[Note]:
    """Give what hears why an image is left out of something: the first few are told in the log, the others counted.

    An image that is met twice counts once.
    """
    reasons: set[str] = set()

    def note(error: ImageError) -> None:
        if str(error) in reasons:
            return
        reasons.add(str(error))
        if len(reasons) <= _TOLD:
            _LOG.warning("left out of %s: %s", purpose, error)

    try:
        yield note
    finally:
        if len(reasons) > _TOLD:
            _LOG.warning("left out of %s: %s more images that cannot be read", purpose, len(reasons) - _TOLD)


def split_of(image: StoredImage, settings: EngineSettings) -> str:
    """Return "held-out" or "train": as the image was given, or by a hash of its location, which never changes."""
    if image.split is not None:
        return image.split
    return HELD_OUT if chance(image.location, "split") < settings.held_out else TRAIN


def chance(location: str, purpose: str) -> float:
    """Return a number from 0 to below 1 for an image and a purpose, always the same.

    A true hash: with a checksum, such as CRC-32, neighbouring names (p0.png, p1.png, …) fall on one side together.
    """
    digest = hashlib.blake2b(f"{purpose} {location}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
