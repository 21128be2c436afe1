"""Decoded images: the same pixels, once decoded, within bounds, shared through a folder."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.data.cache import ImageCache
from anymask.data.images import read_image
from anymask.errors import ImageError, OutputError


def encoded(index: int, side: int = 20) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 255, (side, side, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(params=["ram", "disk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "cache" if request.param == "disk" else None


def test_the_pixels_are_the_same_and_decoded_once(folder: Path | None) -> None:
    cache = ImageCache(10**6, folder)
    for _ in range(3):
        for index in range(4):
            assert np.array_equal(cache.read(encoded(index)), read_image(encoded(index)))
    assert (cache.misses, cache.hits) == (4, 8)


def test_the_bound_holds(folder: Path | None) -> None:
    cache = ImageCache(3 * 20 * 20 * 3 + 500, folder)
    for _ in range(2):
        for index in range(6):
            cache.read(encoded(index))
    assert cache.hits == 3
    if folder is not None:
        assert len(list(folder.glob("*.npy"))) == 3


def test_large_images_pass_through(folder: Path | None) -> None:
    cache = ImageCache(10**9, folder, max_pixels=30 * 30)
    for _ in range(2):
        cache.read(encoded(0, 31))
        cache.read(encoded(0, 30))
    assert (cache.hits, cache.misses) == (1, 3)


def test_what_is_kept_cannot_be_changed(folder: Path | None) -> None:
    cache = ImageCache(10**6, folder)
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            cache.read(encoded(0))[0] = 1


def test_a_broken_image_is_an_image_error(folder: Path | None) -> None:
    with pytest.raises(ImageError):
        ImageCache(10**6, folder).read(b"nothing")


def test_a_folder_is_shared_counted_and_forgiven(tmp_path: Path) -> None:
    first = ImageCache(10**6, tmp_path)
    first.read(encoded(0))
    second = ImageCache(10**6, tmp_path)
    second.read(encoded(0))
    assert second.hits == 1
    full = ImageCache(first._bytes + 100, tmp_path)
    full.read(encoded(1))
    assert len(list(tmp_path.glob("*.npy"))) == 1
    next(tmp_path.glob("*.npy")).write_bytes(b"damaged")
    assert np.array_equal(second.read(encoded(0)), read_image(encoded(0)))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        ImageCache(1, tmp_path / "file")
