"""Masks drawn as pictures: maps of instances, binary masks, and folders of binary masks.

What is transparent is no object; where all that is opaque is black, the opaque part is the object. In a map that
numbers its masks from 1 the brightest value (255, or 65535 in 16 bits) is void, as in PASCAL VOC: what is not judged.
So it is where it is but an outline between others.
"""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Int
from PIL import Image

from anymask.data.listing import list_images
from anymask.data.sample import sample_indices
from anymask.errors import DataError

_LOG = logging.getLogger(__name__)

_VOID_COLOR = 224 + 224 * 256 + 192 * 65536
"""PASCAL VOC's, where its palette was written out as colours."""
_LOSSY = ("JPEG", "MPO")
_OUTLINE = np.ones((9, 9), np.uint8)
"""What does not fit into an outline; VOC's are five pixels wide."""
_MAX_LABELS = 10_000
"""Values of a map; a photograph taken for one has more."""


def read_separate(
    folder: Path, size: tuple[int, int], most: int | None = None, rng: np.random.Generator | None = None
) -> Bool[np.ndarray, "m h w"]:
    """Read a folder of binary masks; empty ones are left out. Raises DataError where none is left."""
    files = list_images(folder)
    masks = []
    for i in sample_indices(len(files), most, rng):
        values, _ = _values(files[i], size)
        if values.any():
            masks.append(values > values.max() / 2)
    if not masks:
        raise DataError(f"{folder} holds no mask that is not empty")
    return np.stack(masks)


def read_map(
    file: Path, size: tuple[int, int], most: int | None = None, rng: np.random.Generator | None = None
) -> Bool[np.ndarray, "m h w"]:
    """Read a map of instances, or a binary mask, which is a map of one. Raises DataError where all of it is 0."""
    values, is_lossy = _values(file, size)
    if is_lossy or (values.max() == 255 and not _has_interior(values)):
        values = (values > values.max() / 2).astype(np.int64)
    labels = [int(value) for value in np.unique(values) if value]
    void = _void(labels, values)
    if void is not None:
        labels.remove(void)
        _LOG.info("%s: the value %d is void around %d masks", file, void, len(labels))
    if not labels:
        raise DataError(f"{file} holds no mask: every pixel is 0")
    if len(labels) > _MAX_LABELS:
        raise DataError(f"{file} is no map of masks: it has {len(labels):,} different values")
    return np.stack([values == labels[i] for i in sample_indices(len(labels), most, rng)])


def _void(labels: list[int], values: Int[np.ndarray, "h w"]) -> int | None:
    """Return the label that is void, or None.

    Maps that are to be looked at spread their values evenly: in those the second largest is above half the largest.
    """
    if _VOID_COLOR in labels and len(labels) > 1:
        return _VOID_COLOR
    if len(labels) < 2 or labels[-1] not in (255, 65535) or labels[-2] >= labels[-1] - 1:
        return None
    largest, others = labels[-1], labels[:-1]
    numbered = others[0] <= 2 and others[-1] - others[0] < 2 * len(others)
    is_outline = others[-1] < largest // 2 and not cv2.erode((values == largest).view(np.uint8), _OUTLINE).any()
    return largest if numbered or is_outline else None


def _has_interior(values: Int[np.ndarray, "h w"]) -> bool:
    """Whether a value between 0 and 255 fills a 3×3 square; in a binary mask with smoothed edges none does."""
    grey, square = values.astype(np.uint8), np.ones((3, 3), np.uint8)
    flat = cv2.erode(grey, square) == cv2.dilate(grey, square)
    return bool((flat & (values > 0) & (values < 255)).any())


def _values(file: Path, size: tuple[int, int]) -> tuple[Int[np.ndarray, "h w"], bool]:
    """Read a map's numbers, 0 where it is transparent, and whether its compression changes values.

    Numbers are as they are stored: grey of any depth, palette indices; colours as one number each.
    """
    try:
        with Image.open(file) as image:
            is_lossy = image.format in _LOSSY
            opaque = _opaque(image)
            if image.mode in ("RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"):
                pixels = np.asarray(image.convert("RGB"))
            else:
                mode = {"PA": "P", "La": "L"}.get(image.mode, image.mode)
                pixels = np.asarray(image.convert(mode) if mode != image.mode else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as a mask: {error}") from error
    if pixels.shape[:2] != size:
        raise DataError(
            f"{file} has {pixels.shape[0]} x {pixels.shape[1]} pixels, its image {size[0]} x {size[1]}; "
            "they must be the same"
        )
    values = _numbers(pixels, file)
    if opaque is None:
        return values, is_lossy
    return (opaque.astype(np.int64) if not values[opaque].any() else np.where(opaque, values, 0)), is_lossy


def _opaque(image: Image.Image) -> Bool[np.ndarray, "h w"] | None:
    """Return what is opaque; None where all of a picture is, or nothing."""
    if not image.has_transparency_data:
        return None
    alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
    opaque: Bool[np.ndarray, "h w"] = alpha > alpha.max() / 2
    return opaque if opaque.any() and not opaque.all() else None


def _numbers(pixels: np.ndarray, file: Path) -> Int[np.ndarray, "h w"]:
    """Return one whole number for each pixel; raises DataError for numbers that are none."""
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all() or (np.abs(pixels) >= 2**31).any():
            raise DataError(f"{file} is no map of masks: it holds NaN, infinity or huge numbers")
        if pixels.size and 0 < pixels.max() <= 1 and (pixels != np.rint(pixels)).any():
            pixels = pixels > 0.5
    if pixels.ndim == 2:
        return pixels.astype(np.int64)
    if pixels.shape[2] == 2 or (pixels == pixels[:, :, :1]).all():  # grey with alpha, or grey as colours
        return pixels[:, :, 0].astype(np.int64)
    return np.asarray((pixels.astype(np.int64) * (1, 256, 65536)).sum(2))
