"""`anymask.segment_folder` as it is called from Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anymask
from anymask.errors import ImageError, InputError, OutputError
from anymask.geometry import rle
from anymask.inference import AutomaticOptions
from anymask.model import SIZES, Sam, build_sam
from anymask.samples import sample_path
from anymask.workflows.folder_run import FolderProgress

ALL = AutomaticOptions(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, adaptive=False)


@pytest.fixture(scope="module")
def model() -> Sam:
    return build_sam(SIZES["smoke"]).eval()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("coffee", "cat"):
        with Image.open(sample_path(name)) as image:
            image.resize((90, 60)).save(folder / f"{name}.png")
    return folder


def test_two_photographs(model: Sam, album: Path, tmp_path: Path) -> None:
    told: list[FolderProgress] = []
    out = tmp_path / "out"
    result = anymask.segment_folder(album, out, model, ALL, formats=["labels", "coco"], progress=told.append)
    assert (result.made, result.found, result.failed) == (2, 0, [])
    assert [(each.done, each.total, each.made) for each in told] == [(1, 2, 1), (2, 2, 2)]
    assert told[-1].masks == result.masks > 0
    document = json.loads((out / "coffee.json").read_bytes())
    assert document["annotations"][0]["segmentation"]["size"] == [60, 90]
    masks = [rle.decode(each["segmentation"]) for each in document["annotations"]]
    with Image.open(out / "coffee_labels.png") as labels:
        assert ((np.asarray(labels) > 0) == np.any(masks, axis=0)).all()
    assert len(json.loads((out / "annotations.coco.json").read_bytes())["images"]) == 2
    assert anymask.segment_folder(str(album), str(out), model, ALL).found == 2


def test_tiles_are_told_of(model: Sam, album: Path, tmp_path: Path) -> None:
    told: list[FolderProgress] = []
    anymask.segment_folder(album / "coffee.png", tmp_path / "out", model, ALL, tile=64, progress=told.append)
    tiles = [each.tile for each in told]
    assert tiles[:-1] == [(number, len(tiles) - 1) for number in range(1, len(tiles))] and tiles[-1] is None


def test_an_image_that_cannot_be_read_is_named(model: Sam, album: Path, tmp_path: Path) -> None:
    (album / "broken.jpg").write_bytes(b"no image")
    result = anymask.segment_folder(album, tmp_path / "out", model, ALL)
    assert result.made == 2 and [each["file"] for each in result.failed] == [str(album / "broken.jpg")]
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        anymask.segment_folder(album / "broken.jpg", tmp_path / "lone", model, ALL)


def test_what_is_refused(model: Sam, album: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image in this folder"):
        anymask.segment_folder(tmp_path / "empty", tmp_path / "out", model)
    with pytest.raises(ImageError, match="there is no such file or folder"):
        anymask.segment_folder(tmp_path / "nowhere", tmp_path / "out", model)
    with pytest.raises(InputError, match="the formats are sa1b, coco, labels, overlay"):
        anymask.segment_folder(album, tmp_path / "out", model, formats=["yolo"])
    with pytest.raises(InputError, match="overlap 9"):
        anymask.segment_folder(album, tmp_path / "out", model, tile=9, overlap=9)
    assert not (tmp_path / "out").exists()
    anymask.segment_folder(album, tmp_path / "out", model, ALL)
    with pytest.raises(OutputError, match="results of other settings: points_per_side was 3 and is 4"):
        anymask.segment_folder(
            album,
            tmp_path / "out",
            model,
            AutomaticOptions(points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0, adaptive=False),
        )
    shutil.rmtree(tmp_path / "out")
