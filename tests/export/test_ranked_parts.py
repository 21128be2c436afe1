"""Graphs of a model with a ranker: corrected IoUs are those of the model, whichever part answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch

from anymask.export.onnx import export_onnx
from anymask.export.parts import build_part
from anymask.model import SIZES, Embedding, Prompts, Sam, build_sam

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def model(randomise: Callable[..., None]) -> Sam:
    torch.manual_seed(0)
    config = SIZES["smoke"]
    built = build_sam(replace(config, decoder=replace(config.decoder, ranker_width=24))).eval()
    randomise(built.mask_decoder)
    assert built.ranker is not None
    torch.nn.init.normal_(built.ranker.out.weight)
    return built


@pytest.fixture(scope="module")
def folder(model: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranked")
    export_onnx(model, folder, name="ranked", parts=("decoder", "image", "prompt"))
    return folder


@pytest.mark.parametrize("part", ["decoder", "prompt"])
@pytest.mark.parametrize("has_mask", [False, True])
def test_predicted_ious_are_the_models(model: Sam, folder: Path, part: str, has_mask: bool) -> None:
    side = model.embedding_size
    features = torch.randn(1, model.config.width, side, side, generator=torch.Generator().manual_seed(1))
    given = build_part(model, "decoder").example | {
        "features": features,
        "has_mask_input": torch.full((3,), float(has_mask)),
    }
    prompts = Prompts(
        points=given["points"][None],
        labels=given["labels"][None].long(),
        masks=given["mask_input"][None],
        has_mask=given["has_mask_input"][None] > 0,
    )
    with torch.no_grad():
        _, wanted = model.decode(Embedding(features=features), prompts)
    feeds = {name: x.numpy() for name, x in given.items()}
    if part == "prompt":
        image = onnxruntime.InferenceSession(folder / "image.onnx")
        names = [output.name for output in image.get_outputs()]
        feeds |= dict(zip(names, image.run(None, {"features": features.numpy()}), strict=True))
    session = onnxruntime.InferenceSession(folder / f"{part}.onnx")
    taken = {value.name: feeds[value.name] for value in session.get_inputs()}
    _, found = session.run(["logits", "iou"], taken)
    assert torch.allclose(torch.from_numpy(found), wanted[0], atol=1e-4)
