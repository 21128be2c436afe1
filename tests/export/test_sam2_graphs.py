"""Graphs of SAM 2's kinds: in ONNX Runtime they answer as the model does, and say whether there is an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from anymask.export.onnx import export_onnx
from anymask.export.parts import PartName
from anymask.export.verify import open_exported, verify
from anymask.inference import PLAIN, Masks, Predictor, Prompt
from anymask.inference.runtimes.figures import open_graphs
from anymask.inference.runtimes.graphs import PARTS as GRAPHS
from anymask.inference.runtimes.runtime import Runtime
from anymask.model import Embedding, Prompts, Sam
from sam2_models import ENCODERS, small

pytestmark = pytest.mark.long

TOLERANCE = 1e-4
PARTS: tuple[PartName, ...] = ("encoder", "decoder", "image", "prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A model, and the folder of its graphs."""

    model: Sam
    folder: Path

    def run(self, part: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        session = onnxruntime.InferenceSession(self.folder / f"{part}.onnx")
        names = [output.name for output in session.get_outputs()]
        found = session.run(names, {value.name: inputs[value.name].numpy() for value in session.get_inputs()})
        return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


@pytest.fixture(scope="module", params=list(ENCODERS))
def exported(
    request: pytest.FixtureRequest, randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    model = small(request.param)
    randomise(model)
    folder = tmp_path_factory.mktemp(request.param)
    export_onnx(model, folder, name=request.param, parts=PARTS)
    return Exported(model=model, folder=folder)


@pytest.fixture
def embedding(exported: Exported) -> Embedding:
    with torch.no_grad():
        return exported.model.encode(torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1)))


def check(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < TOLERANCE


def test_the_encoder_gives_all_that_a_decoder_takes(exported: Exported) -> None:
    picture = torch.randint(0, 256, (96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    found = exported.run("encoder", {"image": picture})
    model = exported.model
    with torch.no_grad():
        expected = model.encode(model.preprocess(picture.permute(2, 0, 1)[None])).tensors()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        check(found[name], tensor)


def asked(model: Sam) -> dict[str, Prompts]:
    """Return prompts of one length each: clicks, boxes beside which the padding point stands, and a next round."""
    generator = torch.Generator().manual_seed(3)
    points = 96 * torch.rand(1, 3, 4, 2, generator=generator)
    masks = 4 * torch.randn(1, 3, 24, 24, generator=generator)

    def prompts(labels: list[int], **more: torch.Tensor) -> Prompts:
        return Prompts(points=points[:, :, : len(labels)], labels=torch.tensor(labels).expand(1, 3, -1), **more)

    return {
        "a click": Prompts(points=points[:, :1, :2], labels=torch.tensor([[[1, -1]]])),
        "clicks": prompts([1, 0, -1]),
        "boxes": prompts([2, 3, -1]),
        "boxes and clicks": prompts([1, 2, 3, -1]),
        "another round": prompts([1, 0, -1], masks=masks, has_mask=torch.tensor([[True, False, True]])),
    }


@pytest.mark.parametrize("part", ["decoder", "prompt"])
@pytest.mark.parametrize("kind", ["a click", "clicks", "boxes", "boxes and clicks", "another round"])
def test_answers_are_the_models(exported: Exported, embedding: Embedding, part: str, kind: str) -> None:
    model, prompts = exported.model, asked(exported.model)[kind]
    count = prompts.points.shape[1]
    inputs = embedding.tensors() | {
        "points": prompts.points[0],
        "labels": prompts.labels[0].float(),
        "mask_input": torch.zeros(count, 24, 24) if prompts.masks is None else prompts.masks[0],
        "has_mask_input": torch.zeros(count) if prompts.has_mask is None else prompts.has_mask[0].float(),
    }
    if part == "prompt":
        inputs |= exported.run("image", inputs)
    found = exported.run(part, inputs)
    with torch.no_grad():
        expected = model.answer(embedding, prompts)._asdict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        check(found[name], tensor[0])


def test_the_object_score_comes_through_the_runtime(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported.model
    picture = np.random.default_rng(0).integers(0, 256, (70, 120, 3), np.uint8)

    def ask() -> list[Masks]:
        predictor = Predictor(model, refinement=PLAIN)
        predictor.set_image(picture)
        first = predictor.predict(points=[(30, 40)])
        again = predictor.predict(points=[(30, 40), (90, 20)], labels=[1, 0], mask=first.logits[0])
        boxes = predictor.predict_many([Prompt(box=(5, 5, 60, 50)), Prompt(points=[(9, 9)], box=(5, 5, 60, 50))])
        return [first, again, *boxes]

    expected = ask()
    graphs = open_graphs(exported.folder, dict.fromkeys(GRAPHS, "onnxruntime"), threads=1)
    monkeypatch.setattr("anymask.inference.answers.runtime_of", lambda model: Runtime(model=model, graphs=graphs))
    for found, wanted in zip(ask(), expected, strict=True):
        assert found.object_score == pytest.approx(wanted.object_score, abs=1e-4)
        np.testing.assert_allclose(found.logits, wanted.logits, rtol=1e-4, atol=1e-4 * np.abs(wanted.logits).max())


def test_verification_finds_a_wrong_object_score(exported: Exported, tmp_path: Path) -> None:
    path = exported.folder / "decoder.onnx"
    (verdict,) = verify(exported.model, [open_exported(path)], rounds=1)
    assert verdict.passed
    graph = onnx.load(path)
    for node in graph.graph.node:
        node.output[:] = ["opposite" if name == "object_score" else name for name in node.output]
    graph.graph.node.append(onnx.helper.make_node("Neg", ["opposite"], ["object_score"]))
    onnx.save(graph, tmp_path / "decoder.onnx")
    (verdict,) = verify(exported.model, [open_exported(tmp_path / "decoder.onnx")], rounds=1)
    assert not verdict.passed
