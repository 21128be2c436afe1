"""Small models of every kind, and the damaged files that users have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from anymask.model import (
    SIZES,
    DecoderConfig,
    HieraConfig,
    Sam,
    SamConfig,
    TinyViTConfig,
    ViTConfig,
    build_sam,
)

_DECODER = DecoderConfig(mlp_dim=64, iou_hidden=32)
_VIT = ViTConfig(width=32, depth=4, num_heads=2, global_blocks=(1, 3), window_size=3, position_grid=4)
_TINY = TinyViTConfig(widths=(32, 32, 48, 64), depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2))

_HIERA = HieraConfig(width=16, depths=(1, 1, 2, 1), global_blocks=(3,), window_sizes=(4, 2, 4, 2), position_grid=3)
_SAM2 = replace(_DECODER, skip_widths=(64, 64), object_score=True, sigmoid_iou=True, min_stability=0.98)

CONFIGS = {
    "vit": SamConfig(encoder=_VIT, decoder=_DECODER, width=64, image_size=64),
    "vit with one block": SamConfig(
        encoder=replace(_VIT, depth=1, global_blocks=(0,), mlp_ratio=2.5, window_size=14),
        decoder=replace(_DECODER, iou_depth=4, num_multimask=2, depth=1),
        width=64,
        image_size=64,
        mask_channels=8,
    ),
    "hq": SamConfig(encoder=_VIT, decoder=replace(_DECODER, hq_feature_width=32), width=64, image_size=64),
    "tiny_vit": SamConfig(encoder=replace(_TINY, window_sizes=(7, 7, 14, 7)), decoder=_DECODER, width=64),
    "light hq": SamConfig(encoder=_TINY, decoder=replace(_DECODER, hq_feature_width=48), width=64),
    "hiera": SamConfig(
        encoder=_HIERA,
        decoder=_SAM2,
        width=64,
        image_size=64,
        pred_iou_thresh=0.8,
        fit="stretch",
        pads_boxes=True,
    ),
    "compact": replace(SIZES["smoke"], image_size=64),
}


def build(kind: str, randomise: Callable[..., None]) -> Sam:
    model = build_sam(CONFIGS[kind]).eval()
    randomise(model)
    return model


@pytest.fixture(params=list(CONFIGS))
def any_model(request: pytest.FixtureRequest, randomise: Callable[..., None]) -> Sam:
    return build(request.param, randomise)


@pytest.fixture(params=[kind for kind in CONFIGS if kind not in ("compact", "hiera")])
def public_model(request: pytest.FixtureRequest, randomise: Callable[..., None]) -> Sam:
    """Of an architecture that other packages have, in a size that their files can say."""
    return build(request.param, randomise)


@pytest.fixture(params=["vit", "vit with one block", "hq"])
def vit_model(request: pytest.FixtureRequest, randomise: Callable[..., None]) -> Sam:
    return build(request.param, randomise)


@pytest.fixture(params=["vit", "vit with one block", "hq", "hiera"])
def folder_model(request: pytest.FixtureRequest, randomise: Callable[..., None]) -> Sam:
    """Of which there are Hugging Face folders."""
    return build(request.param, randomise)


@pytest.fixture
def model(randomise: Callable[..., None]) -> Sam:
    return build("vit", randomise)


@pytest.fixture
def compact_model(randomise: Callable[..., None]) -> Sam:
    return build("compact", randomise)


@pytest.fixture
def tiny_vit_model(randomise: Callable[..., None]) -> Sam:
    return build("tiny_vit", randomise)
