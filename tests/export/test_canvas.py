"""Exports for tools that hand over a canvas: the graphs find the image on it, and answer as the predictor does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from jaxtyping import Bool, Float, UInt8

from anymask.errors import InputError
from anymask.export.canvas import CANVAS, MASK_INPUT, CanvasDecoder, CanvasEncoder
from anymask.export.x_anylabeling import export_x_anylabeling
from anymask.geometry.masks import pair_iou
from anymask.inference import Predictor, Refinement, load
from anymask.model import Sam

NETWORKS_OWN = Refinement(tidy=False, zoom=False)


def _canvas(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "684 1024 3"]:
    canvas = np.zeros((*CANVAS, 3), np.float32)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def _question(row: Any, points: list[tuple[float, float]], labels: list[int]) -> dict[str, Any]:
    """What the tools ask: their points always end with a padding point."""
    return {
        "image_embeddings": row,
        "point_coords": np.array([[*points, (0, 0)]], np.float32),
        "point_labels": np.array([[*labels, -1]], np.float32),
        "mask_input": np.zeros((1, 1, MASK_INPUT, MASK_INPUT), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(CANVAS, np.float32),
    }


def _photograph(size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    from importlib.resources import files

    from PIL import Image

    with Image.open(str(files("anymask.samples") / "coffee.jpg")) as image:
        return np.array(image.convert("RGB").resize(size[::-1]))


@torch.no_grad()
def _answer(
    model: Sam, image: UInt8[np.ndarray, "h w 3"], points: list[tuple[float, float]], labels: list[int]
) -> Bool[np.ndarray, "h w"]:
    row = CanvasEncoder(model)({"image": torch.from_numpy(_canvas(image))})
    question = {name: torch.as_tensor(value) for name, value in _question(row, points, labels).items()}
    masks = CanvasDecoder(model)(question)[0]
    assert masks.shape == (1, 1, *CANVAS)
    return (masks[0, 0, : image.shape[0], : image.shape[1]] > 0).numpy()


@pytest.mark.parametrize("size", [(683, 1024), (684, 456), (400, 1024)], ids=["landscape", "portrait", "wide"])
def test_masks_are_the_predictors_whatever_part_of_the_canvas_is_image(size: tuple[int, int]) -> None:
    model, image = load("anymask-s"), _photograph(size)
    predictor = Predictor(model, refinement=NETWORKS_OWN)
    predictor.set_image(image)
    height, width = size
    click, away = (0.48 * width, 0.33 * height), (0.1 * width, 0.9 * height)
    box = (0.25 * width, 0.12 * height, 0.75 * width, 0.62 * height)
    asked: list[tuple[dict[str, Any], list[tuple[float, float]], list[int]]] = [
        ({"points": [click], "labels": [1]}, [click], [1]),
        ({"points": [click, away], "labels": [1, 0]}, [click, away], [1, 0]),
        ({"box": box}, [box[:2], box[2:]], [2, 3]),
        ({"box": box, "points": [click], "labels": [1]}, [click, box[:2], box[2:]], [1, 2, 3]),
    ]
    for prompt, points, labels in asked:
        assert pair_iou(_answer(model, image, points, labels), predictor.predict(**prompt).best) >= 0.99


def test_a_black_image_is_taken_whole(stirred: Sam) -> None:
    assert _answer(stirred, np.zeros((*CANVAS, 3), np.uint8), [(300, 200)], [1]).shape == CANVAS


def test_the_files_compute_what_the_modules_do(stirred: Sam, kept_traces: None, tmp_path: Path) -> None:
    encoder, decoder, config = export_x_anylabeling(stirred, tmp_path / "new", name="my model/3 ü")
    assert config.name == "my-model-3.yaml"
    lines = dict(line.split(": ", 1) for line in config.read_text().splitlines())
    values = {name: json.loads(value) for name, value in lines.items()}
    assert values["type"] == "segment_anything" and values["name"] == "my-model-3"
    assert (values["encoder_model_path"], values["decoder_model_path"]) == (encoder.name, decoder.name)
    image = _canvas(np.random.default_rng(0).integers(1, 256, (500, 700, 3)).astype(np.uint8))
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (encoder, decoder)]
    (row,) = sessions[0].run(None, {sessions[0].get_inputs()[0].name: image})
    with torch.no_grad():
        ours = CanvasEncoder(stirred)({"image": torch.from_numpy(image)})
    np.testing.assert_allclose(row, ours, atol=5e-3)  # a pixel may be rounded the other way
    assert row[0, :2].tolist() == [500, 700]
    for points, labels in (([(300, 200)], [1]), ([(100, 100), (400, 300)], [2, 3]), ([(9, 9), (50, 60)], [1, 0])):
        question = _question(row, points, labels)
        found = sessions[1].run(None, question)
        with torch.no_grad():
            expected = CanvasDecoder(stirred)({name: torch.as_tensor(value) for name, value in question.items()})
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_model_of_mapped_channels_is_refused(stirred: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stirred, "channels", {"red": 0})
    with pytest.raises(InputError, match="mapping of channels"):
        export_x_anylabeling(stirred, tmp_path, name="mapped")
    assert list(tmp_path.iterdir()) == []
