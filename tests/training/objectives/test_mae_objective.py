"""Pre-training: the loss falls on a few images, padding does not count, and a run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anymask.data.loader import Batch
from anymask.errors import DataError
from anymask.model import SIZES, SamConfig, ViTConfig
from anymask.model.mae import MaeConfig, MaskedAutoencoder, patchify
from anymask.training.config import ModelConfig, Recipe, RunConfig, SourceConfig
from anymask.training.log import read_log
from anymask.training.loop import run
from anymask.training.objectives.mae import build_image_stream, mae_objective, mae_step

SMALL = MaeConfig(decoder_width=32, decoder_depth=1, decoder_heads=2)
TINY_VIT = SamConfig(encoder=ViTConfig(width=48, depth=2, num_heads=2, global_blocks=(1,), position_grid=8), width=32)


@pytest.fixture
def mae_recipe(recipe_of: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """A recipe of pre-training at 64 pixels on rendered scenes: of a ViT, or of the compact encoder."""
    monkeypatch.setitem(SIZES, "tiny", TINY_VIT)

    def build(size: str, **changes: Any) -> Recipe:
        return replace(recipe_of(**changes), kind="mae", mae=SMALL, model=ModelConfig(size=size, image_size=64))

    return build


def a_batch(valid: torch.Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    whole = torch.ones(2, 4, 4, dtype=torch.bool)
    return Batch(
        images=images,
        masks=whole[:, None],
        known=whole[:, None],
        valid=whole if valid is None else valid,
        keys=("a", "b"),
    )


@pytest.mark.parametrize("size", ["tiny", "smoke"])
def test_the_loss_falls_and_a_broken_run_is_the_whole_one(
    size: str, mae_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = mae_recipe(size, steps=60, batch_size=8, save_every=20, learning_rate=3e-3)
    whole = run(recipe, tmp_path / "whole", mae_objective(recipe))
    losses = [row["loss"] for row in read_log(tmp_path / "whole")]
    assert len(losses) == 60
    # Each patch's own variance is 1: to predict its mean alone gives 1.
    assert sum(losses[-10:]) / 10 < 0.93 and sum(losses[-10:]) < 0.9 * sum(losses[:10])

    def stop(step: int, values: dict[str, float]) -> None:
        if step == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "parts", mae_objective(recipe), progress=stop)
    parts = run(recipe, tmp_path / "parts", mae_objective(recipe))
    assert [row["loss"] for row in read_log(tmp_path / "parts")] == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True))


def test_padding_is_neither_learned_from_nor_seen() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(replace(TINY_VIT, image_size=64), SMALL)
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[:, 2:] = False
    batch = a_batch(valid)
    changed = replace(batch, images=batch.images.clone())
    changed.images[:, :, 32:] = 7
    results = [mae_step(model, b, generator=torch.Generator().manual_seed(1)) for b in (batch, changed)]
    assert torch.equal(results[0].loss, results[1].loss)


def test_the_step_leaves_a_share_of_the_gradient_and_fixed_positions_alone() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(replace(TINY_VIT, image_size=64), SMALL)
    gradients = []
    for scale in (1.0, 0.25):
        model.zero_grad()
        mae_step(model, a_batch(), generator=torch.Generator().manual_seed(1), scale=scale)
        gradients.append(model.encoder.blocks[0].attn.qkv.weight.grad.clone())
    assert gradients[0].abs().sum() > 0
    assert torch.allclose(gradients[0] * 0.25, gradients[1])
    assert model.encoder.pos_embed.grad is None
    assert model.decoder.mask_token.grad is not None


def test_images_need_no_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setitem(SIZES, "tiny", TINY_VIT)
    Image.new("RGB", (80, 40), (200, 10, 10)).save(tmp_path / "wide.png")
    (tmp_path / "notes.txt").write_text("no image")
    recipe = Recipe(
        run=RunConfig(steps=1, batch_size=3),
        sources=(SourceConfig(folders=(str(tmp_path),)),),
        kind="mae",
        mae=SMALL,
        model=ModelConfig(size="tiny", image_size=64),
    )
    batch = build_image_stream(recipe).batch(0)
    assert batch.images.shape == (3, 3, 64, 64) and batch.valid.shape == (3, 4, 4)
    assert batch.valid[0].tolist() == [[True] * 4] * 2 + [[False] * 4] * 2
    assert patchify(batch.images.float(), 16)[0, 3].unique().tolist() == [10.0, 200.0]
    (tmp_path / "wide.png").unlink()
    with pytest.raises(DataError, match="no image in"):
        build_image_stream(recipe)


def test_a_recipe_that_no_autoencoder_suits_is_refused() -> None:
    run, sources = RunConfig(steps=1), (SourceConfig(tars=("a.tar",)),)
    with pytest.raises(ValueError, match="not for tiny_vit"):
        Recipe(run=run, sources=sources, kind="mae", model=ModelConfig(size="vit_t", image_size=1024))
