from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from anymask.data.images import Header, read_header, read_image
from anymask.errors import ImageError


def encoded(pixels: np.ndarray, format: str, orientation: int = 1, **more: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, exif=exif, **more)
    return file.getvalue()


GREY, RGB, RGBA = (np.zeros((4, 6, *channels), np.uint8) for channels in ((), (3,), (4,)))
DEEP = np.zeros((4, 6), np.uint16)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(RGB, "JPEG"), Header("JPEG", (4, 6), True, True)),
        (encoded(GREY, "JPEG", 3), Header("JPEG", (4, 6), True, False)),
        (encoded(RGB, "JPEG", 6), Header("JPEG", (6, 4), True, False)),
        (encoded(RGBA, "PNG"), Header("PNG", (4, 6), True, True)),
        (encoded(RGB, "PNG", 8), Header("PNG", (6, 4), True, False)),
        (encoded(DEEP, "PNG"), Header("PNG", (4, 6), False, True)),
        (encoded(RGB, "TIFF", 5), Header("TIFF", (6, 4), True, False)),
        (
            encoded(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(RGB + 99)]),
            Header("WEBP", (4, 6), False, True),
        ),
    ],
    ids=["jpeg", "turned by half", "turned", "png", "turned png", "deep png", "turned tiff", "animation"],
)
def test_a_header_says_what_reading_gives(data: bytes, expected: Header, tmp_path: Path) -> None:
    assert read_header(data) == expected
    assert read_image(data).shape[:2] == expected.size
    (tmp_path / "image").write_bytes(data)
    assert read_header(tmp_path / "image") == expected


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colour_is_told_and_no_pixel_decoded(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (4, 6, channels)).astype(np.uint16)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    monkeypatch.setattr(PngImageFile, "load", None)
    assert read_header(data) == Header("PNG", (4, 6), False, True)
    assert read_header(encoded(RGB, "PNG", 6)) == Header("PNG", (6, 4), True, False)


def test_the_orientation_of_a_png_may_come_after_its_pixels() -> None:
    data = encoded(RGB, "PNG", 6)
    start = data.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(data[start : start + 4])
    late = data[:start] + data[stop:-12] + data[start:stop] + data[-12:]
    assert read_header(late) == Header("PNG", (6, 4), True, False)
    assert read_image(late).shape == (6, 4, 3)


def test_what_is_no_image_or_too_large_is_refused() -> None:
    with pytest.raises(ImageError, match="not an image"):
        read_header(b"<svg/>")
    with pytest.raises(ImageError, match="more than the 23 allowed"):
        read_header(encoded(RGB, "PNG"), max_pixels=23)
