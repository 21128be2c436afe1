"""Folders of images beside masks, in every arrangement that is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.data.cache import ImageCache
from anymask.data.loader import BatchStream, Source
from anymask.data.readers.folder import FolderFiles
from anymask.data.transforms import TransformConfig
from anymask.errors import AnymaskError, DataError

SIZE = (40, 60)
LEFT, RIGHT = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
LEFT[5:30, 4:20] = True
RIGHT[10:38, 30:55] = True


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    return save(path, np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8))


def masks_of(folder: Path) -> list[bytes]:
    (sample,) = [FolderFiles([folder]).sample(i) for i in range(len(FolderFiles([folder])))]
    return sorted(mask.tobytes() for mask in sample.masks)


BOTH = sorted([LEFT.tobytes(), RIGHT.tobytes()])


@pytest.mark.parametrize("value", [1, 255])
def test_a_binary_mask_beside_the_image(tmp_path: Path, value: int) -> None:
    picture(tmp_path / "x.jpg")
    save(tmp_path / "x.png", LEFT * np.uint8(value))
    assert masks_of(tmp_path) == [LEFT.tobytes()]


def test_a_binary_mask_with_smooth_edges_is_one_mask(tmp_path: Path) -> None:
    big = Image.fromarray(np.kron(LEFT, np.ones((3, 3), bool)) * np.uint8(255))
    picture(tmp_path / "x.jpg")
    smooth = big.rotate(7).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    assert len(np.unique(np.asarray(smooth))) > 5
    smooth.save(tmp_path / "x.png")
    sample = FolderFiles([tmp_path]).sample(0)
    assert np.array_equal(sample.masks, (np.asarray(smooth) > 127)[None])


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_map_of_instances_in_folders_of_their_own(tmp_path: Path, depth: type) -> None:
    picture(tmp_path / "images" / "x.png")
    save(tmp_path / "masks" / "x.png", (LEFT * 7 + RIGHT * 255).astype(depth))
    assert masks_of(tmp_path) == BOTH


def test_a_map_of_many_instances_in_16_bits(tmp_path: Path) -> None:
    picture(tmp_path / "x.jpg")
    save(tmp_path / "x.png", (LEFT * 300 + RIGHT * 44).astype(np.uint16))  # equal in their lower 8 bits
    assert masks_of(tmp_path) == BOTH


def test_a_map_of_colors_and_one_of_a_palette(tmp_path: Path) -> None:
    for name in ("color", "palette"):
        picture(tmp_path / name / "x.jpg")
    colors = LEFT[..., None] * np.array([200, 0, 0], np.uint8) + RIGHT[..., None] * np.array([0, 0, 200], np.uint8)
    save(tmp_path / "color" / "x.png", colors)
    indexed = Image.fromarray((LEFT * 1 + RIGHT * 2).astype(np.uint8), "L").convert("P")
    indexed.putpalette([9, 9, 9, 80, 80, 80, 80, 80, 80])  # the same colour twice: it is the index that counts
    indexed.save(tmp_path / "palette" / "x.png")
    assert masks_of(tmp_path / "color") == BOTH
    assert masks_of(tmp_path / "palette") == BOTH


@pytest.mark.parametrize("where", ["", "masks"])
def test_a_folder_of_masks_for_each_image_may_overlap(tmp_path: Path, where: str) -> None:
    picture(tmp_path / ("images" if where else "") / "x.jpg")
    for name, mask in {"a": LEFT, "b": RIGHT, "whole": LEFT | RIGHT, "empty": LEFT & RIGHT}.items():
        save(tmp_path / where / "x" / f"{name}.png", mask * np.uint8(255))
    assert masks_of(tmp_path) == sorted([*BOTH, (LEFT | RIGHT).tobytes()])


def test_masks_are_drawn_by_the_generator(tmp_path: Path) -> None:
    picture(tmp_path / "x.jpg")
    save(tmp_path / "x.png", (LEFT * 1 + RIGHT * 2).astype(np.uint8))
    files = FolderFiles([tmp_path])
    drawn = [files.sample(0, max_masks=1, rng=np.random.default_rng(s)).masks for s in range(20)]
    assert {d.tobytes() for d in drawn} == set(BOTH)


def test_images_without_masks_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "x.jpg")
    save(tmp_path / "x.png", LEFT * np.uint8(255))
    picture(tmp_path / "y.jpg")
    assert len(FolderFiles([tmp_path])) == 1
    assert "skipped 1 images" in caplog.text and "y.jpg" in caplog.text


def test_what_cannot_be_used_is_refused_with_its_name(tmp_path: Path) -> None:
    for name in ("cut", "small", "black"):
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    save(tmp_path / "small.png", LEFT[1:] * np.uint8(255))
    save(tmp_path / "black.png", np.zeros(SIZE, np.uint8))
    files = FolderFiles([tmp_path])
    for index, words in enumerate(["black.png holds no mask", "cut.png cannot be read", "small.png has 39 x 60"]):
        with pytest.raises(DataError, match=words):
            files.sample(index)
    with pytest.raises(DataError, match="no folder"):
        FolderFiles([tmp_path / "absent"])
    with pytest.raises(DataError, match="no image"):
        FolderFiles([(tmp_path / "bare").mkdir() or tmp_path / "bare"])


def test_a_folder_feeds_the_loader_with_and_without_a_cache(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.jpg")
        save(tmp_path / "masks" / f"{name}.png", (LEFT * 1 + RIGHT * 2).astype(np.uint8))
    (tmp_path / "images" / "c.jpg").write_bytes(b"broken")
    made = []
    for cache in (None, ImageCache(10**6)):
        source = Source(files=FolderFiles([tmp_path], cache=cache), weight=1.0, transforms=TransformConfig(flip=True))
        stream = BatchStream([source], batch_size=4, num_masks=2, image_size=64, mask_size=32, seed=0)
        made.append([stream.batch(number) for number in range(3)])
        assert 0 < stream.skipped.total and len(stream.skipped.keys) == 1
    for a, b in zip(*made, strict=True):
        assert (a.images == b.images).all() and (a.masks == b.masks).all() and a.keys == b.keys
    with pytest.raises(AnymaskError):
        FolderFiles([tmp_path]).sample(2)
