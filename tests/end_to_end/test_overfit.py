"""Eight images, learned by heart through all eleven rounds: the whole chain from a tar to a click can be exact.

The size `smoke` at 128 pixels, 420 steps of four images with one prompt each, AdamW at 2e-3 without decay,
cross-entropy and dice in equal parts, as focal loss alone begins too slowly. Each image is a synthetic scene of which
one whole object is asked for, so that a click is not ambiguous. About 90 seconds on one core.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.data.readers.tars import TarFiles
from anymask.data.sample import WHOLE, Sample
from anymask.data.synthetic import SceneConfig, generate
from anymask.data.writers.sa1b import pack
from anymask.evaluation.single_point import ModelSegmenter, SinglePointConfig, evaluate
from anymask.task import LossConfig, RoundsConfig
from anymask.training.config import ModelConfig, OptimConfig, Recipe, RunConfig, SourceConfig
from anymask.training.loop import averaged_model
from anymask.training.objectives.sam import train

SIDE = 128


def scenes_of_one_object() -> Iterator[Sample]:
    """Scenes with a whole object of 12 to 50 % of the picture, the largest such as its only mask."""
    seed = 0
    while True:
        scene = generate(np.random.default_rng(seed), SceneConfig(size=SIDE), key=f"scene-{seed}")
        assert scene.levels is not None
        shares = scene.masks.mean((1, 2)) * (scene.levels == WHOLE)
        shares[shares > 0.5] = 0
        best = int(shares.argmax())
        if shares[best] >= 0.12:
            yield replace(scene, masks=scene.masks[best : best + 1], levels=None, parents=None)
        seed += 1


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    path = tmp_path / "eight.tar"
    with tarfile.open(path, "w") as tar:
        for _, scene in zip(range(8), scenes_of_one_object(), strict=False):
            for suffix, data in pack(scene).items():
                member = tarfile.TarInfo(f"{scene.key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.long
def test_eight_images_are_learned_by_heart(eight: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        run=RunConfig(steps=420, batch_size=4, num_masks=1, num_workers=0, num_threads=1, save_every=420),
        sources=(SourceConfig(tars=(str(eight),)),),
        model=ModelConfig(size="smoke", image_size=SIDE),
        optim=OptimConfig(learning_rate=2e-3, warmup=10, weight_decay=0.0, ema=0.9),
        loss=LossConfig(focal=0.0, bce=1.0, dice=1.0),
    )
    assert recipe.rounds == RoundsConfig() and recipe.rounds.num_rounds == 11
    threads = torch.get_num_threads()
    try:
        model = averaged_model(train(recipe, tmp_path / "run"))
    finally:
        torch.set_num_threads(threads)
    result = evaluate(
        ModelSegmenter(model), {"eight": TarFiles([eight])}, SinglePointConfig(clicks=(1, 3), max_clicks=3)
    )
    assert result.sets[0].num_images == 8 and result.sets[0].num_masks == 8
    assert result.mean.miou[1] >= 0.95
    assert result.mean.miou[3] >= 0.95
    assert result.mean.box >= 0.95
