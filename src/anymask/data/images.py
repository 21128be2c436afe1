"""Any picture, from anywhere, as H×W×3 uint8 RGB.

Sources differ in depth, channels, transparency and orientation; whatever comes after sees one kind of array.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, PLANAR_CONFIGURATION, TiffImageFile

from anymask.data.tiff import describe, is_tiff, read_tiff
from anymask.errors import ImageError, InputError

MAX_PIXELS = 200_000_000
"""The most pixels of an image, unless MAX_PIXELS_VARIABLE says otherwise: enough for the largest photographs, which
take 2 GiB.
"""
MAX_PIXELS_VARIABLE = "ANYMASK_MAX_PIXELS"
MAX_BYTES_PER_PIXEL = 8
"""Bytes per pixel that are allowed for the most pixels, more for smaller images: four channels of 16 bits."""
PERCENTILES = (0.1, 99.9)

ImageSource: TypeAlias = str | Path | bytes | IO[bytes] | Image.Image | NDArray[Any]

# Formats that Pillow decodes by itself. Left out on purpose: EPS (runs Ghostscript), and those without a
# signature, which would take noise for an image.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "BMP", "GIF", "JPEG2000", "PPM", "PSD", "QOI"),
    *("SGI", "ICO"),
)
_PIXELS_TOGETHER = 1 << 22
"""Number of pixels whose depth or transparency is worked on at once."""
_ORIENTATION_TAG = 0x0112
_EXIF_AS_TEXT = {"Raw profile type exif", "XML:com.adobe.xmp"}
"""Texts of a PNG in which ImageMagick and Adobe keep its EXIF or XMP."""

_pillow_lock = threading.Lock()
_pillow_readers = 0
_pillow_limit: int | None = None


def pixel_limit() -> int:
    """Return how many pixels an image may have: `MAX_PIXELS`, or what the environment says, which processes inherit."""
    said = os.environ.get(MAX_PIXELS_VARIABLE, "").replace("_", "").replace(",", "").strip()
    if not said:
        return MAX_PIXELS
    if not (said.isascii() and said.isdecimal() and 0 < int(said) < 2**62):
        raise InputError(f"{MAX_PIXELS_VARIABLE}={said[:40]}: a number of pixels was expected, such as 400000000")
    return int(said)


def read_image(source: ImageSource, *, max_pixels: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image as writable, contiguous H×W×3 uint8 RGB, upright.

    `source` is a path, the bytes of an image file, a binary file object, a PIL image, or an array: H×W or
    H×W×1 grey, H×W×2 grey and alpha, H×W×3 RGB, H×W×4 RGB and alpha, of dtype uint8, uint16 or bool.

    - *Depth*: samples of more than 8 bits (uint16; PIL's "I" and "F") are mapped linearly so that the 0.1 and
      99.9 percentiles of the finite values, over all colours together, become 0 and 255, and clipped. Where
      the two coincide the extremes are taken instead; a constant image becomes 0, and so does NaN. True is
      255. (Of 16-bit colour a PIL image keeps the upper bits only: hand in the file itself.)
    - *Transparency* (alpha, a transparent palette entry or colour) is laid over white, as a viewer shows it.
    - *Orientation*: the EXIF tag is applied to files and to PIL images that still carry it, so that a file
      gives the same array however it is handed in; points and boxes are in this upright frame.
    - *Colours*: CMYK, palette, YCbCr and the like become RGB; ICC profiles are not applied.
    - Of an animation or a document of many pages, the first frame.

    A uint8 RGB array that is already contiguous and writable is returned as it is, not copied. Files of more
    than `max_pixels` (`pixel_limit()` by default), or of more than 8 times as many bytes, are refused from their
    header, before anything is decoded.

    Raises:
        ImageError: the source is missing, empty, damaged, not an image, without pixels, too large, or of
            another kind than these.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, "the image array")
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "the PIL image")
        with _decoding(name), _pillow_limit_lifted():
            check_size(source.size, name, max_pixels, _bytes_per_pixel(source))
            return _from_pil(source, name, encoded=None)
    stream, name = _open_stream(source)
    with stream, _decoding(name), _pillow_limit_lifted():
        image = _open_header(stream, name)
        if image is None:
            return _from_tiff(stream, name, max_pixels)
        with image:
            check_size(image.size, name, max_pixels, _bytes_per_pixel(image))
            return _from_pil(image, name, encoded=stream)


class Header(NamedTuple):
    """What an image file says of itself before its pixels."""

    format: str
    """As Pillow calls it: "JPEG", "PNG", "MPO" for a JPEG with more pictures behind it, …"""
    size: tuple[int, int]
    """(height, width) in pixels, upright."""
    is_simple: bool
    """One frame of 8 bits per channel, grey or RGB, with or without transparency."""
    is_upright: bool
    """Whether the file has no orientation to be undone."""


def read_header(source: str | Path | bytes, *, max_pixels: int | None = None) -> Header:
    """Read what kind of image a path or the bytes of a file are, and its size, decoding no pixels.

    Raises ImageError as `read_image`.
    """
    stream, name = _open_stream(source)
    with stream, _decoding(name), _pillow_limit_lifted():
        image = _open_header(stream, name)
        header = _tiff_header(stream, name) if image is None else _header(image, stream)
        check_size(header.size[::-1], name, max_pixels)
        return header


def _header(opened: Image.Image, stream: IO[bytes]) -> Header:
    with opened as image:
        shallow = image.mode in ("L", "RGB", "RGBA", "LA", "P", "1") and not _is_deep_colour(image)
        by_chunk = image.format == "PNG" and not _EXIF_AS_TEXT & image.info.keys()
        orientation = _png_orientation(stream) if by_chunk else _orientation(image)
        # Not n_frames: to count a GIF's frames is to go through all of them.
        is_single = image.format == "MPO" or not getattr(image, "is_animated", False)
        width, height = image.size
        if isinstance(image, TiffImageFile):  # of which newer Pillows give the size as it will be, turned
            width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
        return Header(
            format=str(image.format),
            size=(width, height) if orientation >= 5 else (height, width),
            is_simple=shallow and is_single,
            is_upright=orientation == 1,
        )


def _open_stream(source: object) -> tuple[IO[bytes], str]:
    """The source as a seekable binary stream of at least one byte, and what to call it in messages."""
    if isinstance(source, str | Path):
        return _open_path(Path(source)), str(source)
    name = "the image bytes"
    data: object = source
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the image file object"))
        data = source.read()
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(
            f"cannot read an image from a {type(source).__name__}: "
            "give a path, bytes, a binary file object, a PIL image or an H×W×3 uint8 array"
        )
    if not len(data):
        raise ImageError(f"{name}: empty, 0 bytes where an image was expected")
    return io.BytesIO(data), name


def _open_path(path: Path) -> IO[bytes]:
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, an image file was expected")
        if not path.is_file():
            raise ImageError(f"{path}: there is no such file")
        if not path.stat().st_size:
            raise ImageError(f"{path}: empty, 0 bytes where an image was expected")
        return path.open("rb")
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path}: cannot be opened ({_reason(error)})") from error


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged data into an `ImageError` that names the image."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: too large for the memory of this machine") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, EOFError, ...
        raise ImageError(f"{name}: damaged or incomplete image ({_reason(error)})") from error


def _open_header(stream: IO[bytes], name: str) -> Image.Image | None:
    """Parse the header only; pixels are decoded when they are first asked for. None for a TIFF that Pillow cannot."""
    Image.init()
    formats = [known for known in _FORMATS if known in Image.OPEN]
    try:
        image = Image.open(stream, formats=formats)
    except UnidentifiedImageError as error:
        stream.seek(0)
        if is_tiff(stream.read(4)):
            return None
        raise ImageError(f"{name}: not an image (JPEG, PNG, TIFF, WebP or the like)") from error
    if isinstance(image, TiffImageFile) and _is_planar_and_deep(image):  # of which it would keep the upper 8 bits
        return None
    return image


def _is_planar_and_deep(image: TiffImageFile) -> bool:
    return bool(image.tag_v2.get(PLANAR_CONFIGURATION, 1) == 2 and max(image.tag_v2.get(BITSPERSAMPLE, (8,))) > 8)


def _tiff_header(stream: IO[bytes], name: str) -> Header:
    """Read the header of a TIFF by its bands; raises ImageError where those are no picture by themselves."""
    found = describe(_whole(stream), name)
    if found.num_bands not in (1, 3) and not (found.is_rgb and found.num_bands > 3):
        raise ImageError(
            f"{name}: a TIFF of {found.num_bands} bands, which are no picture by themselves; say which of them are "
            "red, green and blue and in which range, as --channels 2,1,0:0..4000 does"
        )
    size = found.size[::-1] if found.orientation >= 5 else found.size
    return Header(format="TIFF", size=size, is_simple=False, is_upright=found.orientation == 1)


def _whole(stream: IO[bytes]) -> Path | bytes:
    """Return where a file lies, which takes no memory, or the bytes of what is none."""
    if isinstance(stream, io.BufferedReader):
        return Path(stream.name)
    stream.seek(0)
    return stream.read()


def _from_tiff(stream: IO[bytes], name: str, max_pixels: int | None) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a TIFF by its bands: grey, or the first three as red, green and blue; alpha is ignored."""
    _tiff_header(stream, name)
    encoded = _whole(stream)
    found = describe(encoded, name)
    check_size(found.size[::-1], name, max_pixels, found.bytes_per_pixel)
    values = read_tiff(encoded, name)
    del encoded  # as large as the values
    values = values[:, :, :3] if values.ndim == 3 and values.shape[2] > 3 else values
    if values.dtype.kind not in "uifb" or values.ndim not in (2, 3):
        raise ImageError(f"{name}: a TIFF of {values.dtype} values of shape {values.shape}; grey or RGB was expected")
    return np.require(_upright(_to_rgb(values, name), found.orientation), np.uint8, ["C", "W", "E"])


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Lift Pillow's own limit on pixels while at least one thread is inside: `max_pixels` takes its place.

    The limit is a global, read when a file is opened and (TIFF) again when it is decoded. Decoding runs in
    parallel, so the first thread in saves it and the last one out puts it back. Filtering the warning instead
    would not do: above twice the limit it is an error, and the filters are global as well.
    """
    global _pillow_readers, _pillow_limit
    with _pillow_lock:
        if _pillow_readers == 0:
            _pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _pillow_readers += 1
    try:
        yield
    finally:
        with _pillow_lock:
            _pillow_readers -= 1
            if _pillow_readers == 0:
                Image.MAX_IMAGE_PIXELS = _pillow_limit


def check_size(
    size: tuple[int, int],
    name: str,
    max_pixels: int | None = None,
    bytes_per_pixel: int = 1,
    *,
    most: int = MAX_BYTES_PER_PIXEL,
) -> None:
    """Raise ImageError for an image of `size` = (width, height) that is larger than allowed, or empty.

    `most` bytes per pixel are allowed at `max_pixels` (`pixel_limit()` by default), more of smaller images.
    """
    width, height = size
    limit = pixel_limit() if max_pixels is None else max_pixels
    if not width or not height:
        raise ImageError(f"{name}: has no pixels ({width}×{height})")
    hint = f"raise --max-pixels (max_pixels in Python, or {MAX_PIXELS_VARIABLE}) if the image is genuine"
    if width * height > limit:
        raise ImageError(
            f"{name}: {width}×{height} is {width * height:,} pixels, more than the {limit:,} allowed; {hint}"
        )
    if width * height * bytes_per_pixel > limit * most:
        raise ImageError(
            f"{name}: {width}×{height} pixels of {bytes_per_pixel} bytes are {width * height * bytes_per_pixel:,} "
            f"bytes, more than {most} for each of the {limit:,} pixels allowed; {hint}"
        )


def _bytes_per_pixel(image: Image.Image) -> int:
    """Return what a pixel takes as it is decoded; 16-bit colour is read apart, at its full depth."""
    sample = 2 if image.mode.startswith("I;16") or _is_deep_colour(image) else 4 if image.mode in ("I", "F") else 1
    return sample * len(image.getbands())


def _from_pil(image: Image.Image, name: str, *, encoded: IO[bytes] | None) -> UInt8[np.ndarray, "h w 3"]:
    """Decode, bring to RGB and turn upright; `encoded` is the file behind an image read from one."""
    deep_colour = encoded is not None and _is_deep_colour(image)
    format_name = image.format
    image.load()
    orientation = _orientation(image)  # after load(): only then is a PNG's known, and a TIFF already turned
    if deep_colour and encoded is not None:
        image.im = None  # type: ignore[assignment]  # of 8 bits, which is not wanted, and large
        array = _decode_deep_colour(encoded, name, has_alpha=format_name != "TIFF" or image.mode != "RGB")
        if format_name == "TIFF":
            orientation = 1  # OpenCV turns TIFF by itself
    elif image.mode.startswith("I;16"):
        array = np.asarray(image).astype(np.uint16)
    elif image.mode in ("I", "F"):
        array = np.asarray(image)
    elif image.mode == "1":
        array = np.asarray(image.convert("L"))
    elif image.has_transparency_data:
        array = np.asarray(image.convert("RGBA"))
    else:
        array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return np.require(_upright(_to_rgb(array, name), orientation), np.uint8, ["C", "W", "E"])


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether the file holds 16 bits for each of several channels, of which Pillow would keep the upper 8."""
    tiles = getattr(image, "tile", None) or []
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in tiles)


