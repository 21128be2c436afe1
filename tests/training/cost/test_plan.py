"""Plans: the paper's cost, what memory is kept, and how hours follow from GPUs and efficiency."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anymask.errors import InputError
from anymask.model import DecoderConfig, SamConfig, ViTConfig, build_sam
from anymask.training.config import Recipe, read_recipe
from anymask.training.cost.activations import encoder_bytes, kept_bytes, round_bytes
from anymask.training.cost.plan import plan_run

RECIPES = Path(__file__).parents[3] / "recipes"
VIT = SamConfig(
    encoder=ViTConfig(width=32, depth=4, num_heads=2, global_blocks=(1, 3), position_grid=8, window_size=3),
    decoder=DecoderConfig(num_heads=4, mlp_dim=48, iou_hidden=24),
    width=32,
    image_size=128,
)


@pytest.mark.parametrize("size", ["h", "l", "b"])
def test_the_papers_recipes_say_what_their_plan_says(size: str) -> None:
    path = RECIPES / f"paper-vit-{size}.toml"
    plan, header = plan_run(read_recipe(path)), path.read_text().split("[model]")[0]
    assert plan.activation_bytes is not None and plan.activation_bytes_checkpointed is not None
    figures = [plan.state_bytes, plan.activation_bytes, plan.activation_bytes_checkpointed]
    assert [f"{figure / 2**30:.1f}" for figure in figures] == re.findall(r"([\d.]+) GiB", header)
    assert f"{plan.hours['bfloat16']:.1f} hours in bfloat16" in header
    assert f"{plan.hours['float32']:.0f} in float32" in header
    assert f"{plan.gpus} A100" in header
    if size == "h":
        assert plan.batch == 256 and plan.parameters["image_encoder"] == 637_026_048
        assert 0.8 < plan.hours["float32"] / 68 < 1.25
        assert 0.05 < plan.hours["bfloat16"] / 68 < 0.15


def test_kept_bytes_are_those_of_tensors_with_values() -> None:
    encoder = build_sam(VIT).image_encoder.train()
    images = torch.zeros(1, 3, 128, 128)
    own = {p.untyped_storage()._cdata for p in encoder.parameters()}
    whole, again = encoder_bytes(VIT, torch.float32)
    assert kept_bytes(lambda: encoder(images), own) == pytest.approx(whole, rel=0.02)
    assert 0 < again < whole
    assert encoder_bytes(VIT, torch.bfloat16)[0] < 0.75 * whole
    two, four = (round_bytes(VIT, prompts, 5, torch.float32) for prompts in (2, 4))
    assert 1.5 * two < four < 2.2 * two


def test_hours_follow_from_gpus_and_efficiency(recipe_of: Callable[..., Recipe]) -> None:
    recipe = recipe_of(steps=10, accumulate=3)
    one = plan_run(recipe, gpu="h100", gpus=1, efficiency=0.5)
    assert one.batch == 6
    assert one.hours["bfloat16"] == pytest.approx(10 * 6 * one.flops_per_image / (989.4e12 * 0.5) / 3600)
    assert plan_run(recipe, gpu="h100", gpus=4, efficiency=0.25).hours["float32"] == one.hours["float32"] / 2
    assert one.flops_per_image_checkpointed == one.flops_per_image  # the compact encoder has no blocks to leave out
    recipe_vit = replace(recipe, model=replace(recipe.model, size="vit_b"))
    plain, again = (plan_run(replace(recipe_vit, run=replace(recipe.run, checkpointing=c))) for c in (False, True))
    ratio = again.flops_per_image_checkpointed / plain.flops_per_image
    assert 1.1 < ratio < 1.4 and again.hours["float32"] == pytest.approx(ratio * plain.hours["float32"])
    pretraining = plan_run(replace(recipe, kind="mae"))
    assert pretraining.activation_bytes is None and pretraining.hours["float32"] > 0
    with pytest.raises(InputError, match="no peak is known of the GPU 'abacus'; there are v100"):
        plan_run(recipe, gpu="abacus")
    with pytest.raises(InputError, match="0 GPUs"):
        plan_run(recipe, gpus=0)
