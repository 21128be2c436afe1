"""Faster inference by choice: results stay the same, or as near as the coarser type allows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch

import anymask
from anymask.errors import InputError
from anymask.geometry.masks import pair_iou
from anymask.inference.acceleration import accelerate
from anymask.model import SIZES, Prompts, Sam, ViTConfig, build_sam
from anymask.samples import SAMPLES, sample_path

_SMALL_VIT = dataclasses.replace(
    SIZES["vit_b"],
    encoder=ViTConfig(width=64, depth=3, num_heads=2, global_blocks=(1,), position_grid=8),
    image_size=128,
)
CONFIGS = {
    "vit": _SMALL_VIT,
    "tiny_vit": dataclasses.replace(SIZES["vit_t"], image_size=128),
    "compact": dataclasses.replace(SIZES["compact"], image_size=128),
}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def small(name: str, randomise: Callable[..., None]) -> Sam:
    model = build_sam(CONFIGS[name]).eval()
    randomise(model)
    return model


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 128, 128, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", list(CONFIGS))
def test_an_encoder_in_bfloat16_is_near_and_hands_out_float32(name: str, randomise: Callable[..., None]) -> None:
    model = small(name, randomise)
    with torch.inference_mode():
        exact = model.encode(images()).features
        faster = accelerate(model, encoder_dtype=torch.bfloat16).encode(images()).features
    assert next(model.image_encoder.parameters()).dtype == torch.bfloat16
    assert model.dtype == faster.dtype == torch.float32
    assert 0 < float((faster - exact).norm() / exact.norm()) < 0.05


def test_the_weights_keep_their_names(randomise: Callable[..., None]) -> None:
    model = small("compact", randomise)
    names = list(model.state_dict())
    assert list(accelerate(model, encoder_dtype=torch.bfloat16).state_dict()) == names


def test_the_embedded_models_masks_hardly_change_in_bfloat16() -> None:
    exact = anymask.Predictor(anymask.load("anymask-s"))
    faster = anymask.Predictor(accelerate(anymask.load("anymask-s"), encoder_dtype=torch.bfloat16))
    ious = []
    for name, sample in SAMPLES.items():
        for predictor in (exact, faster):
            predictor.set_image(sample_path(name))
        height, width = exact.image.frame.original
        points = [sample.point, (width // 3, height // 2), (width // 2, height // 4)]
        for point in points:
            one, other = (p.predict(points=[point], labels=[1], multimask=False).best for p in (exact, faster))
            ious.append(float(pair_iou(one, other)))
    assert np.mean(ious) > 0.97 and min(ious) > 0.9


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_encoder_compiles_in_one_piece(name: str, randomise: Callable[..., None]) -> None:
    model = small(name, randomise)
    with torch.inference_mode():
        exact = model.encode(images()).features
        model.image_encoder.compile(backend="aot_eager", fullgraph=True, dynamic=False)
        torch.testing.assert_close(model.encode(images()).features, exact, rtol=1e-4, atol=1e-4)


def test_what_makes_no_sense_is_refused(randomise: Callable[..., None]) -> None:
    model = small("compact", randomise)
    with pytest.raises(InputError, match=r"encoder_dtype is torch\.int8"):
        accelerate(model, encoder_dtype=torch.int8)
    with pytest.raises(InputError, match="this one is on cpu"):
        accelerate(model, cuda_graphs=True)


@needs_cuda
@pytest.mark.parametrize("name", list(CONFIGS))
def test_compiled_on_cuda(name: str, randomise: Callable[..., None]) -> None:
    model = small(name, randomise).to("cuda")
    with torch.inference_mode():
        exact = model.encode(images().cuda()).features
        faster = accelerate(model, compile=True).encode(images().cuda()).features
    torch.testing.assert_close(faster, exact, rtol=1e-2, atol=1e-2)


@needs_cuda
def test_replayed_decoders_answer_alike_and_hand_out_what_they_own(randomise: Callable[..., None]) -> None:
    plain, replayed = small("compact", randomise).to("cuda"), small("compact", randomise).to("cuda")
    accelerate(replayed, cuda_graphs=True)
    generator = torch.Generator().manual_seed(4)
    kept = []
    with torch.inference_mode():
        embedding = plain.encode(images(1).cuda())
        for count in (1, 3, 1, 3, 2):
            points = 128 * torch.rand(1, count, 2, 2, generator=generator)
            prompts = Prompts.build(points=points.cuda(), labels=torch.ones(1, count, 2, dtype=torch.long).cuda())
            kept.append((plain.decode(embedding, prompts), replayed.decode(embedding, prompts)))
    for exact, ours in kept:
        torch.testing.assert_close(ours, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("has_products", [True, False])
def test_a_type_that_the_processor_lacks_is_told(
    has_products: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has_products)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    with caplog.at_level(logging.WARNING, "anymask"):
        accelerate(build_sam(SIZES["smoke"]), encoder_dtype=torch.bfloat16)
    assert [("no products in torch.bfloat16" in record.message) for record in caplog.records] == [True][has_products:]
