"""Masked autoencoders: what is hidden stays hidden, patches go there and back, and what is learned is what is asked."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from anymask.errors import CheckpointError
from anymask.model import SIZES, SamConfig, TinyViTConfig, ViTConfig
from anymask.model.mae import (
    MaeConfig,
    MaskedAutoencoder,
    patch_statistics,
    patchify,
    reconstruction_loss,
    sine_positions,
    unpatchify,
)

VIT = SamConfig(
    encoder=ViTConfig(width=32, depth=2, num_heads=2, global_blocks=(1,), position_grid=8, window_size=3),
    width=32,
    image_size=64,
)
COMPACT = replace(SIZES["smoke"], image_size=64)
SMALL = MaeConfig(decoder_width=24, decoder_depth=1, decoder_heads=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_patches_are_cut_in_rows_and_put_back() -> None:
    images = torch.rand(2, 3, 12, 12)
    patches = patchify(images, 4)
    assert patches.shape == (2, 9, 48)
    assert torch.equal(patches[1, 5].view(4, 4, 3), images[1, :, 4:8, 8:12].permute(1, 2, 0))
    assert torch.equal(unpatchify(patches, 4), images)


@pytest.mark.parametrize("config", [VIT, COMPACT], ids=["vit", "compact"])
def test_hidden_pixels_do_not_reach_the_prediction(config: SamConfig) -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(config, SMALL).eval()
    visible = model.draw_visible(2, generator())
    hidden = model.hidden(visible)
    assert visible.shape == (2, 4) and hidden.sum(1).tolist() == [12, 12]
    images = torch.randn(2, 3, 64, 64)
    others = unpatchify(torch.where(hidden[..., None], torch.randn(2, 16, 768), patchify(images, 16)), 16)
    with torch.no_grad():
        first, second = model(images, visible), model(others, visible)
        shown = model(unpatchify(torch.where(hidden[..., None], patchify(images, 16), 0.0), 16), visible)
    assert first.shape == (2, 16, 768)
    assert torch.equal(first, second)
    assert not torch.allclose(first, shown)


def test_visible_patches_are_drawn_evenly_and_by_the_generator() -> None:
    model = MaskedAutoencoder(VIT, SMALL)
    visible = model.draw_visible(4000, generator(1))
    assert torch.equal(visible, model.draw_visible(4000, generator(1)))
    assert (visible.diff(dim=1) > 0).all()
    counts = torch.bincount(visible.flatten(), minlength=16)
    assert counts.min() > 850 and counts.max() < 1150  # 1000 is the mean, 27 the deviation
    assert MaskedAutoencoder(VIT, replace(SMALL, mask_ratio=0.999)).num_visible == 1
    assert MaskedAutoencoder(VIT, replace(SMALL, mask_ratio=0.001)).num_visible == 15


def test_the_loss_is_over_counted_patches_of_normalised_pixels() -> None:
    patches = torch.randn(2, 4, 12) * 3 + 5
    counted = torch.tensor([[True, False, False, False], [False, True, True, False]])
    mean, deviation = patch_statistics(patches)
    perfect = (patches - mean) / deviation
    assert reconstruction_loss(perfect, patches, counted, True) < 1e-10
    off = perfect.clone()
    off[0, 0] += 3.0
    off[1, 3] += 100.0
    assert float(reconstruction_loss(off, patches, counted, True)) == pytest.approx(3.0)
    assert float(reconstruction_loss(patches + 2, patches, counted, False)) == pytest.approx(4.0, rel=1e-5)
    assert torch.isfinite(reconstruction_loss(perfect, patches, torch.zeros_like(counted), True))


def test_positions_tell_columns_and_rows_apart() -> None:
    positions = sine_positions(5, 16)
    assert torch.equal(positions[0, 2, :8], positions[4, 2, :8])
    assert torch.equal(positions[2, 0, 8:], positions[2, 4, 8:])
    assert positions.flatten(0, 1).unique(dim=0).shape[0] == 25
    row3_column2 = [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]
    row3_column2 += [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]
    assert sine_positions(5, 8)[3, 2].tolist() == pytest.approx(row3_column2)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_ratio is 1"):
        MaeConfig(mask_ratio=1.0)
    with pytest.raises(ValueError, match="decoder_width is 30"):
        MaeConfig(decoder_width=30)
    with pytest.raises(CheckpointError, match="not for tiny_vit"):
        MaskedAutoencoder(SamConfig(encoder=TinyViTConfig()), SMALL)
    with pytest.raises(CheckpointError, match="a multiple of 16"):
        MaskedAutoencoder(replace(COMPACT, image_size=72), SMALL)
