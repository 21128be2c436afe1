"""The ranker by itself: what a step teaches, what stays as it was, what a run begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anymask.errors import CheckpointError
from anymask.model import SIZES, Sam, build_sam
from anymask.training.config import ModelConfig, RankerConfig, Recipe
from anymask.training.loop import new_state, run
from anymask.training.objectives.ranker import ranker_objective, ranking_loss

RANKED = ModelConfig(size="smoke", image_size=64, ranker_width=16)


@pytest.fixture
def start() -> Sam:
    torch.manual_seed(3)
    return build_sam(replace(SIZES["smoke"], image_size=64))


@pytest.fixture
def recipe(recipe_of: Callable[..., Recipe]) -> Recipe:
    return replace(recipe_of(ema=0.0), kind="ranker", model=RANKED)


def test_a_run_trains_the_ranker_and_nothing_else(recipe: Recipe, start: Sam, tmp_path: Path) -> None:
    before = {name: x.clone() for name, x in start.state_dict().items()}
    trained = run(recipe, tmp_path, ranker_objective(recipe, start)).model
    for name, x in trained.state_dict().items():
        if name.startswith("ranker."):
            continue
        assert torch.equal(x, before[name]), name
    assert trained.ranker is not None
    assert trained.ranker.out.weight.abs().max() > 0


def test_a_ranker_is_trained_on(recipe: Recipe, start: Sam, tmp_path: Path) -> None:
    first = run(recipe, tmp_path / "first", ranker_objective(recipe, start)).model
    second = new_state(replace(recipe, model=replace(RANKED, ranker_width=None)), first).model
    assert second.ranker is not None and first.ranker is not None
    assert torch.equal(second.ranker.out.weight, first.ranker.out.weight)


def test_there_must_be_a_model_and_a_ranker(recipe: Recipe, start: Sam, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must name one"):
        ranker_objective(recipe, None)
    without = replace(recipe, model=replace(RANKED, ranker_width=None))
    with pytest.raises(CheckpointError, match="has no ranker"):
        run(without, tmp_path, ranker_objective(without, start))
    with pytest.raises(ValueError, match="ranker_width is 0"):
        replace(RANKED, ranker_width=0)


def test_the_loss_is_least_for_the_true_ious_and_counts_candidates_alone() -> None:
    true = torch.tensor([[[0.2, 0.9, 0.5, 0.4]]])
    candidates = torch.tensor([[[False, True, True, True]]])
    config = RankerConfig(ranking=1.0, temperature=0.2)
    least, error = ranking_loss(true.clone(), true, candidates, config)
    assert error == 0
    outside, _ = ranking_loss(true + torch.tensor([5.0, 0, 0, 0]), true, candidates, config)
    assert torch.equal(outside, least)
    swapped, _ = ranking_loss(true[..., [0, 2, 1, 3]], true, candidates, config)
    shifted, error = ranking_loss(true + 0.1, true, candidates, config)
    assert swapped > shifted > least
    assert torch.isclose(error, torch.tensor(0.01))


def test_one_candidate_has_no_rank() -> None:
    given = torch.tensor([[[0.5]]], requires_grad=True)
    total, error = ranking_loss(given, torch.tensor([[[0.7]]]), torch.ones(1, 1, 1, dtype=torch.bool), RankerConfig())
    total.backward()
    assert torch.isclose(total, error) and torch.isfinite(given.grad).all()
