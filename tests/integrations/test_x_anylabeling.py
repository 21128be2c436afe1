"""The real classes of X-AnyLabeling and AnyLabeling load our export and give our masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anymask.export.x_anylabeling import export_x_anylabeling
from anymask.geometry.masks import pair_iou
from anymask.inference import Predictor, Refinement, load

pytestmark = pytest.mark.long

MARKS: list[list[dict[str, Any]]] = [
    [{"type": "point", "data": [495, 222], "label": 1}],
    [{"type": "rectangle", "data": [256, 85, 768, 426]}],
    [{"type": "point", "data": [495, 222], "label": 1}, {"type": "point", "data": [170, 512], "label": 0}],
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, kept_traces: None) -> Path:
    return export_x_anylabeling(load("anymask-s"), tmp_path_factory.mktemp("exported"), name="anymask-s")[-1]


@pytest.mark.parametrize(
    ("name", "package"), [("x-anylabeling", "x-anylabeling-cvhub[cpu]"), ("anylabeling", "anylabeling")]
)
def test_its_class_gives_our_masks(
    name: str,
    package: str,
    request: pytest.FixtureRequest,
    program: Callable[..., Path],
    run_program: Callable[..., str],
    tmp_path: Path,
) -> None:
    line = "from anylabeling.services.auto_labeling.segment_anything import SegmentAnything"
    python = program(name, package, imports=line, install=False)
    exported = request.getfixturevalue("exported")  # which takes a while
    image = tmp_path / "coffee.png"
    with Image.open(str(files("anymask.samples") / "coffee.jpg")) as photograph:
        photograph.convert("RGB").resize((1024, 683)).save(image)  # which the tool hands over as it is
    (tmp_path / "marks.json").write_text(json.dumps(MARKS))
    run_program(
        python, "x_anylabeling.py", exported, image, tmp_path / "marks.json", tmp_path / "out.npz", home=tmp_path
    )
    predictor = Predictor(load("anymask-s"), refinement=Refinement(tidy=False))  # crumbs are not for a graph to drop
    predictor.set_image(image)
    with np.load(tmp_path / "out.npz") as found:
        for number, prompt in enumerate(MARKS):
            ours = predictor.predict(**_prompt(prompt)).best
            assert pair_iou(found[f"mask{number}"], ours) >= 0.99
            assert found[f"polygons{number}"].max() > 20


def _prompt(marks: list[dict[str, Any]]) -> dict[str, Any]:
    points = [mark for mark in marks if mark["type"] == "point"]
    boxes = [mark["data"] for mark in marks if mark["type"] == "rectangle"]
    prompt: dict[str, Any] = {"box": boxes[0]} if boxes else {}
    if points:
        prompt |= {"points": [mark["data"] for mark in points], "labels": [mark["label"] for mark in points]}
    return prompt
