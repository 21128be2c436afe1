"""Pictures that are not RGB: which bands a model sees as red, green and blue, and in which range, stated and kept.

`read_image` stretches deep pictures by what each of them holds, so that the same thing looks different from picture to
picture. Where values mean something (reflectance, temperature, counts) a mapping states them once; a model tuned with
one carries it in its checkpoint and applies it to whatever it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from anymask.data.images import ImageSource, check_size, read_header, read_image
from anymask.data.tiff import describe, read_tiff
from anymask.errors import ImageError, InputError

_TIFF = (".tif", ".tiff")
_MAX_BYTES_PER_PIXEL = 16
"""Bytes per pixel that are allowed for the most pixels: a satellite image of 120 million pixels with 13 bands of 16
bits can be read.
"""
_WORDS = re.compile(r"\s*([\d,\s]+?)\s*:\s*([-+.\deE]+)\s*\.\.\s*([-+.\deE]+)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelMapping:
    """Which bands, counted from 0, become red, green and blue, and the values that become 0 and 255 in each.

    Values between are mapped linearly, those beyond are cut off, NaN becomes 0. A grey picture is three times the same
    band. Raises InputError for an invalid mapping.
    """

    bands: tuple[int, int, int]
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse bands below 0 and empty ranges."""
        if len(self.bands) != 3 or min(self.bands) < 0:
            raise InputError(f"bands are {list(self.bands)}; three of 0 and above are needed, for red, green and blue")
        if len(self.low) != 3 or len(self.high) != 3 or not np.isfinite([*self.low, *self.high]).all():
            raise InputError("a range of channels needs a finite low and high for each of red, green and blue")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise InputError(f"ranges go from {list(self.low)} to {list(self.high)}; each low must be below its high")

    @classmethod
    def parse(cls, text: str) -> ChannelMapping:
        """Read `BANDS:LOW..HIGH`, bands counted from 0: "3,2,1:0..10000", or one band for grey, "0:0..4095"."""
        found = _WORDS.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            bands = [int(part) for part in found[1].split(",")]
            low, high = float(found[2]), float(found[3])
            if len(bands) not in (1, 3):
                raise ValueError
        except ValueError:
            raise InputError(
                f"channels {text!r} are not BANDS:LOW..HIGH, one band or three counted from 0, such as 3,2,1:0..10000"
            ) from None
        three = bands * 3 if len(bands) == 1 else bands
        return cls(bands=(three[0], three[1], three[2]), low=(low,) * 3, high=(high,) * 3)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON keeps them."""
        return {"bands": list(self.bands), "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ChannelMapping:
        """Return what `to_dict` was called on; raises InputError."""
        try:
            bands, low, high = (tuple(values[name]) for name in ("bands", "low", "high"))
            return cls(bands=tuple(int(b) for b in bands), low=low, high=high)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{str(values)[:80]} is no mapping of channels") from error

    def apply(self, bands: Shaped[np.ndarray, "h w *c"], name: str = "the image") -> UInt8[np.ndarray, "h w 3"]:
        """Map an array of bands, (h, w) or (h, w, c), to RGB; raises ImageError where it has too few."""
        if bands.ndim == 2:
            bands = bands[:, :, None]
        if bands.ndim != 3 or bands.shape[2] <= max(self.bands):
            count = bands.shape[2] if bands.ndim == 3 else 0
            raise ImageError(f"{name} has {count} bands; the model's mapping asks for band {max(self.bands)}, from 0")
        rgb = np.empty((*bands.shape[:2], 3), np.uint8)
        for place, (band, low, high) in enumerate(zip(self.bands, self.low, self.high, strict=True)):
            share = (bands[:, :, band].astype(np.float32) - np.float32(low)) / np.float32(high - low)
            rgb[:, :, place] = (np.nan_to_num(share, nan=0.0).clip(0, 1) * 255).round()
        return rgb


def stated(mapping: ChannelMapping | None) -> dict[str, Any] | None:
    """Return a mapping as plain values, or None where there is none."""
    return None if mapping is None else mapping.to_dict()


def read_mapped(source: ImageSource, mapping: ChannelMapping | None) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image as a mapping says, or as `read_image` does where there is none; raises ImageError.

    A uint8 array of three channels has been mapped already, and is returned as it is.
    """
    if mapping is None or (isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.shape[2:] == (3,)):
        return read_image(source)
    if isinstance(source, np.ndarray):
        return mapping.apply(source, "the image array")
    if not isinstance(source, str | Path):
        raise ImageError("a model with channels of its own reads paths and arrays; give one of them")
    return mapping.apply(read_bands(source), str(source))


def read_bands(path: str | Path) -> Shaped[np.ndarray, "h w c"]:
    """Read all bands of a file, as deep as they are stored: TIFF of any number of bands, PNG of 8 or 16 bits.

    Bands may be interleaved, planar, or a page each. What is too large (see `read_image`) is refused by its header.
    Raises ImageError; TIFF needs tifffile (extra `bands`).
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: there is no such file")
    if path.suffix.lower() in _TIFF:
        found = describe(path, str(path))
        check_size(found.size[::-1], str(path), None, found.bytes_per_pixel, most=_MAX_BYTES_PER_PIXEL)
        values = read_tiff(path, str(path))
    else:
        read_header(path)
        values = _other(path)
    values = values[:, :, None] if values.ndim == 2 else values
    if values.ndim != 3 or not values.size or values.dtype.kind not in "uif":
        raise ImageError(f"{path}: holds {values.dtype} values of shape {values.shape}; bands of numbers were expected")
    return values


def _other(path: Path) -> Shaped[np.ndarray, "*shape"]:
    import cv2

    found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ImageError(f"{path}: not an image that can be read by bands; TIFF and PNG can")
    return found[:, :, [2, 1, 0, *range(3, found.shape[2])]] if found.ndim == 3 else found
