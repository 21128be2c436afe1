"""A shard of small scenes, and a recipe that trains on it in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anymask.data.synthetic import SceneConfig, render_shards
from anymask.data.transforms import TransformConfig
from anymask.task import LossConfig, RoundsConfig
from anymask.training.config import ModelConfig, OptimConfig, Recipe, RunConfig, SourceConfig


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tar of 24 scenes of 64 pixels."""
    folder = tmp_path_factory.mktemp("shards")
    list(render_shards(folder, SceneConfig(size=64), scenes_per_shard=24, seed=1))
    return folder


@pytest.fixture
def recipe_of(shards: Path) -> Callable[..., Recipe]:
    """A recipe of the smoke size at 64 pixels; keywords change fields of its parts, by their names."""

    def build(**changes: Any) -> Recipe:
        run = RunConfig(steps=4, batch_size=2, num_masks=2, num_workers=0, num_threads=1, save_every=2, log_every=1)
        recipe = Recipe(
            run=run,
            sources=(SourceConfig(tars=(str(shards / "*.tar"),), transforms=TransformConfig(flip=True)),),
            model=ModelConfig(size="smoke", image_size=64),
            optim=OptimConfig(learning_rate=2e-3, warmup=2, ema=0.9),
            rounds=RoundsConfig(num_corrections=1, num_refinements=0),
            loss=LossConfig(focal=0.0, bce=0.5, dice=2.0),
        )
        for name, value in changes.items():
            part = next(p for p in ("run", "optim", "rounds", "loss") if hasattr(getattr(recipe, p), name))
            recipe = replace(recipe, **{part: replace(getattr(recipe, part), **{name: value})})
        return recipe

    return build
