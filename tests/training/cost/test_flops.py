"""Operations counted from the configuration are those that torch counts as the model runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from anymask.checkpoints.tensors import empty_model
from anymask.model import SIZES, DecoderConfig, Embedding, Prompts, SamConfig, ViTConfig, build_sam
from anymask.model.mae import MaeConfig, MaskedAutoencoder
from anymask.task import RoundsConfig
from anymask.training.cost.flops import encoder_flops, mae_flops, prompt_flops, rounds_flops

VIT = SamConfig(
    encoder=ViTConfig(width=32, depth=3, num_heads=2, global_blocks=(2,), position_grid=8, window_size=3),
    decoder=DecoderConfig(num_heads=4, mlp_dim=48, iou_hidden=24),
    width=32,
    image_size=128,
)


def counted(compute: Callable[[], Tensor], *, backward: bool = False) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = compute()
        if backward:
            result.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("size", ["vit", "smoke"])
def test_the_encoder(size: str) -> None:
    config = VIT if size == "vit" else replace(SIZES["smoke"], image_size=64)
    model, images = build_sam(config), torch.zeros(1, 3, config.image_size, config.image_size)
    found = counted(lambda: model.image_encoder(images)[0])
    assert encoder_flops(config) == found
    whole = counted(lambda: model.image_encoder(images)[0], backward=True)
    assert 2.5 * found < whole < 3 * found  # no gradient goes to the pixels


@pytest.mark.parametrize(("has_mask", "prompts"), [(False, 3), (True, 3), (True, 2)])
def test_the_prompts(has_mask: bool, prompts: int) -> None:
    model = build_sam(VIT)
    points = torch.zeros(1, prompts, 4, 2)
    asked = Prompts(
        points=points,
        labels=torch.ones(1, prompts, 4, dtype=torch.long),
        masks=torch.zeros(1, prompts, 32, 32) if has_mask else None,
        padded=False,
    )
    features = Embedding(features=torch.zeros(1, 32, 8, 8))
    found = counted(lambda: model.decode(features, asked)[0])
    assert prompt_flops(empty_model(VIT), 4, has_mask=has_mask, num_prompts=prompts) == found
    whole = counted(lambda: model.decode(features, asked)[0], backward=True)
    assert 2.4 * found < whole < 3 * found  # nor to the points


def test_rounds_are_the_sum_of_their_prompts() -> None:
    rounds = RoundsConfig(num_corrections=2, num_refinements=2)
    expected = prompt_flops(empty_model(VIT), 2, has_mask=False, num_prompts=5)
    expected += sum(prompt_flops(empty_model(VIT), n, has_mask=True, num_prompts=5) for n in (3, 4, 4, 3))
    assert rounds_flops(VIT, rounds, 5) == expected


def test_rounds_that_are_only_played_cost_a_third() -> None:
    first, second, third = (prompt_flops(empty_model(VIT), n, has_mask=n > 2, num_prompts=5) for n in (2, 3, 4))
    rounds = RoundsConfig(num_corrections=2, num_refinements=0, num_loss_rounds=1)
    assert rounds_flops(VIT, rounds, 5) == first + (second + third) * (3 + 1) // 6


@pytest.mark.parametrize("size", ["vit", "smoke"])
def test_autoencoders(size: str) -> None:
    config = replace(VIT if size == "vit" else SIZES["smoke"], image_size=64)
    mae = MaeConfig(decoder_width=24, decoder_depth=2, decoder_heads=2)
    model = MaskedAutoencoder(config, mae).eval()
    visible = model.draw_visible(1, torch.Generator().manual_seed(0))
    assert sum(mae_flops(config, mae)) == counted(lambda: model(torch.zeros(1, 3, 64, 64), visible))
