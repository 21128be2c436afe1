"""What napari's widget does to labels, without a window; and with real layers off the screen."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from anymask.data.channels import ChannelMapping
from anymask.errors import ImageError, PromptError
from anymask.inference import Predictor, load
from anymask.integrations.napari.labelling import Labelling, picture
from anymask.model import Sam

SRC = Path(__file__).parents[2] / "src"


def _plane(size: tuple[int, int] = (60, 90)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return (np.hypot(y - 30, x - 40) < 15) * 0.5 + x / 900


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int64", "float32", "float64", "bool"])
def test_a_plane_of_any_type_is_a_picture(dtype: str) -> None:
    values = _plane()
    typed = (values > 0.4 if dtype == "bool" else values if dtype.startswith("float") else values * 100).astype(dtype)
    for plane in (typed, np.stack([typed] * 3, -1)):
        found = picture(plane)
        assert found.shape == (60, 90, 3) and found.dtype == np.uint8
        if dtype != "uint8":  # which is taken as it is
            assert found[30, 40].mean() > found[5, 5].mean() + 50
    broken = values.astype(np.float32)
    broken[0, 0] = np.nan
    assert picture(broken).shape == (60, 90, 3)
    with pytest.raises(ImageError, match="no picture"):
        picture(values.astype(complex))


def test_answers_are_drawn_and_taken_back(stirred: Sam) -> None:
    image = (_plane() * 255).astype(np.uint8)
    labels = np.zeros((60, 90), np.int32)
    labelling = Labelling(stirred, image, labels, is_rgb=False)
    predictor = Predictor(stirred)
    predictor.set_image(picture(image))
    mask = labelling.prompt((), 4, on=[(40, 30)], off=[(80, 5)])
    ours = predictor.predict(points=[(40, 30), (80, 5)], labels=[1, 0]).best
    assert (mask == ours).all() and (labels == 4 * ours).all()
    labelling.prompt((), 5, box=(20, 10, 60, 50))
    assert labelling.undo() and (labels == 4 * ours).all()
    assert labelling.undo() and not labels.any() and not labelling.undo()
    with pytest.raises(PromptError):
        labelling.prompt((), 5)
    with pytest.raises(ImageError, match="no stack"):
        labelling.follow((), 4)
    with pytest.raises(ImageError, match="the labels have shape"):
        Labelling(stirred, image, np.zeros((60, 91), np.int32), is_rgb=False)


def test_channels_are_mapped() -> None:
    bands = np.stack([_plane() * 100, np.zeros((60, 90)), np.zeros((60, 90)), _plane() * 50], -1).astype(np.uint16)
    found = picture(bands, ChannelMapping.parse("3,1,2:0..60"))
    assert found.shape == (60, 90, 3) and found[..., 0].std() > 0 and not found[..., 2].std()


def test_an_object_is_followed_through_a_stack() -> None:
    # A disk that wanders to the right, then is gone.
    y, x = np.mgrid[:96, :128]
    stack = np.full((2, 6, 96, 128), 40, np.uint8)
    for number in range(5):
        stack[1, number][np.hypot(y - 48, x - 50 - 3 * number) < 20] = 220
    labels = np.zeros(stack.shape, np.int32)
    labelling = Labelling(load("anymask-s"), stack, labels, is_rgb=False)
    labelling.prompt((1, 0), 7, box=(29, 27, 71, 69))
    seen: list[int] = []
    count = labelling.follow((1, 0), 7, proceed=lambda plane: seen.append(plane) or plane < 5)  # type: ignore[func-returns-value]
    assert count == 4 and seen == [1, 2, 3, 4, 5]
    for number in range(5):
        disk, found = stack[1, number] > 100, labels[1, number] == 7
        assert (disk & found).sum() / (disk | found).sum() > 0.8
    assert not labels[0].any()
    assert labelling.undo() and not labels[1, 1:].any() and labels[1, 0].any()


def test_the_manifest_names_the_widget() -> None:
    project = tomllib.loads((SRC.parent / "pyproject.toml").read_text())["project"]
    module, file = project["entry-points"]["napari.manifest"]["anymask"].split(":")
    assert module == "anymask.integrations.napari"
    text = (files(module) / file).read_text()
    assert "python_name: anymask.integrations.napari.widget:SegmentWidget" in text


@pytest.mark.long
def test_real_layers_become_labels(
    program: Callable[..., Path], run_program: Callable[..., str], tmp_path: Path
) -> None:
    line = "from qtpy.QtWidgets import QApplication; QApplication([]); import napari, napari.viewer"
    python = program("napari", "napari[pyqt6]", imports=line, install=False)
    ours = ":".join([str(SRC), str(Path(np.__file__).parents[1])])
    photograph = str(files("anymask.samples") / "coffee.jpg")
    said = run_program(python, "napari_layers.py", ours, photograph, home=tmp_path)
    assert said.splitlines()[-1] == "as it should be"
