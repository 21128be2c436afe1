"""Engines that run exported graphs against torch, and which of them is chosen."""

from __future__ import annotations

import copy
import gc
import json
import logging
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

import anymask
from anymask.checkpoints import save_model
from anymask.cli import weights
from anymask.errors import InputError, MissingPackageError
from anymask.inference import PLAIN, AutomaticMasks, Predictor, Prompt
from anymask.inference.runtimes import ExportedModel, RuntimeName, runtime_of, use, weights_hash
from anymask.inference.runtimes import engines as engines_module
from anymask.inference.runtimes.engines import EngineName, Graph, installed
from anymask.inference.runtimes.figures import fastest, measure, open_graphs
from anymask.inference.runtimes.graphs import PARTS, are_exported, export_graphs, graphs_folder
from anymask.model import SIZES, Sam, build_sam
from anymask.samples import sample_path

ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")
PROMPTS = [
    Prompt(points=[(290, 130)]),
    Prompt(points=[(290, 130), (100, 50)], labels=[1, 0]),
    Prompt(box=(100, 60, 400, 300)),
    Prompt(points=[(290, 130)], box=(100, 60, 400, 300)),
]

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMASK_HOME", str(home))


@pytest.fixture
def model(randomise: Callable[[nn.Module], None]) -> Sam:
    """The same model in every test, so that it is exported once."""
    torch.manual_seed(0)
    sam = build_sam(SIZES["smoke"]).eval()
    randomise(sam)
    return sam


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> EngineName:
    if request.param not in installed():
        pytest.skip(f"{request.param} is not installed")
    name: EngineName = request.param
    return name


def _answers(model: Sam) -> list[np.ndarray]:
    predictor = Predictor(model)
    predictor.set_image(sample_path("coffee"))
    first = predictor.predict_many(PROMPTS)
    again = predictor.predict_many([Prompt(points=[(290, 130)], mask=first[0].logits[0]), PROMPTS[2]], multimask=True)
    session = predictor.session()
    clicks = [session.click(290, 130), session.click(200, 90, 0)]
    return [np.concatenate([masks.scores, masks.logits.ravel()]) for masks in (*first, *again, *clicks)]


