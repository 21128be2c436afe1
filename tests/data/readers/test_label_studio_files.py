from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anymask.data.open import open_data, open_sets
from anymask.data.readers.label_studio import MALFORMED, NO_REGIONS
from anymask.data.sample import AnnotatedMask
from anymask.data.writers.label_studio import LabelStudioTask, label_config, write_label_studio
from anymask.errors import DataError
from anymask.geometry import brush_rle, rle

SIZE = (40, 60)


def _mask() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:30, 10:50] = True
    mask[10:15, 20:30] = False
    return mask


def _region(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": kind, "type": kind, "value": value, "original_width": 60, "original_height": 40} | more


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    """Write an export with one task of these regions, its image beside it."""

    def write(regions: list[dict[str, Any]], *, image: str = "/data/upload/3/0a1b2c3d-a.png", **task: Any) -> Path:
        Image.new("RGB", SIZE[::-1], (9, 9, 9)).save(tmp_path / "a.png")
        document = [{"id": 1, "data": {"image": image}, "annotations": [{"result": regions}]} | task]
        (tmp_path / "export.json").write_text(json.dumps(document))
        return tmp_path / "export.json"

    return write


def test_masks_come_back_by_the_one_door(tmp_path: Path) -> None:
    masks = [
        AnnotatedMask(id="1", rle=rle.encode(_mask()), label="leaf", score=0.75),
        AnnotatedMask(id="2", rle=rle.encode(~_mask())),
    ]
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    task = LabelStudioTask(image="/data/local-files/?d=a.png", size=SIZE, masks=masks)
    for model in (None, "teacher"):
        assert write_label_studio(tmp_path / "tasks.json", [task], model=model) == (1, 2)
        files = open_data(tmp_path / "tasks.json")
        found = files.annotations(0)
        assert [rle.decode(each.rle).tolist() for each in found.masks] == [_mask().tolist(), (~_mask()).tolist()]
        assert [(each.label, each.score) for each in found.masks] == [("leaf", 0.75), ("object", None)]
        assert files.sample(0).masks.shape == (2, *SIZE)
    assert list(open_sets([tmp_path / "tasks.json"])) == ["tasks"]


def test_every_kind_of_region_is_read(export: Callable[..., Path]) -> None:
    whole = {"x": 0, "y": 0, "width": 50, "height": 100}
    found = open_data(
        export(
            [
                _region("rectanglelabels", whole | {"rotation": 0, "rectanglelabels": ["left"]}),
                _region(
                    "polygonlabels", {"points": [[50, 0], [100, 0], [100, 100], [50, 100]], "polygonlabels": ["b"]}
                ),
                _region("ellipselabels", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "ellipselabels": ["c"]}),
                _region("brush", {"format": "rle", "rle": brush_rle.encode(_mask())}),
                _region("labels", {"labels": ["named later"]}, id="brush"),
                _region("rectangle", {"x": 50, "y": 0, "width": 50, "height": 50, "rotation": 90}),
                _region("keypointlabels", {"x": 1, "y": 1, "keypointlabels": ["d"]}),
                _region("brushlabels", {"format": "rle", "rle": [1, 2, 3]}),
                {"type": "choices", "value": {"choices": ["good"]}},
            ]
        )
    ).annotations(0)
    masks = {each.label: rle.decode(each.rle) for each in found.masks}
    left, right = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    left[:, :30], right[:, 30:] = True, True
    assert (masks["left"] == left).all() and (masks["b"] == right).all()
    assert abs(masks["c"].sum() - np.pi * 15 * 10) < 15
    assert (masks["named later"] == _mask()).all()
    # A quarter turn about its corner: the rectangle reaches to the left and down.
    assert masks[None][:, :30].any() and not masks[None][:, 31:].any()
    assert found.left_out == {NO_REGIONS: 2, MALFORMED: 1}


def test_ground_truth_goes_before_and_what_was_cancelled_does_not_count(export: Callable[..., Path]) -> None:
    def said(label: str, **more: Any) -> dict[str, Any]:
        value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": [label]}
        return {"result": [_region("rectanglelabels", value)], **more}

    path = export([], annotations=[said("no", was_cancelled=True), said("first"), said("true", ground_truth=True)])
    assert [mask.label for mask in open_data(path).annotations(0).masks] == ["true"]
    path = export([], annotations=[said("no", was_cancelled=True)], predictions=[said("guess")])
    assert [mask.label for mask in open_data(path).annotations(0).masks] == ["guess"]


def test_what_does_not_fit_is_refused(export: Callable[..., Path]) -> None:
    region = _region("rectanglelabels", {"x": 0, "y": 0, "width": 50, "height": 50})
    with pytest.raises(DataError, match=r"the image gone\.png is not in"):
        open_data(export([region], image="/data/upload/3/gone.png"))
    with pytest.raises(DataError, match="no task has a region"):
        open_data(export([]))
    with pytest.raises(DataError, match="names no image"):
        open_data(export([region], data={"number": 3}))
    turned = _region("rectanglelabels", region["value"], image_rotation=90)
    assert open_data(export([turned])).annotations(0).left_out == {MALFORMED: 1}
    other = _region("brushlabels", {"format": "rle", "rle": brush_rle.encode(_mask())}, original_width=61)
    assert open_data(export([other])).annotations(0).left_out == {MALFORMED: 1}


def test_a_configuration_has_every_label() -> None:
    config = label_config(['5" plate', "a & b"])
    assert config.count("<Label ") == 6 and "a &amp; b" in config
