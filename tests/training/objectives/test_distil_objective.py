"""Distilling: the student learns the teacher's embedding, its trunk stays; what the recipe starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anymask.checkpoints import save_model
from anymask.errors import CheckpointError
from anymask.model import SIZES, DecoderConfig, EfficientNetLiteConfig, SamConfig, build_sam
from anymask.training.config import ModelConfig, Recipe
from anymask.training.log import read_log
from anymask.training.loop import run
from anymask.training.objectives.distil import distil_objective
from anymask.training.optim import build_optimizer
from anymask.training.sources import build_start, take_over

STUDENT = SamConfig(
    encoder=EfficientNetLiteConfig(
        widths=(8, 8, 16, 16, 16, 24, 24), depths=(1,) * 7, merge_width=48, merge_depth=1, num_heads=4
    ),
    decoder=DecoderConfig(num_heads=4, mlp_dim=128, iou_hidden=64, skip_widths=(8, 8)),
    width=64,
    image_size=64,
)


@pytest.fixture
def distil_recipe(recipe_of: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    monkeypatch.setitem(SIZES, "student", STUDENT)

    def build(**changes: Any) -> Recipe:
        recipe = recipe_of(**changes)
        optim = replace(recipe.optim, trunk_scale=0.0)
        return replace(recipe, kind="distil", optim=optim, model=ModelConfig(size="student", image_size=64))

    return build


def test_the_error_falls_and_the_trunk_stays(distil_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = build_sam(replace(SIZES["smoke"], image_size=64)).eval()
    start = build_sam(STUDENT)
    recipe = distil_recipe(steps=40, batch_size=4, learning_rate=3e-3)
    state = run(recipe, tmp_path, distil_objective(recipe, teacher, start))
    losses = [row["loss"] for row in read_log(tmp_path)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    before, after = start.state_dict(), state.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if ".trunk." in name)
    assert not torch.equal(before["image_encoder.from16.weight"], after["image_encoder.from16.weight"])


def test_a_teacher_of_another_shape_is_refused(distil_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    teacher = build_sam(replace(SIZES["smoke"], image_size=128)).eval()
    with pytest.raises(CheckpointError, match="64 channels of side 16, the model's 64 of 8"):
        distil_objective(distil_recipe(steps=1), teacher)


def test_the_trunk_learns_at_its_own_rate_and_filters_by_adam(distil_recipe: Callable[..., Recipe]) -> None:
    recipe = distil_recipe(steps=1)
    model = build_sam(STUDENT)
    optimizer = build_optimizer(model, replace(recipe.optim, kind="muon", trunk_scale=0.2))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [({names[id(p)] for p in g["params"]}, g) for g in optimizer.param_groups]
    assert {name for found, _ in groups for name in found} == set(names.values())
    for found, group in groups:
        assert {".trunk." in name for name in found} <= {group["lr_scale"] == 0.2}
        assert not (group["orthogonal"] and any("depthwise" in name for name in found))


def test_the_rest_begins_where_names_and_shapes_agree(distil_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = build_sam(replace(SIZES["smoke"], image_size=64))
    save_model(other, tmp_path / "other.safetensors")
    config = replace(distil_recipe(steps=1).model, rest=str(tmp_path / "other.safetensors"))
    started = build_start(config, seed=0)
    assert started is not None
    theirs, ours = other.state_dict(), started.state_dict()
    taken = take_over(build_sam(STUDENT), other)
    assert "mask_decoder.iou_token.weight" in taken and "image_encoder.from16.weight" in taken
    assert not any(".trunk." in name for name in taken)
    assert all(torch.equal(ours[name], theirs[name]) for name in taken)
    assert build_start(ModelConfig(size="student", image_size=64), seed=0) is None
