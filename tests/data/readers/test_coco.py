from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anymask.data.open import open_data
from anymask.data.readers.coco import CocoFiles
from anymask.data.readers.folder import FolderFiles
from anymask.data.sample import InMemorySamples, Subset, split
from anymask.data.synthetic import SceneConfig, render_shards
from anymask.data.synthetic.shards import GeneratedScenes
from anymask.errors import DataError
from anymask.geometry import rle

SQUARE = [4.0, 2.0, 12.0, 2.0, 12.0, 8.0, 4.0, 8.0]


def _dataset(folder: Path, **changes: Any) -> dict[str, Any]:
    """Three images of 16×10 pixels, with a polygon, run lengths, and a crowd and a box without a mask."""
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.full((10, 16, 3), 90, np.uint8)).save(folder / "images" / name)
    mask = np.zeros((10, 16), bool)
    mask[1:4, 5:9] = True
    names = enumerate(("a.png", "sub/b.png", "c.png"), start=1)
    values = {
        "images": [{"id": key, "file_name": name, "width": 16, "height": 10} for key, name in names],
        "annotations": [
            {"id": 10, "image_id": 1, "segmentation": [SQUARE]},
            {"id": 11, "image_id": 2, "segmentation": dict(rle.encode(mask))},
            {"id": 12, "image_id": 1, "segmentation": dict(rle.encode(mask)), "iscrowd": 1},
            {"id": 13, "image_id": 3, "bbox": [0, 0, 4, 4]},
        ],
    }
    return values | changes


def _open(folder: Path, values: dict[str, Any]) -> CocoFiles:
    path = folder / "annotations.json"
    path.write_text(json.dumps(values, indent=1))
    return CocoFiles(folder / "images", path)


def test_polygons_and_run_lengths_are_masks_and_the_rest_is_left_out(tmp_path: Path) -> None:
    files = _open(tmp_path, _dataset(tmp_path))
    assert len(files) == 2
    first, second = files.sample(0), files.sample(1)
    assert first.masks.sum() == 8 * 6 and first.masks[0, 2:8, 4:12].all()
    assert second.masks.sum() == 12
    assert first.image.shape == (10, 16, 3) and files.key(0).endswith("a.png")


def test_lvis_names_images_by_their_address(tmp_path: Path) -> None:
    values = _dataset(tmp_path)
    for image in values["images"]:
        image["coco_url"] = f"http://images.example.org/train2017/{Path(image.pop('file_name')).name}"
    assert len(_open(tmp_path, values)) == 2


@pytest.mark.parametrize(
    ("index", "changes", "message"),
    [
        (0, {"id": 11}, r"annotations\[0\] and annotations\[1\] both have the id 11"),
        (0, {"image_id": 99}, r"annotation 10 is of image 99, which is not there"),
        (0, {"segmentation": [[30.0, 2, 40, 2, 40, 8]]}, r"annotation 10 reaches from \(30, 2\) to \(40, 8\), outside"),
        (0, {"segmentation": [[1.0, 2, 3]]}, r"annotation 10 has a polygon that is no list"),
        (0, {"id": "ten"}, r"annotations\[0\] has no id"),
        (
            1,
            {"segmentation": {"size": [16, 10], "counts": "0"}},
            r"annotation 11 cannot be used: RLE of 16 x 10 pixels does not fit",
        ),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path: Path, index: int, changes: dict[str, Any], message: str) -> None:
    values = _dataset(tmp_path)
    values["annotations"][index] |= changes
    with pytest.raises(DataError, match=message):
        _open(tmp_path, values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 2}, r"images\[0\] and images\[1\] both have the id 2"),
        ({"file_name": "gone.png"}, r"the file gone\.png of image 1 is not in .*images"),
        ({"width": 10, "height": 16}, r"image 1 is said to be 10×16 pixels, .*a\.png is 16×10"),
    ],
)
def test_a_wrong_image_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    values = _dataset(tmp_path)
    values["images"][0] |= changes
    with pytest.raises(DataError, match=message):
        _open(tmp_path, values)


def test_broken_json_is_told_with_its_line(tmp_path: Path) -> None:
    values = _dataset(tmp_path)
    _open(tmp_path, values)
    path = tmp_path / "annotations.json"
    path.write_text('{"images": [],\n"annotations": [}\n')
    with pytest.raises(DataError, match=r"is no JSON: .* in line 2, column 17"):
        CocoFiles(tmp_path / "images", path)
    path.write_text("[]")
    with pytest.raises(DataError, match="is no COCO file"):
        CocoFiles(tmp_path / "images", path)


def test_data_is_known_by_what_lies_there(tmp_path: Path) -> None:
    values = _dataset(tmp_path)
    _open(tmp_path, values)
    assert isinstance(open_data(tmp_path / "images", tmp_path / "annotations.json"), CocoFiles)
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.eye(10, 16, dtype=np.uint8) * 3).save(masks / "a.png")
    found = open_data(tmp_path / "images", masks)
    assert isinstance(found, FolderFiles) and len(found) == 1 and found.sample(0).masks.shape == (1, 10, 16)
    (tmp_path / "tars").mkdir()
    list(render_shards(tmp_path / "tars", SceneConfig(size=48), scenes_per_shard=2))
    assert len(open_data(tmp_path / "tars")) == 2
    for absent in ((tmp_path / "no", None), (tmp_path / "images", tmp_path / "no.json")):
        with pytest.raises(DataError, match="there is no file or folder"):
            open_data(*absent)


def test_a_split_is_of_images_and_follows_from_their_names() -> None:
    files = GeneratedScenes(20, SceneConfig(size=48))
    rest, chosen, held = split(files, (0.1, 0.15))
    assert (len(rest), len(chosen), len(held)) == (15, 2, 3)
    names = [{part.key(i) for i in range(len(part))} for part in (rest, chosen, held)]
    assert len(set.union(*names)) == 20
    assert [part.indices for part in split(files, (0.1, 0.15))] == [part.indices for part in (rest, chosen, held)]
    assert [len(part) for part in split(Subset(files, [0, 1, 2]), (0.1, 0.15))] == [1, 1, 1]
    with pytest.raises(DataError, match="at least 3 are needed"):
        split(Subset(files, [0, 1]), (0.1, 0.15))


def test_samples_in_memory_are_a_set_too() -> None:
    scene = GeneratedScenes(1, SceneConfig(size=48)).sample(0)
    held = InMemorySamples([scene])
    assert len(held) == 1 and held.key(0) == scene.key and held.sample(0, max_masks=1) is scene


def test_scenes_on_demand_are_the_same_each_time() -> None:
    files = GeneratedScenes(3, SceneConfig(size=48), seed=4)
    assert np.array_equal(files.sample(1).image, files.sample(1).image)
    few = files.sample(1, max_masks=2, rng=np.random.default_rng(0))
    assert len(few.masks) == min(2, len(files.sample(1).masks))
