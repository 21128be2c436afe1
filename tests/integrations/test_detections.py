"""supervision's detections, with a stand-in and with the real package; boxes of other people's results."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from anymask.errors import InputError, MissingPackageError
from anymask.geometry import rle
from anymask.inference import MaskRecord, Masks
from anymask.integrations import detections

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("supervision")

    class Detections(SimpleNamespace):
        @classmethod
        def empty(cls) -> Detections:
            return cls(xyxy=np.zeros((0, 4)))

    module.Detections = Detections  # type: ignore[attr-defined]
    module.__spec__ = SimpleNamespace(name="supervision")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "supervision", module)


def _mask(x: int) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[5:10, x : x + 4] = True
    return mask


@pytest.mark.usefixtures("supervision")
def test_records_and_answers_become_detections() -> None:
    records = [
        MaskRecord(
            rle=rle.encode(_mask(x)),
            bbox=(x, 5, 4, 5),
            area=20,
            predicted_iou=0.5,
            stability_score=0.9,
            point_coords=((x, 6.0),),
            crop_box=(0, 0, 30, 20),
        )
        for x in (2, 12)
    ]
    found = detections.to_supervision(records, class_id=7)
    assert found.xyxy.tolist() == [[2, 5, 6, 10], [12, 5, 16, 10]]
    assert found.class_id.tolist() == [7, 7] and found.data["stability_score"].tolist() == [np.float32(0.9)] * 2
    logits = np.zeros((2, 4, 4), np.float32)
    answer = Masks(masks=np.stack([_mask(3), _mask(9)]), scores=np.array([0.8, 0.2], np.float32), logits=logits)
    found = detections.to_supervision(answer)
    assert found.xyxy.tolist() == [[3, 5, 7, 10]] and found.class_id is None
    assert detections.to_supervision([answer, answer], class_id=[1, 2]).class_id.tolist() == [1, 2]
    assert len(detections.to_supervision([]).xyxy) == 0
    with pytest.raises(InputError, match="3 class ids for 1 masks"):
        detections.to_supervision(answer, class_id=[1, 2, 3])


def test_boxes_of_other_results_are_prompts() -> None:
    boxes = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    ultralytics = SimpleNamespace(boxes=SimpleNamespace(xyxy=boxes))
    assert detections.boxes_of(ultralytics).tolist() == boxes.tolist()
    assert detections.boxes_of(SimpleNamespace(xyxy=np.zeros((0, 4)))).shape == (0, 4)
    with pytest.raises(InputError, match=r"results\[0\]"):
        detections.boxes_of([ultralytics])
    with pytest.raises(InputError, match="a str has no boxes"):
        detections.boxes_of("boxes")


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detections, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="pip install supervision"):
        detections.to_supervision([])


@pytest.mark.long
def test_the_real_package_takes_them(
    program: Callable[..., Path], run_program: Callable[..., str], tmp_path: Path
) -> None:
    python = program("supervision", "supervision", imports="import supervision", install=False)
    ours = ":".join([str(SRC), str(Path(np.__file__).parents[1])])
    photograph = str(files("anymask.samples") / "coffee.jpg")
    assert int(run_program(python, "supervision_detections.py", ours, photograph, home=tmp_path).splitlines()[-1]) > 5
