"""ImageSet with their regions on disk: SA-1B's layout, whole or absent, never made twice."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.data.files import write_image_atomic
from anymask.data.images import read_image
from anymask.data.open import open_images
from anymask.data.readers.images import ImageSet
from anymask.data.readers.tars import TarFiles
from anymask.data.regions.stable import write_regions
from anymask.data.sample import Skipped
from anymask.errors import DataError, OutputError


def _picture(index: int) -> np.ndarray:
    """A bright rectangle on grey; number 2 is grey alone."""
    image = np.full((90, 120, 3), 70, np.uint8)
    if index != 2:
        image[20:60, 30 : 60 + 5 * index] = (220, 60, 60)
    return image


def _encoded(image: np.ndarray) -> bytes:
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "PNG")
    return stored.getvalue()


@pytest.fixture
def photographs(write_tar: Callable[..., Path]) -> ImageSet:
    members = [(f"deep/p{index}.png", _encoded(_picture(index))) for index in range(5)]
    members[3] = ("deep/p3.png", b"no picture")
    return open_images([write_tar("photos.tar", members)])


def test_shards_hold_what_was_found(photographs: ImageSet, tmp_path: Path) -> None:
    skipped = Skipped()
    paths = list(write_regions(photographs, tmp_path / "out", per_shard=3, skipped=skipped))
    assert [path.name for path in paths] == ["regions-00000.tar", "regions-00001.tar"]
    assert skipped.keys == {"photos.tar/deep/p3"}
    files = TarFiles(paths)
    assert [files.key(index).split("/")[1] for index in range(len(files))] == ["000000-p0", "000001-p1", "000004-p4"]
    for place, index in enumerate((0, 1, 4)):
        sample = files.sample(place)
        wanted = _picture(index)[:, :, 0] > 100
        shared = (sample.masks & wanted).sum((1, 2)) / (sample.masks | wanted).sum((1, 2))
        assert shared.max() > 0.95
        assert np.abs(sample.image.astype(int) - _picture(index)).mean() < 4


def test_an_interrupted_call_goes_on(photographs: ImageSet, tmp_path: Path) -> None:
    first = next(write_regions(photographs, tmp_path, per_shard=3))
    assert [path.name for path in write_regions(photographs, tmp_path, per_shard=3)] == ["regions-00001.tar"]
    assert not list(write_regions(photographs, tmp_path, per_shard=3))
    before = first.read_bytes()
    first.unlink()
    assert list(write_regions(photographs, tmp_path, per_shard=3)) == [first]
    assert first.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_several_places_are_one_set_in_their_order(
    photographs: ImageSet, write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for index in (1, 0):
        write_image_atomic(folder / f"f{index}.png", _picture(index))
    (folder / "notes.txt").write_text("no picture")
    both = open_images([write_tar("one.tar", [("a.png", _encoded(_picture(4)))]), folder])
    assert [Path(both.key(index)).stem for index in range(len(both))] == ["a", "f0", "f1"]
    assert np.array_equal(read_image(both.image_bytes(2)), _picture(1))
    assert np.array_equal(read_image(both.image_bytes(0)), _picture(4))


def test_places_that_will_not_do(photographs: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file or folder"):
        open_images([tmp_path / "missing.tar"])
    with pytest.raises(DataError, match="no image"):
        open_images([(tmp_path / "bare").mkdir() or tmp_path / "bare"])
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError, match="taken"):
        list(write_regions(photographs, tmp_path / "taken"))
