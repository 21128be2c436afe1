"""Models by their exported graphs alone: torch is not imported, and the answers are torch's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from torch import nn

import anymask
from anymask.checkpoints import load_model, save_model
from anymask.data.images import read_image
from anymask.errors import InputError, MissingPackageError
from anymask.geometry import masks as mask_geometry
from anymask.geometry import rle
from anymask.inference import AutomaticMasks, EmbeddingCache, Predictor, Prompt, TiledMasks
from anymask.inference.loading import load_exported
from anymask.inference.runtimes import ExportedModel
from anymask.inference.runtimes.graphs import PARTS, export_graphs, find_exported, note_source, packaged_folder
from anymask.model import SIZES, build_sam
from anymask.samples import SAMPLES, sample_path

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

PROMPTS = [
    Prompt(points=[(290, 130)]),
    Prompt(points=[(290, 130), (100, 50)], labels=[1, 0]),
    Prompt(points=[(290, 130), (100, 50), (200, 200)], labels=[1, 0, 1]),
    Prompt(box=(100, 60, 400, 300)),
    Prompt(points=[(290, 130)], box=(100, 60, 400, 300)),
]
HOW = ("hidden", "broken")
WITHOUT = str(Path(__file__).parent / "without_torch.py")
EVERYTHING = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMASK_HOME", str(home))


@pytest.fixture(scope="module")
def weights(home: Path, randomise: Callable[[nn.Module], None]) -> Path:
    """The file of a small model whose graphs are in the cache."""
    torch.manual_seed(0)
    sam = build_sam(SIZES["smoke"]).eval()
    randomise(sam)
    path = home / "small.safetensors"
    save_model(sam, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYMASK_HOME", str(home))
        note_source(path, export_graphs(load_model(path)))
    return path


@pytest.fixture
def exported(weights: Path) -> ExportedModel:
    found = load_exported(weights, "onnxruntime", threads=1)
    assert found is not None
    return found


def _run(how: str, *arguments: str | Path) -> str:
    command = [sys.executable, WITHOUT, how, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return 1.0 if not (one | other).any() else float(mask_geometry.pair_iou(one, other))


def test_answers_are_torchs(exported: ExportedModel, weights: Path) -> None:
    found, expected = Predictor(exported), Predictor(load_model(weights))
    answers = []
    for predictor in (found, expected):
        predictor.set_image(sample_path("coffee"))
        first = predictor.predict_many(PROMPTS)
        again = predictor.predict_many(
            [Prompt(points=[(290, 130)], mask=first[0].logits[0]), PROMPTS[3]], multimask=True
        )
        session = predictor.session()
        clicks = [session.click(290, 130), session.click(200, 90, 0)]
        answers.append([*first, *again, *clicks])
    for ours, theirs in zip(*answers, strict=True):
        scale = np.abs(theirs.logits).max()
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4 * scale)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
        assert all(_iou(a, b) >= 0.999 for a, b in zip(ours.masks, theirs.masks, strict=True))


def test_everything_and_tiles_are_torchs(exported: ExportedModel, weights: Path) -> None:
    model = load_model(weights)
    for maker, more in ((AutomaticMasks, {"adaptive": True}), (TiledMasks, {"tile": 256, "overlap": 64})):
        records = [maker(each, **EVERYTHING, **more).generate(sample_path("coffee")) for each in (exported, model)]
        assert len(records[0]) == len(records[1]) > 0
        for ours, theirs in zip(*records, strict=True):
            assert ours.predicted_iou == pytest.approx(theirs.predicted_iou, abs=1e-4)
            assert _iou(rle.decode(ours.rle), rle.decode(theirs.rle)) >= 0.999


def test_embeddings_are_kept_for_both(exported: ExportedModel, weights: Path, tmp_path: Path) -> None:
    kept = Predictor(load_model(weights), cache=EmbeddingCache(tmp_path))
    kept.set_image(sample_path("coffee"))
    (file,) = tmp_path.iterdir()
    used = Predictor(exported, cache=EmbeddingCache(tmp_path))
    used.set_image(sample_path("coffee"))
    assert list(tmp_path.iterdir()) == [file]
    ours, theirs = (each.predict(points=[(290, 130)]) for each in (used, kept))
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-2)  # float16 in the cache


@pytest.mark.parametrize("how", HOW)
def test_the_command_segments(how: str, weights: Path, tmp_path: Path) -> None:
    _run(how, "anymask", "segment", sample_path("coffee"), "--point", "290,130", "--model", weights, "-o", tmp_path)
    predictor = Predictor(load_model(weights))
    predictor.set_image(sample_path("coffee"))
    mask = read_image(tmp_path / "coffee_mask.png")[..., 0] > 0
    assert _iou(mask, predictor.predict(points=[(290, 130)]).best) >= 0.999


def test_the_command_segments_everything(weights: Path, tmp_path: Path) -> None:
    options = ["--points-per-side", "4", "--pred-iou-thresh", "0", "--stability-score-thresh", "0"]
    _run("broken", "anymask", "everything", sample_path("coffee"), "--model", weights, "-o", tmp_path, *options)
    found = json.loads((tmp_path / "coffee.json").read_text())["annotations"]
    expected = AutomaticMasks(load_model(weights), adaptive=True, **EVERYTHING).generate(sample_path("coffee"))
    assert [each["area"] for each in found] == pytest.approx([record.area for record in expected], rel=1e-3)


PROGRAM = """
import sys
import anymask
model = anymask.load(sys.argv[1], runtime=sys.argv[2])
predictor = anymask.Predictor(model, cache=anymask.EmbeddingCache(sys.argv[3]))
predictor.set_image(sys.argv[4])
print(predictor.predict(points=[(290, 130)]).masks.sum(axis=(1, 2)).tolist())
print(len(anymask.AutomaticMasks(model, points_per_side=2).generate(sys.argv[4])) >= 0)
heavy = ("torch", "sympy", "transformers", "onnx", "pandas", "scipy")
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(("how", "runtime"), [("hidden", "auto"), ("broken", "onnxruntime")])
def test_a_program_predicts(how: str, runtime: str, weights: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    areas, _, heavy = _run(how, program, weights, runtime, tmp_path / "kept", sample_path("coffee")).splitlines()
    predictor = Predictor(load_model(weights))
    predictor.set_image(sample_path("coffee"))
    expected = predictor.predict(points=[(290, 130)]).masks.sum(axis=(1, 2))
    assert json.loads(areas) == pytest.approx(expected.tolist(), rel=1e-3)
    assert heavy == "[]"


def test_what_needs_no_torch_imports_none(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra `server` is not installed")
    modules = ("inference", "workflows.folder_run", "server.app", "server.front", "engine.status", "cli.serve")
    program = tmp_path / "program.py"
    program.write_text("".join(f"import anymask.{module}\n" for module in modules))
    _run("broken", program)


def test_the_server_answers_up_to_the_first_click(weights: Path, tmp_path: Path) -> None:
    """The page decodes by the graph that it is sent, so a click needs an encoded image and that file."""
    pytest.importorskip("fastapi", reason="the extra `server` is not installed")
    arguments = ["serve", tmp_path / "project", "--model", weights, "--port", "0", "--json"]
    command = [sys.executable, WITHOUT, "broken", "anymask", *map(str, arguments)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        url = json.loads(running.stdout.readline())["url"]
        with httpx.Client(base_url=url, timeout=60) as client:
            graph = client.get("/api/models/prompt.onnx")
            assert graph.status_code == 200 and len(graph.content) > 10_000
            image = client.post("/api/images", json={"sample": "coffee"}).json()["id"]
            client.post(f"/api/images/{image}/encode").raise_for_status()
            answer = client.get(f"/api/images/{image}/embedding")
            for _ in range(300):
                if answer.status_code != 409:
                    break
                time.sleep(0.2)
                answer = client.get(f"/api/images/{image}/embedding")
            assert answer.status_code == 200
            features = np.frombuffer(answer.content, "<f2").reshape(64, 16, 16).astype(np.float32)
        predictor = Predictor(load_model(weights))
        predictor.set_image(sample_path("coffee"))
        expected = predictor.image.embedding.features[0].numpy()
        np.testing.assert_allclose(features, expected, atol=1e-2 * np.abs(expected).max())
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)


def test_what_graphs_cannot_do_is_said(exported: ExportedModel, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="run on the CPU in float32, not on cuda"):
        Predictor(exported, device="cuda")
    assert Predictor(exported, device="cpu", dtype=torch.float32).model is exported
    monkeypatch.setattr("anymask.inference.loading.has_torch", lambda: False)
    assert isinstance(anymask.load(weights), ExportedModel)
    with pytest.raises(MissingPackageError, match="without torch there is no other way"):
        anymask.load(weights.with_name("other.safetensors"))


def test_graphs_are_of_the_weights_that_lie_there_now(weights: Path) -> None:
    assert find_exported(weights) is not None and find_exported(weights.with_name("none.safetensors")) is None
    before = weights.stat()
    try:
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 10))
        assert find_exported(weights) is None
    finally:
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_packages_graphs_answer_as_its_weights() -> None:
    if find_exported("anymask-s") != packaged_folder():
        pytest.skip("this build has none of the present weights: `make web` makes them")
    found = Predictor(ExportedModel(packaged_folder(), dict.fromkeys(PARTS, "onnxruntime"), threads=1))
    expected = Predictor(load_model("anymask-s"))
    for name in SAMPLES:
        answers = []
        for predictor in (found, expected):
            predictor.set_image(sample_path(name))
            height, width = predictor.image.frame.original
            places = [(x * width, y * height) for x in (0.3, 0.7) for y in (0.4, 0.6)]
            answers.append(predictor.predict_many([Prompt(points=[place]) for place in places]))
        for ours, theirs in zip(*answers, strict=True):
            np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4 * np.abs(theirs.logits).max())
            assert all(_iou(a, b) >= 0.999 for a, b in zip(ours.masks, theirs.masks, strict=True))
