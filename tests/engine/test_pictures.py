"""Where images lie, and which of them are held out."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from anymask.engine.imports import import_found, read_source
from anymask.engine.pictures import HELD_OUT, TRAIN, chance, image_bytes, read_picture, split_of
from anymask.engine.store import EngineSettings, Project, StoredImage
from anymask.errors import DataError, ImageError

fsspec = pytest.importorskip("fsspec")


def _encoded(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (20, 30 + number, 3), np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def test_images_are_used_where_they_lie_in_a_store(sqlite_project: Project) -> None:
    memory = fsspec.filesystem("memory")
    for number in range(3):
        memory.pipe_file(f"/herbarium/leaves/{number}.png", _encoded(number))
    memory.pipe_file("/herbarium/leaves/notes.txt", b"no image")
    address = "memory://herbarium"
    done = import_found(sqlite_project, read_source("images", address), source=address)
    again = import_found(sqlite_project, read_source("images", address), source=address)
    assert (done.images, again.images, again.known_images) == (3, 0, 3)
    images = sqlite_project.images.all()
    assert [image.name for image in images] == ["leaves/0.png", "leaves/1.png", "leaves/2.png"]
    assert all(image.location.startswith("memory://") for image in images)
    assert image_bytes(sqlite_project, images[1]) == _encoded(1)
    assert read_picture(sqlite_project, images[2]).shape == (20, 32, 3)
    assert not any((sqlite_project.folder / "images").iterdir())
    memory.pipe_file("/herbarium/leaves/1.png", _encoded(7))
    with pytest.raises(ImageError, match="20 x 37 pixels now, and had 20 x 31"):
        read_picture(sqlite_project, images[1])
    memory.rm("/herbarium", recursive=True)
    with pytest.raises(ImageError, match=r"memory://.*1\.png: cannot be read"):
        image_bytes(sqlite_project, images[1])


def test_an_address_of_files_is_read_as_a_store(sqlite_project: Project, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(_encoded(0))
    import_found(sqlite_project, read_source("images", tmp_path.as_uri()), source="files")
    (image,) = sqlite_project.images.all()
    assert image.location == (tmp_path / "p.png").as_uri() and image.size == (20, 30)
    assert image_bytes(sqlite_project, image) == _encoded(0)
    os.remove(tmp_path / "p.png")
    with pytest.raises(ImageError, match="No such file"):
        image_bytes(sqlite_project, image)


def test_a_store_that_nobody_knows_is_told(sqlite_project: Project) -> None:
    with pytest.raises(DataError, match="nowhere://here: cannot be listed"):
        list(read_source("images", "nowhere://here"))


def test_neighbouring_names_are_held_out_independently() -> None:
    """With a checksum in the place of a hash, half of all folders had p0, p1 and p2 all held out, and half none."""
    settings = EngineSettings(held_out=0.5)
    held = []
    for folder in range(400):
        images = [
            StoredImage(id=n, name="", location=f"/a/{folder}/p{n}.png", size=(1, 1), revision=0, num_annotations=0)
            for n in range(3)
        ]
        held.append(sum(split_of(image, settings) == HELD_OUT for image in images))
    shares = np.bincount(held, minlength=4) / 400
    assert np.abs(shares - (0.125, 0.375, 0.375, 0.125)).max() < 0.07
    assert chance("/a/p.png", "split") == chance("/a/p.png", "split") != chance("/a/p.png", "doubly")


def test_the_share_held_out_is_kept() -> None:
    settings = EngineSettings(held_out=0.1)
    images = [
        StoredImage(id=n, name="", location=f"/d/IMG_{n:04d}.jpg", size=(1, 1), revision=0, num_annotations=0)
        for n in range(2000)
    ]
    assert 150 < sum(split_of(image, settings) == HELD_OUT for image in images) < 250
    assert {TRAIN, HELD_OUT} == {split_of(image, settings) for image in images}