def test_answers_are_torchs(model: Sam, engine: EngineName) -> None:
    expected = _answers(model)
    use(model, engine)
    assert set(runtime_of(model).graphs) == set(PARTS)
    for ours, theirs in zip(_answers(model), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_everything_is_torchs(model: Sam, engine: EngineName) -> None:
    options = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    expected = AutomaticMasks(model, **options).generate(sample_path("coffee"))
    assert expected
    found = AutomaticMasks(use(model, engine), **options).generate(sample_path("coffee"))
    assert [record.area for record in found] == pytest.approx([record.area for record in expected], rel=1e-3)
    assert [record.predicted_iou for record in found] == pytest.approx(
        [record.predicted_iou for record in expected], rel=1e-4
    )


def test_graphs_are_exported_once(model: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export_graphs(model)
    assert folder == graphs_folder(model) and are_exported(folder)
    assert not list(folder.glob(".weights-*"))
    monkeypatch.setattr("anymask.inference.runtimes.graphs._export", lambda *_: pytest.fail("it was there"))
    assert export_graphs(model) == folder


def test_changed_weights_are_torchs_again(model: Sam, caplog: pytest.LogCaptureFixture) -> None:
    use(model, "onnxruntime")
    assert not runtime_of(copy.deepcopy(model)).graphs
    with torch.no_grad():
        model.mask_decoder.iou_token.weight.add_(1.0)
    with caplog.at_level(logging.WARNING, "anymask"):
        assert not runtime_of(model).graphs and not runtime_of(model).graphs
    assert [record.message for record in caplog.records] == [
        "the model was changed since its runtime was chosen: torch answers for it from now on"
    ]


def test_a_model_is_not_kept_by_its_graphs(model: Sam) -> None:
    other = use(copy.deepcopy(model), "onnxruntime")
    gone = weakref.ref(other)
    assert runtime_of(other).graphs
    del other
    gc.collect()
    assert gone() is None


def test_torch_takes_the_choice_back(model: Sam) -> None:
    use(use(model, "onnxruntime"), "torch")
    assert not runtime_of(model).graphs


def test_what_cannot_be_chosen(model: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no runtime 'tensorrt'; there are auto, torch, onnxruntime, openvino"):
        use(model, "tensorrt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="float32 on the CPU; this one is"):
        use(build_sam(SIZES["smoke"]).to(torch.bfloat16), "onnxruntime")
    monkeypatch.setattr(engines_module, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="pip install openvino"):
        use(model, "openvino")


def test_the_command_names_the_same_runtimes() -> None:
    assert get_args(weights.RuntimeName) == get_args(RuntimeName)


def test_auto_takes_what_was_measured(model: Sam, home: Path) -> None:
    assert not runtime_of(use(model, "auto")).graphs  # nothing was measured: torch, never a guess
    figures = measure(model, threads=1)
    assert set(figures) == {"torch", *installed()}
    assert all(set(seconds) == set(PARTS) and min(seconds.values()) > 0 for seconds in figures.values())
    file = graphs_folder(model) / "figures.json"
    kept = json.loads(file.read_text())
    (key,) = kept
    try:
        kept[key] = {"torch": dict.fromkeys(PARTS, 2.0), "onnxruntime": {"encoder": 3.0, "click": 1.0, "batch": 2.0}}
        file.write_text(json.dumps(kept))
        assert fastest(graphs_folder(model), 1) == {"click": "onnxruntime"}
        assert fastest(graphs_folder(model), 2) is None
        assert set(runtime_of(use(model, "auto", threads=1)).graphs) == {"click"}
        file.write_text("cut sho")
        assert fastest(graphs_folder(model), 1) is None
    finally:
        file.unlink()


def test_a_runtime_that_answers_wrongly_is_not_measured(
    model: Sam, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def off(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: values + 1 for name, values in right.run(inputs).items()}

    right = open_graphs(export_graphs(model), {"click": "onnxruntime"}, 1)["click"]
    wrong = Graph(inputs=right.inputs, run=off)
    monkeypatch.setattr("anymask.inference.runtimes.figures.installed", lambda: ["onnxruntime"])
    monkeypatch.setattr("anymask.inference.runtimes.figures.open_graphs", lambda *_: {"click": wrong})
    with caplog.at_level(logging.WARNING, "anymask"):
        figures = measure(model, threads=1)
    (graphs_folder(model) / "figures.json").unlink()
    assert set(figures["onnxruntime"]) == {"encoder", "batch"} and set(figures["torch"]) == set(PARTS)
    assert [record.message for record in caplog.records if "onnxruntime answers wrongly" in record.message]


def test_load_chooses(model: Sam, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.safetensors")
    assert not runtime_of(anymask.load(tmp_path / "model.safetensors")).graphs
    exported = anymask.load(tmp_path / "model.safetensors", runtime="onnxruntime")
    assert isinstance(exported, ExportedModel) and set(runtime_of(exported).graphs) == set(PARTS)
    assert exported.hash == weights_hash(model) and exported.config == model.config
    for_smaller = anymask.load(tmp_path / "model.safetensors", runtime="onnxruntime", image_size=64)
    assert isinstance(for_smaller, Sam) and set(runtime_of(for_smaller).graphs) == set(PARTS)


def test_words_and_ragged_prompts_are_torchs(model: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of different lengths in one batch, which the graphs do not cover, are answered all the same."""
    use(model, "onnxruntime")
    predictor = Predictor(model, refinement=PLAIN)
    predictor.set_image(sample_path("coffee"))
    asked: list[str] = []
    answer = model.answer
    monkeypatch.setattr(model, "answer", lambda *given, **more: asked.append("torch") or answer(*given, **more))
    predictor.predict_many([PROMPTS[0]], multimask=False)
    assert asked == []
    predictor.predict_many(PROMPTS[:2], multimask=False)
    assert asked == ["torch"]
