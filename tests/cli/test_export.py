from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anymask.checkpoints import load_model
from anymask.inference import Predictor


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    y, x = np.mgrid[:60, :90]
    pixels = np.stack([2 * x, 4 * y, x + y], -1).astype(np.uint8)
    path = tmp_path / "photograph.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def image_part(tmp_path_factory: pytest.TempPathFactory, stirred_weights: Path, kept_traces: None) -> Path:
    """The image part of a small model, exported by the command."""
    from anymask.cli import main

    folder = tmp_path_factory.mktemp("exported") / "new"
    assert main(["export", "onnx", str(stirred_weights), "-o", str(folder), "--part", "image"]) == 0
    return folder


def test_what_is_exported_is_verified(anymask: Callable[..., Any], image_part: Path, stirred_weights: Path) -> None:
    assert {path.name for path in image_part.iterdir()} == {"image.onnx", "model.json"}
    ran = anymask("export", "verify", image_part, "--model", stirred_weights, "--rounds", 1)
    assert ran.status == 0, ran.err
    assert "image.onnx" in ran.out and "as the model" in ran.out
    ran = anymask("export", "verify", image_part / "image.onnx", "--model", stirred_weights, "--rounds", 1, "--json")
    (verdict,) = json.loads(ran.out)
    assert verdict["passed"] and verdict["largest"] < 1e-3 and verdict["part"] == "image"


def test_what_differs_ends_with_status_1(
    anymask: Callable[..., Any], image_part: Path, stirred_weights: Path, tmp_path: Path
) -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(image_part / "image.onnx")
    for weight in graph.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.ndim > 1:
            weight.CopyFrom(numpy_helper.from_array(1.1 * values, weight.name))
    onnx.save(graph, tmp_path / "image.onnx")
    ran = anymask("export", "verify", tmp_path / "image.onnx", "--model", stirred_weights, "--rounds", 1)
    assert ran.status == 1
    assert "DIFFERS" in ran.out


def test_another_model_is_told(refused: Callable[..., str], image_part: Path, tmp_path: Path) -> None:
    import torch

    from anymask.checkpoints import save_model
    from anymask.model import SIZES, build_sam

    torch.manual_seed(1)
    save_model(build_sam(SIZES["smoke"]), tmp_path / "other.safetensors")
    error = refused("export", "verify", image_part, "--model", tmp_path / "other.safetensors")
    assert "with other weights than this model's" in error


def test_an_embedding_goes_through_npy(
    anymask: Callable[..., Any], photograph: Path, smoke_weights: Path, tmp_path: Path
) -> None:
    ran = anymask("export", "embedding", photograph, "-o", tmp_path / "out.npy", "--model", smoke_weights)
    assert (ran.status, ran.out.strip()) == (0, str(tmp_path / "out.npy"))
    stored = np.load(tmp_path / "out.npy")
    assert stored.shape == (1, 64, 16, 16) and stored.dtype == np.float32
    model = load_model(smoke_weights)
    ours, theirs = Predictor(model), Predictor(model)
    ours.set_image(photograph)
    theirs.set_embedding(tmp_path / "out.npy", (60, 90))
    a, b = (one.predict(points=[(40, 30)]) for one in (ours, theirs))
    np.testing.assert_array_equal(a.masks, b.masks)
    np.testing.assert_array_equal(a.logits, b.logits)


def test_bad_input_is_one_line(refused: Callable[..., str], photograph: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no model to download is called 'nonsense'" in refused("export", "onnx", "nonsense", "-o", out)
    assert "'text'" in refused("export", "onnx", "anymask-s", "-o", out, "--part", "text")
    assert "greater than or equal to 18" in refused("export", "onnx", "anymask-s", "-o", out, "--opset", 17)
    assert not out.exists()
    assert "is no folder" in refused("export", "onnx", "anymask-s", "-o", photograph)
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    assert "cannot be read as ONNX" in refused("export", "verify", tmp_path / "x.onnx")
    assert "there is no such file" in refused("export", "verify", tmp_path / "y.onnx")
    assert "give a name that ends so" in refused("export", "embedding", photograph, "-o", tmp_path / "x.npz")
    assert "not an image" in refused("export", "embedding", tmp_path / "x.onnx", "-o", tmp_path / "x.npy")


def test_a_missing_package_is_named_before_anything_is_done(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("anymask.export.description.find_spec", lambda name: None if "onnx" in name else find(name))
    error = refused("export", "onnx", "anymask-s", "-o", tmp_path / "out")
    assert "pip install 'anymask[export]'" in error
    assert not (tmp_path / "out").exists()
    assert "pip install 'anymask[export]'" in refused("export", "verify", tmp_path)