def _decode_deep_colour(encoded: IO[bytes], name: str, *, has_alpha: bool) -> NDArray[Any]:
    """Read 16-bit colour; a fourth band of a TIFF that is not said to be alpha is none, such as infrared."""
    encoded.seek(0)
    array = cv2.imdecode(np.frombuffer(encoded.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.ndim != 3:
        raise ImageError(f"{name}: 16-bit colour stored in a way that is not read; save it as PNG")
    colour = array[:, :, :3][:, :, ::-1]
    if not has_alpha or array.shape[2] == 3:
        return colour
    return np.asarray(cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA, dst=array))


def _png_orientation(stream: IO[bytes]) -> int:
    """Find a PNG's orientation by its chunks, before its pixels or behind: asking Pillow would decode them."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind == b"eXIf":
            exif = Image.Exif()
            try:
                exif.load(b"Exif\0\0" + stream.read(length))
            except Exception:  # as `_orientation`
                return 1
            return _orientation_of(exif)
        if kind == b"IEND":
            break
        stream.seek(length + 4, io.SEEK_CUR)
    return 1


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where there is none or it cannot be read."""
    try:
        return _orientation_of(image.getexif())
    except Exception:  # a damaged EXIF block does not spoil the picture; its parser raises many kinds
        return 1


def _orientation_of(exif: Image.Exif) -> int:
    value = exif.get(_ORIENTATION_TAG, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: UInt8[np.ndarray, "h w 3"], orientation: int) -> UInt8[np.ndarray, "h w 3"]:
    """Undo an EXIF orientation: 2–4 mirror or turn by half, 5–8 also swap the sides (EXIF 2.3)."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _from_array(array: NDArray[Any], name: str) -> UInt8[np.ndarray, "h w 3"]:
    if array.dtype.kind == "f":
        nan = " and holds NaN" if array.size and np.isnan(array).any() else ""
        raise ImageError(
            f"{name} has dtype {array.dtype}{nan}, uint8 from 0 to 255 was expected: "
            "for values from 0 to 1 give (image * 255).round().astype(np.uint8)"
        )
    if array.dtype != np.bool_ and not (array.dtype.kind == "u" and array.dtype.itemsize <= 2):
        raise ImageError(
            f"{name} has dtype {array.dtype}, uint8, uint16 or bool was expected: "
            "for values from 0 to 255 give image.astype(np.uint8)"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        planar = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = ": for channels first give image.transpose(1, 2, 0)" if planar else ""
        raise ImageError(f"{name} has shape {array.shape}, H×W or H×W×(1 to 4) was expected{hint}")
    if not array.size:
        raise ImageError(f"{name} has no pixels (shape {array.shape})")
    return np.require(_to_rgb(array, name), np.uint8, ["C", "W", "E"])


def _to_rgb(array: NDArray[Any], name: str) -> UInt8[np.ndarray, "h w 3"]:
    """Any depth, 1 to 4 channels → RGB over white; a few rows at a time, as images can be huge."""
    if array.ndim == 2:
        array = array[:, :, None]
    height, width, channels = array.shape
    if array.dtype == np.uint8 and channels == 3:
        return array
    has_alpha = channels in (2, 4)
    colour = array[:, :, :-1] if has_alpha else array
    is_deep = colour.dtype.itemsize > 1 or colour.dtype.kind == "i"
    low, high = _range(colour, name) if is_deep else (0.0, 0.0)
    rgb = np.empty((height, width, 3), np.uint8)
    for first in range(0, height, step := max(1, _PIXELS_TOGETHER // width)):
        rows = slice(first, first + step)
        part = _scale(colour[rows], low, high) if is_deep else colour[rows]
        if part.dtype == np.bool_:
            part = part.astype(np.uint8) * np.uint8(255)
        rgb[rows] = _over_white(part, array[rows, :, -1:]) if has_alpha else part
    return rgb


def _range(values: NDArray[Any], name: str) -> tuple[float, float]:
    """Return the percentiles `PERCENTILES` of the finite values, or the extremes where the two coincide."""
    if values.dtype == np.uint16:
        return _range_of_16_bits(values)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        raise ImageError(f"{name}: holds no finite value, only NaN or infinity")
    low, high = (float(bound) for bound in np.percentile(finite, PERCENTILES))
    return (float(finite.min()), float(finite.max())) if low == high else (low, high)


def _range_of_16_bits(values: UInt16[np.ndarray, "h w c"]) -> tuple[float, float]:
    """Return the same by counting, as sorting takes the memory of several copies."""
    counts = np.zeros(65536, np.int64)
    step = max(1, _PIXELS_TOGETHER // (values.shape[1] * values.shape[2]))
    for first in range(0, len(values), step):
        counts += np.bincount(values[first : first + step].ravel(), minlength=65536)
    upto = counts.cumsum()
    places = [share / 100 * (int(upto[-1]) - 1) for share in PERCENTILES]
    below = [int(np.searchsorted(upto, int(place), side="right")) for place in places]
    above = [int(np.searchsorted(upto, min(int(place) + 1, int(upto[-1]) - 1), side="right")) for place in places]
    low, high = (a + (b - a) * (place % 1) for a, b, place in zip(below, above, places, strict=True))
    if low == high:
        present = np.flatnonzero(counts)
        low, high = float(present[0]), float(present[-1])
    return low, high


def _scale(values: NDArray[Any], low: float, high: float) -> UInt8[np.ndarray, "*shape"]:
    if low == high:
        return np.zeros(values.shape, np.uint8)
    fraction = (values.astype(np.float64) - low) / (high - low)
    return np.asarray((np.nan_to_num(fraction, nan=0.0).clip(0, 1) * 255).round(), np.uint8)


def _over_white(colour: UInt8[np.ndarray, "h w c"], alpha: NDArray[Any]) -> UInt8[np.ndarray, "h w c"]:
    """Lay colours with (unassociated) alpha over white, rounding to nearest."""
    if alpha.dtype == np.bool_:
        alpha = alpha * np.uint8(255)
    elif alpha.dtype.itemsize > 1:
        alpha = alpha >> 8
    if alpha.min() == 255:
        return colour
    darkness = (255 - colour) * alpha.astype(np.uint16)  # ≤ 255²
    darkness += 127
    darkness //= 255
    return 255 - darkness.astype(np.uint8)


def _reason(error: BaseException) -> str:
    """The cause on one line, without a path that the message already names."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())
