"""The COCO file: read by pycocotools, streamed, whole or absent."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from anymask.data.writers.coco import CocoImage, write_coco
from anymask.errors import DataError, OutputError
from anymask.geometry import rle

MASKS = np.zeros((3, 20, 30), bool)
MASKS[0, 2:18, 2:28] = MASKS[1, 5:10, 5:10] = MASKS[2, 12:15, 20:25] = True


def annotations(count: int = 3) -> list[dict[str, Any]]:
    return [
        {
            "id": index,
            "segmentation": (stored := rle.encode(mask)),
            "bbox": list(rle.bbox(stored)),
            "area": rle.area(stored),
            "predicted_iou": 0.9 - index / 10,
            "stability_score": 0.97,
            "parent": -1 if index == 0 else 0,
        }
        for index, mask in enumerate(MASKS[:count])
    ]


def image(number: int, count: int = 3) -> CocoImage:
    return CocoImage(id=number, file_name=f"{number}.jpg", width=30, height=20, annotations=annotations(count))


def opened(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_pycocotools_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    assert write_coco(path, [image(7), image(3, 0), image(5, 2)], info={"description": "a test"}) == (3, 5)
    data = opened(path)
    assert data.getImgIds() == [7, 3, 5] and data.getAnnIds() == [1, 2, 3, 4, 5] and data.getCatIds() == [1]
    assert data.getAnnIds(imgIds=[3]) == [] and data.getAnnIds(imgIds=[5]) == [4, 5]
    for found, mask in zip(data.loadAnns(data.getAnnIds(imgIds=[7])), MASKS, strict=True):
        assert np.array_equal(rle.decode(rle.checked(data.annToRLE(found))), mask)
        assert found["iscrowd"] == 0 and found["area"] == mask.sum() and found["score"] == found["predicted_iou"]
    assert [found["parent"] for found in data.loadAnns([1, 2, 3, 4, 5])] == [None, 1, 1, None, 4]
    assert set(data.dataset) == {"info", "licenses", "images", "annotations", "categories"}
    assert data.loadImgs(7) == [{"id": 7, "file_name": "7.jpg", "width": 30, "height": 20}]


def test_no_images_and_no_masks(tmp_path: Path) -> None:
    for images, counts in (([], (0, 0)), ([image(1, 0)], (1, 0))):
        assert write_coco(tmp_path / "all.json", images) == counts
        assert len(opened(tmp_path / "all.json").getImgIds()) == counts[0]


def test_categories_are_kept(tmp_path: Path) -> None:
    given = [{"id": 4, "name": "cell"}, {"id": 9, "name": "nucleus"}]
    (one, two) = annotations(2)
    named = CocoImage(id=1, file_name="a.png", width=30, height=20, annotations=[one, two | {"category_id": 9}])
    write_coco(tmp_path / "all.json", [named], categories=given, licenses=[{"id": 1, "name": "CC0", "url": ""}])
    data = opened(tmp_path / "all.json")
    assert data.getAnnIds(catIds=[9]) == [2] and data.getAnnIds(catIds=[4]) == [1]
    assert data.dataset["licenses"][0]["name"] == "CC0"


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    write_coco(path, [image(1)])
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"2\.jpg.*id 2"):
        write_coco(path, [image(2), image(2)])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="no folder"):
        write_coco(tmp_path / "absent" / "all.json", [])


def test_thousands_of_images_in_the_memory_of_one(tmp_path: Path) -> None:
    def images() -> Iterator[CocoImage]:
        for number in range(3000):
            yield image(number)

    tracemalloc.start()
    counts = write_coco(tmp_path / "all.json", images())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = (tmp_path / "all.json").stat().st_size
    assert counts == (3000, 9000) and peak < size / 2, (size, peak)
    assert len(json.loads((tmp_path / "all.json").read_bytes())["annotations"]) == 9000
