from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.data.images import read_image
from anymask.data.listing import IMAGE_SUFFIXES, list_images, unique_names


def test_every_suffix_that_is_listed_is_read(tmp_path: Path) -> None:
    formats = Image.registered_extensions()
    for suffix in sorted(IMAGE_SUFFIXES):
        if formats.get(suffix) in Image.SAVE:
            Image.fromarray(np.full((8, 12, 3), 90, np.uint8)).save(tmp_path / f"a{suffix}", formats[suffix])
    found = list_images(tmp_path)
    assert {".jpg", ".jfif", ".png", ".webp", ".gif", ".jp2", ".ppm", ".tif", ".bmp"} <= {path.suffix for path in found}
    assert all(read_image(path).shape == (8, 12, 3) for path in found)


def test_hidden_files_are_passed_over_and_suffixes_count_in_any_case(tmp_path: Path) -> None:
    hidden = ("._a.jpg", ".hidden/c.jpg", "below/.e.jpg")
    for name in ("b.PNG", "a.jpg", "below/d.Tif", "notes.txt", "f.jpg/g.txt", *hidden):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == ["a.jpg", "b.PNG", "d.Tif"]


def test_pictures_that_cannot_be_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.NEF", "b.nef", "c.dng"):
        (tmp_path / name).write_bytes(b"x")
    assert list_images(tmp_path) == [] and "1 .dng, 2 .nef" in caplog.text


@pytest.mark.parametrize(
    ("choices", "reserved", "names"),
    [
        ([("a",), ("b",)], [], ["a", "b"]),
        ([("a", "a.jpg"), ("a.jpg", "a.jpg.png"), ("a", "a.png")], [], ["a.jpg", "a.jpg.png", "a.png"]),
        ([("a", "a-1"), ("a", "a-2"), ("a-1", "a-1-3")], [], ["a-1", "a-2", "a-1-3"]),
        ([("a", "a.jpg"), ("A", "A.JPG")], [], ["a.jpg", "A.JPG-2"]),
        ([("run", "run.jpg")], ["run"], ["run.jpg"]),
        ([("a",), ("a",), ("a-2",)], [], ["a", "a-2", "a-2-2"]),
    ],
)
def test_names_are_unique_as_a_set(choices: list[tuple[str, ...]], reserved: list[str], names: list[str]) -> None:
    found = unique_names(choices, reserved)
    assert found == names
    assert len({name.casefold() for name in (*found, *reserved)}) == len(found) + len(reserved)
