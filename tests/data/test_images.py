from __future__ import annotations

import io
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from anymask.data.images import read_header, read_image
from anymask.errors import AnymaskError, ImageError, InputError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def encode_deep(array: np.ndarray, suffix: str) -> bytes:
    """16-bit colour, which Pillow cannot write."""
    order = [2, 1, 0, *range(3, array.shape[2])]
    written, data = cv2.imencode(suffix, array[:, :, order])
    assert written
    return data.tobytes()


def with_png_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """Insert a chunk right after the header (8 bytes of signature, 25 of IHDR)."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes do not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 10)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff_deep(array: np.ndarray, orientation: int) -> bytes:
    """An uncompressed little-endian TIFF of 16-bit RGB with an orientation tag."""
    height, width, _ = array.shape
    pixels = array.astype("<u2").tobytes()
    bits_at = 8 + len(pixels)
    short, long = 3, 4
    entries = [
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, 3, bits_at),
        (259, short, 1, 1),
        (262, short, 1, 2),
        (273, long, 1, 8),
        (274, short, 1, orientation),
        (277, short, 1, 3),
        (278, long, 1, height),
        (279, long, 1, len(pixels)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    bits = struct.pack("<HHH", 16, 16, 16)
    return struct.pack("<2sHI", b"II", 42, bits_at + 6) + pixels + bits + directory + b"\0" * 4


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (7, 11, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def deep() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 65536, (24, 36, 3), dtype=np.uint16)


def test_every_kind_of_source_gives_the_same_array(tmp_path: Path, picture: np.ndarray) -> None:
    data = encode(Image.fromarray(picture), "PNG")
    path = tmp_path / "ein Bild é.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        sources = [path, str(path), data, io.BytesIO(data), file, Image.fromarray(picture), picture]
        for source in sources:
            image = read_image(source)
            np.testing.assert_array_equal(image, picture)
            assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable


def test_an_array_is_copied_only_when_it_must_be(picture: np.ndarray) -> None:
    assert read_image(picture) is picture
    frozen = picture.copy()
    frozen.flags.writeable = False
    for source in (frozen, picture[::-1, ::2], np.asfortranarray(picture)):
        image = read_image(source)
        np.testing.assert_array_equal(image, source)
        assert image.flags.c_contiguous and image.flags.writeable and not np.shares_memory(image, source)


def test_grey_arrays_become_three_equal_channels(picture: np.ndarray) -> None:
    grey = picture[:, :, 0]
    expected = np.stack([grey] * 3, axis=2)
    for source in (grey, grey[:, :, None], Image.fromarray(grey), encode(Image.fromarray(grey), "BMP")):
        np.testing.assert_array_equal(read_image(source), expected)


def test_bool_and_one_bit_become_black_and_white(picture: np.ndarray) -> None:
    mask = picture[:, :, 0] > 128
    expected = np.where(mask[:, :, None], 255, 0).repeat(3, axis=2)
    one_bit = Image.fromarray(mask)
    for source in (mask, one_bit, encode(one_bit, "PNG"), encode(one_bit, "TIFF", compression="group4")):
        np.testing.assert_array_equal(read_image(source), expected)


def test_transparency_is_laid_over_white() -> None:
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    expected = [[RED, WHITE, (127, 127, 127)]]
    for source in (rgba, Image.fromarray(rgba), encode(Image.fromarray(rgba), "PNG")):
        np.testing.assert_array_equal(read_image(source), expected)
    grey_alpha = np.array([[[40, 255], [40, 0], [0, 128]]], np.uint8)
    expected = [[(40,) * 3, WHITE, (127,) * 3]]
    for source in (grey_alpha, encode(Image.fromarray(grey_alpha, "LA"), "PNG")):
        np.testing.assert_array_equal(read_image(source), expected)


def test_transparency_of_16_bits_and_of_bool() -> None:
    deep = np.array([[[0, 0, 0, 65535], [65535, 0, 0, 65535], [0, 0, 0, 0]]], np.uint16)
    for source in (deep, encode_deep(deep, ".png")):
        np.testing.assert_array_equal(read_image(source), [[(0, 0, 0), RED, WHITE]])
    np.testing.assert_array_equal(read_image(np.array([[[False, True], [False, False]]])), [[(0,) * 3, WHITE]])


@pytest.mark.parametrize("transparent", [1, bytes([255, 0, 255])])
def test_palette_with_and_without_transparency(transparent: int | bytes) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    np.testing.assert_array_equal(read_image(encode(image, "PNG")), [[RED, GREEN, BLUE]])
    np.testing.assert_array_equal(read_image(encode(image, "PNG", transparency=transparent)), [[RED, WHITE, BLUE]])


def test_a_transparent_colour_is_laid_over_white() -> None:
    image = Image.fromarray(np.array([[RED, GREEN]], np.uint8))
    np.testing.assert_array_equal(read_image(encode(image, "PNG", transparency=GREEN)), [[RED, WHITE]])


def test_cmyk_whether_inverted_by_adobe_or_not() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    jpeg = encode(cmyk, "JPEG", quality=100)
    assert b"Adobe" in jpeg
    for source in (cmyk, encode(cmyk, "TIFF"), jpeg):
        assert np.abs(read_image(source).astype(int) - RED).max() <= 3


def test_other_colour_models() -> None:
    red = Image.new("RGB", (2, 2), RED)
    for mode in ("YCbCr", "HSV", "RGBX"):
        assert np.abs(read_image(red.convert(mode)).astype(int) - RED).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp", "png16", "tiff16"])
def test_orientation_is_undone(kind: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[:8, 16:], upright[8:, :16] = RED, GREEN, BLUE
    # How a camera stores it: the inverse of what a viewer has to do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "png16":
        plain = encode_deep(stored.astype(np.uint16) * 257, ".png")
        data = with_png_chunk(plain, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    elif kind == "tiff16":
        data = tiff_deep(stored.astype(np.uint16) * 257, orientation)
    else:
        options = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(kind, {})
        data = encode(image, kind.upper(), exif=exif, **options)
    for source in (data, Image.open(io.BytesIO(data))):
        result = read_image(source)
        assert result.shape == upright.shape
        assert np.abs(result.astype(int) - upright).max() <= 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's own, and worth its line
def test_a_damaged_exif_block_does_not_spoil_the_picture(picture: np.ndarray) -> None:
    jpeg = encode(Image.fromarray(picture), "JPEG", exif=b"Exif\0\0II*\0garbage")
    assert read_image(jpeg).shape == picture.shape


def test_16_bits_are_mapped_by_percentiles() -> None:
    values = np.arange(1000, 11_000, dtype=np.uint16).reshape(100, 100)
    values[0, 0], values[99, 99] = 0, 65535  # outliers that must not flatten the rest
    low, high = np.percentile(values, (0.1, 99.9))
    expected = ((values - low) / (high - low)).clip(0, 1) * 255
    for source in (values, values.astype(">u2"), Image.fromarray(values)):
        assert np.abs(read_image(source) - expected[:, :, None]).max() <= 0.5
    assert read_image(values).min() == 0 and read_image(values).max() == 255


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_files(format_name: str, deep: np.ndarray) -> None:
    grey = deep[:, :, 0]
    np.testing.assert_array_equal(read_image(encode(Image.fromarray(grey), format_name)), read_image(grey))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_files_keep_their_depth(suffix: str, channels: int, deep: np.ndarray) -> None:
    dark = np.concatenate([deep // 1000, np.full_like(deep[:, :, :1], 65535)], axis=2)[:, :, :channels]
    image = read_image(encode_deep(dark, suffix))
    np.testing.assert_array_equal(image, read_image(dark))
    assert len(np.unique(image)) > 60  # all of it lies in the lowest upper byte, which alone would give one value


def test_integer_and_float_tiff() -> None:
    ramp = np.linspace(-7.0, 1e6, 600).reshape(20, 30)
    for source in (ramp.astype(np.float32), ramp.astype(np.int32)):
        image = read_image(encode(Image.fromarray(source), "TIFF"))
        assert image[0, 0, 0] == 0 and image[-1, -1, 0] == 255
        assert (np.diff(image[:, :, 0].ravel().astype(int)) >= 0).all()


def test_values_that_are_not_finite() -> None:
    values = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    values[0] = np.nan
    values[1], values[2] = np.inf, -np.inf
    image = read_image(Image.fromarray(values))
    assert (image[0] == 0).all() and (image[1] == 255).all() and (image[2] == 0).all()
    assert image[9, 9, 0] == 255
    with pytest.raises(ImageError, match="no finite value"):
        read_image(Image.fromarray(np.full((2, 2), np.nan, np.float32)))


def test_constant_and_nearly_constant_depth() -> None:
    assert (read_image(np.full((5, 5), 40_000, np.uint16)) == 0).all()
    stars = np.full((100, 100), 300, np.uint16)
    stars[50, 50] = 900  # rarer than the percentile
    image = read_image(stars)
    assert image[50, 50, 0] == 255 and image.sum() == 3 * 255


def test_first_frame_of_many(picture: np.ndarray) -> None:
    first, second = Image.fromarray(picture), Image.new("RGB", (11, 7))
    for format_name in ("TIFF", "PNG"):
        data = encode(first, format_name, save_all=True, append_images=[second])
        np.testing.assert_array_equal(read_image(data), picture)
    red, blue = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)
    for options in ({"format_name": "GIF"}, {"format_name": "WEBP", "lossless": True}):
        data = encode(red, save_all=True, append_images=[blue], **options)
        np.testing.assert_array_equal(read_image(data), np.full((4, 4, 3), RED))


def test_one_pixel() -> None:
    np.testing.assert_array_equal(read_image(np.array([[RED]], np.uint8)), [[RED]])


class TestRefusals:
    def check(self, source: Any, match: str, **options: Any) -> str:
        with pytest.raises(ImageError, match=match) as caught:
            read_image(source, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert isinstance(caught.value, AnymaskError)
        return message

    def test_paths(self, tmp_path: Path) -> None:
        assert "gone.png" in self.check(tmp_path / "gone.png", "there is no such file")
        assert str(tmp_path) in self.check(str(tmp_path), "is a folder")
        empty = tmp_path / "empty.jpg"
        empty.touch()
        assert "empty.jpg" in self.check(empty, "0 bytes")
        text = tmp_path / "notes.png"
        text.write_text("not a picture\n" * 100)
        assert "notes.png" in self.check(text, "not an image")
        self.check("a\0b.png", "no such file|cannot be opened")
        self.check("x" * 5000, "no such file|cannot be opened")

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "png16", "tiff16"])
    def test_truncated_files(self, tmp_path: Path, kind: str, deep: np.ndarray) -> None:
        image = Image.fromarray((deep >> 8).astype(np.uint8))
        data = encode_deep(deep, f".{kind[:-2]}") if kind.endswith("16") else encode(image, kind)
        path = tmp_path / "cut.img"
        for kept in (len(data) * 2 // 3, len(data) // 4, 12, 3):
            path.write_bytes(data[:kept])
            assert "cut.img" in self.check(path, "damaged|not an image")

    def test_other_sources(self) -> None:
        self.check(b"", "0 bytes")
        self.check(io.BytesIO(b""), "0 bytes")
        self.check(io.StringIO("text"), "StringIO")
        self.check(None, "NoneType")
        self.check([[1, 2], [3, 4]], "list")

    def test_postscript_is_never_run(self) -> None:
        self.check(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image")

    def test_arrays(self) -> None:
        self.check(np.zeros((4, 4, 3)), r"float64.*uint8.*\* 255")
        self.check(np.full((4, 4, 3), np.nan, np.float32), "NaN")
        self.check(np.zeros((4, 4, 3), np.int64), "int64.*uint8")
        self.check(np.zeros((4, 4, 5), np.uint8), r"\(4, 4, 5\)")
        self.check(np.zeros((3, 40, 50), np.uint8), "transpose")
        self.check(np.zeros(4, np.uint8), r"\(4,\)")
        self.check(np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)")

    def test_no_pixels(self) -> None:
        for shape in ((0, 5, 3), (5, 0, 3), (0, 0)):
            self.check(np.zeros(shape, np.uint8), "no pixels")
        self.check(Image.new("RGB", (0, 5)), "no pixels")
        self.check(png_of_size(0, 5), "no pixels|damaged|not an image")

    def test_too_many_pixels_are_refused_from_the_header(self, tmp_path: Path) -> None:
        bomb = tmp_path / "bomb.png"
        bomb.write_bytes(png_of_size(60_000, 60_000))  # 10 GB once decoded
        message = self.check(bomb, "3,600,000,000 pixels, more than the 200,000,000 allowed")
        assert "bomb.png" in message and "max_pixels" in message
        self.check(Image.new("L", (10, 10)), "100 pixels", max_pixels=99)
        assert read_image(Image.new("L", (10, 10)), max_pixels=100).shape == (10, 10, 3)

    def test_many_bytes_a_pixel_are_refused_from_the_header(self, tmp_path: Path) -> None:
        tifffile = pytest.importorskip("tifffile")
        path = tmp_path / "bands.tif"
        tifffile.imwrite(path, np.zeros((10, 10, 3), np.float32), photometric="rgb")
        assert read_image(path, max_pixels=150).shape == (10, 10, 3)
        self.check(path, "10×10 pixels of 12 bytes are 1,200 bytes, more than 8 for each of the 149", max_pixels=149)

    def test_the_environment_says_how_many_pixels_an_image_may_have(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bomb = png_of_size(20_000, 20_000)
        self.check(bomb, "400,000,000 pixels, more than the 200,000,000 allowed")
        monkeypatch.setenv("ANYMASK_MAX_PIXELS", "400_000_000")
        assert read_header(bomb).size == (20_000, 20_000)
        monkeypatch.setenv("ANYMASK_MAX_PIXELS", "many")
        with pytest.raises(InputError, match="ANYMASK_MAX_PIXELS=many"):
            read_header(bomb)

    def test_photographs_of_100_megapixels_are_taken(self) -> None:
        for width, height in ((4000, 3000), (11656, 8742), (12000, 9000), (16320, 12240)):
            assert read_header(png_of_size(width, height)).size == (height, width)


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_pillows_limit_is_replaced_by_ours_and_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, picture: np.ndarray, format_name: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encode(
        Image.fromarray(picture), format_name, **({"compression": "tiff_lzw"} if format_name == "TIFF" else {})
    )
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data)).load()
    failures: list[Exception] = []

    def read_often() -> None:
        try:
            for _ in range(50):
                np.testing.assert_array_equal(read_image(data), picture)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with pytest.raises(ImageError):
        read_image(b"junk")
    assert Image.MAX_IMAGE_PIXELS == 10


BANDS = {
    "planar colours of 16 bits": (3, np.uint16, {"photometric": "rgb", "planarconfig": "separate"}),
    "colours and infrared": (4, np.uint16, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    "colours and infrared, planar": (
        4,
        np.uint16,
        {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unspecified"]},
    ),
    "colours and two bands more": (5, np.uint16, {"photometric": "rgb", "extrasamples": ["unspecified"] * 2}),
    "three bands": (
        3,
        np.uint16,
        {"photometric": "minisblack", "planarconfig": "contig"},
    ),
    "colours of 32 bits": (3, np.uint32, {"photometric": "rgb"}),
    "colours as floats": (3, np.float32, {"photometric": "rgb"}),
    "grey as half floats": (1, np.float16, {"photometric": "minisblack"}),
    "grey as double floats": (1, np.float64, {"photometric": "minisblack"}),
}


@pytest.mark.parametrize("layout", list(BANDS))
def test_tiffs_of_every_layout_are_shown_by_their_colours(layout: str, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    num_bands, dtype, options = BANDS[layout]
    values = np.random.default_rng(0).integers(100, 2000, (24, 36, num_bands)).astype(dtype)
    stored = np.moveaxis(values, 2, 0) if options.get("planarconfig") == "separate" else values
    tifffile.imwrite(tmp_path / "a.tif", stored[..., 0] if num_bands == 1 else stored, **options)
    expected = read_image(values[:, :, :3].astype(np.uint16))
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - expected).max() <= 1
    assert read_header(tmp_path / "a.tif").size == (24, 36) and not read_header(tmp_path / "a.tif").is_simple


def test_bands_that_are_no_picture_point_to_the_channels(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    bands = np.zeros((24, 36, 4), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="minisblack", planarconfig="contig")
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=r"of 4 bands, which are no picture by themselves; .* --channels"):
            read(tmp_path / "a.tif")
