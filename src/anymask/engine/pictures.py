"""A project's images, wherever they lie, and which of them no model is trained on."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import UInt8

from anymask.data.images import read_image
from anymask.engine.store import EngineSettings, Project, StoredImage
from anymask.errors import ImageError

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
    try:
        pixels = read_image(image_bytes(project, image))
    except ImageError as error:
        raise ImageError(f"{image.name}: {error}") from error
    if pixels.shape[:2] != image.size:
        raise ImageError(
            f"{image.name}: has {pixels.shape[0]} x {pixels.shape[1]} pixels now, and had "
            f"{image.size[0]} x {image.size[1]} when it came to the project"
        )
    return pixels


def split_of(image: StoredImage, settings: EngineSettings) -> str:
    """Return "held-out" or "train": as the image was given, or by a hash of its location, the same for ever."""
    if image.split is not None:
        return image.split
    return HELD_OUT if chance(image.location, "split") < settings.held_out else TRAIN


def chance(location: str, purpose: str) -> float:
    """Return a number from 0 to below 1 that an image has for a purpose, however often it is asked.

    A true hash: with a checksum, such as CRC-32, neighbouring names (p0.png, p1.png, …) fall on one side together.
    """
    digest = hashlib.blake2b(f"{purpose} {location}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
