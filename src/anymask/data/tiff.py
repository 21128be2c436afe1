"""TIFF by its bands, in every layout: interleaved, planar or a page each, whole numbers or floats of any width."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from anymask.errors import ImageError

_RGB = 2
"""The value of TIFF's PhotometricInterpretation for RGB."""


class TiffBands(NamedTuple):
    """What a TIFF holds, by its header."""

    size: tuple[int, int]
    """(height, width) in pixels, as stored."""
    num_bands: int
    bytes_per_pixel: int
    """Bytes of a pixel, all bands together."""
    is_rgb: bool
    """Whether it says that its first three bands are red, green and blue."""
    orientation: int
    """EXIF's orientation, 1 to 8."""


def is_tiff(start: bytes) -> bool:
    """Whether a file that starts so is a TIFF, or a BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def describe(source: Path | bytes, name: str) -> TiffBands:
    """Read a header. Raises ImageError where it is damaged, or the package tifffile (extra `bands`) is not there."""
    with _opened(source, name) as file:
        page = _checked(name, lambda: file.series[0].keyframe)
        shape, axes = tuple(file.series[0].shape), file.series[0].axes
        if "Y" not in axes or "X" not in axes:
            raise ImageError(f"{name}: a TIFF of axes {axes}; one image of bands was expected")
        sides = shape[axes.index("Y")], shape[axes.index("X")]
        tag = page.tags.get(274)
        num_bands = math.prod(shape) // max(1, sides[0] * sides[1])
        return TiffBands(
            size=sides,
            num_bands=num_bands,
            bytes_per_pixel=num_bands * np.dtype(file.series[0].dtype or np.uint8).itemsize,
            is_rgb=int(page.photometric) == _RGB,
            orientation=tag.value if tag is not None and tag.value in range(1, 9) else 1,
        )


def read_tiff(source: Path | bytes, name: str) -> Shaped[np.ndarray, "h w *c"]:
    """Read all bands of the first image as they are stored. Raises ImageError, as `describe`."""
    with _opened(source, name) as file:
        values, axes = _checked(name, lambda: (np.asarray(file.series[0].asarray()), file.series[0].axes))
    if values.ndim == 3 and axes.index("Y") == 1:  # planes or pages first
        values = values.transpose(1, 2, 0)
    return np.asarray(values)


def _opened(source: Path | bytes, name: str) -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise ImageError(f"{name}: TIFF by bands needs tifffile: pip install 'anymask[bands]'") from error
    return _checked(name, lambda: tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source))


def _checked(name: str, read: Any) -> Any:
    try:
        return read()
    except Exception as error:  # its parser raises many kinds on damaged files
        raise ImageError(f"{name}: damaged TIFF, or one that is not read ({' '.join(str(error).split())})") from error
