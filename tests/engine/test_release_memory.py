from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from anymask.data.writers.coco import CocoImage, CocoStream
from anymask.engine.release import measures
from anymask.engine.store import NewImage, Project
from anymask.engine.store import images as stored_images
from anymask.engine.store.tables import images
from anymask.errors import DataError
from anymask.geometry import rle

MASK = rle.from_uncompressed([100, 50, 150], (20, 15))
RECORD = {"segmentation": MASK, "area": 50, "bbox": [5, 0, 3, 20], "predicted_iou": 0.9}


def peak(count: int, folder: Path) -> int:
    """Return the bytes that a COCO file of so many images and what is told of them take in memory at most."""
    folder.mkdir()
    tracemalloc.start()
    told, stream = measures.Measures(), CocoStream(folder / "a.json")
    for number in range(count):
        records = [dict(RECORD) for _ in range(3)]
        told.add(records, ["added"] * 3, (20, 15))
        stream.add(CocoImage(id=number, file_name=f"{number}.jpg", width=15, height=20, annotations=records))
    assert stream.finish([{"id": 1, "name": "object"}]) == (count, 3 * count)
    assert (told.summary()["images"], told.summary()["masks"]) == (count, 3 * count)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_a_coco_file_takes_as_much_memory_whatever_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_MAX_SIZES", 300)
    monkeypatch.setattr(measures, "_MAX_SHAPES", 300)
    peak(200, tmp_path / "first")  # whatever is imported and cached once
    few, many = peak(500, tmp_path / "few"), peak(5000, tmp_path / "many")
    assert many < few + 40_000  # 4,500 images more: not nine bytes each


def test_ids_of_images_are_known_however_far_apart(tmp_path: Path) -> None:
    stream = CocoStream(tmp_path / "a.json")
    for number in (5, 3, 2**40, 1024, 1023, 0):
        stream.add(CocoImage(id=number, file_name="a", width=1, height=1, annotations=[]))
    for number in (3, 2**40, 1023, 0):
        with pytest.raises(DataError, match=f"the id {number} as well"):
            stream.add(CocoImage(id=number, file_name="b", width=1, height=1, annotations=[]))
    assert stream.finish([]) == (6, 0)


def test_sizes_are_drawn_evenly_from_more_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_MAX_SIZES", 400)
    told = measures.Measures()
    for number in range(4000):
        told._add_size(float(number))
    assert len(told.sizes) == 400 and told.masks == 4000
    assert 1700 < told.summary()["median_relative_size"] < 2300


def test_images_come_page_by_page(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_images, "_TOGETHER", 3)
    project.images.add([NewImage(name=str(i), location=f"images/{i}", size=(4, 4)) for i in range(8)])
    assert list(project.images.annotated()) == [] and project.images.count_annotated() == 0
    with project.database.writing() as connection:
        connection.execute(images.update().where(images.c.id != 4).values(num_annotations=2))
    assert [each.id for each in project.images.annotated()] == [1, 2, 3, 5, 6, 7, 8]
    assert project.images.count_annotated() == 7
