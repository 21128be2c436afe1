"""Functions for CVAT, with the few names of cvat-sdk that they use, and with the real package."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from PIL import Image

from anymask.errors import InputError, MissingPackageError, PromptError
from anymask.geometry import rle
from anymask.inference import Predictor
from anymask.integrations import cvat
from anymask.model import Sam

SRC = Path(__file__).parents[2] / "src"


def _decoded(points: list[float], size: tuple[int, int]) -> np.ndarray:
    *runs, x0, y0, x1, y1 = map(int, points)
    mask = np.zeros(size, bool)
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[y0 : y1 + 1, x0 : x1 + 1] = values.reshape(y1 - y0 + 1, x1 - x0 + 1)
    return mask


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)))
@settings(max_examples=60, deadline=None)
def test_masks_are_runs_within_their_box(mask: np.ndarray) -> None:
    if mask.any():
        assert (_decoded(cvat.encode_mask(rle.encode(mask)), mask.shape) == mask).all()


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch, stirred: Sam) -> None:
    """What is used of cvat-sdk, as plain values, and a small model by any name."""
    package, functions = ModuleType("cvat_sdk"), ModuleType("cvat_sdk.auto_annotation")
    package.__spec__ = SimpleNamespace(name="cvat_sdk")  # type: ignore[assignment]
    for name in ("DetectionFunctionSpec", "InteractionFunctionSpec", "InteractionResultShape"):
        setattr(functions, name, SimpleNamespace)
    functions.label_spec = lambda name, id: (name, id)  # type: ignore[attr-defined]
    functions.mask = lambda label, points: ("mask", label, points)  # type: ignore[attr-defined]
    functions.polygon = lambda label, points: ("polygon", label, points)  # type: ignore[attr-defined]
    package.auto_annotation = functions  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cvat_sdk", package)
    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", functions)
    monkeypatch.setattr(cvat, "load", lambda *_, **__: stirred)


def _picture() -> Image.Image:
    y, x = np.mgrid[:60, :90]
    return Image.fromarray(np.stack([2 * x, 4 * y, x + y], -1).astype(np.uint8))


@pytest.mark.usefixtures("sdk")
def test_everything_that_is_sure_enough_gets_the_one_label() -> None:
    function: Any = cvat.create()
    assert function.spec.labels == [("object", 0)]
    found = [
        function.detect(SimpleNamespace(conf_threshold=threshold, conv_mask_to_poly=False), _picture())
        for threshold in (0.0, 1.0)
    ]
    assert len(found[1]) <= len(found[0])
    assert all(kind == "mask" and label == 0 for kind, label, _ in found[0])
    polygons = function.detect(SimpleNamespace(conf_threshold=0.0, conv_mask_to_poly=True), _picture())
    assert all(kind == "polygon" for kind, _, _ in polygons)


@pytest.mark.usefixtures("sdk")
def test_clicks_are_answered_as_by_the_predictor(stirred: Sam) -> None:
    function: Any = cvat.create(interactive=True)
    seen = function.preprocess_image(None, _picture())
    prompts = SimpleNamespace(pos_points=[(40, 30)], neg_points=[(80, 50)], bounding_box=((5, 5), (70, 55)))
    (shape,) = function.detect(None, seen, prompts)
    predictor = Predictor(stirred)
    predictor.set_image(_picture())
    ours = predictor.predict(points=[(40, 30), (80, 50)], labels=[1, 0], box=(5, 5, 70, 55)).best
    assert (_decoded(shape.points, (60, 90)) == ours).all()
    with pytest.raises(PromptError):
        function.detect(None, seen, SimpleNamespace(pos_points=[], neg_points=[], bounding_box=None))


@pytest.mark.usefixtures("sdk")
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"detail": -1}, "0 to 100"),
        ({"interactive": True, "labels": "cat"}, "chosen there"),
        ({"labels": "cat, dog, cat"}, "comes twice"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        cvat.create(**values)


@pytest.mark.usefixtures("sdk")
def test_words_are_labels() -> None:
    function: Any = cvat.create(labels="cat, dog")
    assert function.spec.labels == [("cat", 0), ("dog", 1)]


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvat, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="pip install cvat-sdk"):
        cvat.create()


@pytest.mark.long
def test_the_real_loader_and_types_accept_it(
    program: Callable[..., Path], run_program: Callable[..., str], tmp_path: Path
) -> None:
    python = program("cvat", "cvat-sdk", "cvat-cli", imports="import cvat_sdk.auto_annotation, cvat_cli")
    ours = ":".join([str(SRC), str(Path(np.__file__).parents[1])])
    photograph = str(files("anymask.samples") / "coffee.jpg")
    said = json.loads(run_program(python, "cvat.py", ours, photograph, home=tmp_path).splitlines()[-1])
    assert said["shapes"] > 5 and said["sure"] <= said["shapes"]
