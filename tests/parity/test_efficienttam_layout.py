"""EfficientTAM's encoder against a plain reading of its published layout: no package on PyPI has it.

The reading is of tensors by the names in its checkpoints: patches, positions without the class token's, pre-norm blocks
in windows of 14 padded with zeros but for blocks 2, 5, 8 and 11, and a neck of two normalised convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.checkpoints.load import load_model, read_checkpoint, save_model
from anymask.model import SIZES, PlainViTConfig, build_sam

TOLERANCE = 1e-4


def attended(x: Tensor, state: dict[str, Tensor], heads: int) -> Tensor:
    """Attend over (windows, h, w, c)."""
    shape = x.shape
    qkv = F.linear(x.flatten(1, 2), state["attn.qkv.weight"], state["attn.qkv.bias"])
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
    shares = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    out = (shares @ v).transpose(1, 2).flatten(2)
    return F.linear(out, state["attn.proj.weight"], state["attn.proj.bias"]).view(shape)


def in_windows(x: Tensor, state: dict[str, Tensor], heads: int, side: int) -> Tensor:
    """Attend in each window by itself, one after the other."""
    height, width = x.shape[1:3]
    padded = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    out = torch.zeros_like(padded)
    for top in range(0, padded.shape[1], side):
        for left in range(0, padded.shape[2], side):
            window = (slice(None), slice(top, top + side), slice(left, left + side))
            out[window] = attended(padded[window], state, heads)
    return out[:, :height, :width]


def encoded(state: dict[str, Tensor], images: Tensor, heads: int) -> Tensor:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}

    def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    trunk, neck = part("image_encoder.trunk."), part("image_encoder.neck.convs.0.")
    x = F.conv2d(images, trunk["patch_embed.proj.weight"], trunk["patch_embed.proj.bias"], 16).permute(0, 2, 3, 1)
    positions = trunk["pos_embed"][:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    x = x + F.interpolate(positions, x.shape[1:3], mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    for i in range(12):
        block = part(f"image_encoder.trunk.blocks.{i}.")
        normed = norm(x, block, "norm1")
        x = x + (attended(normed, block, heads) if i in (2, 5, 8, 11) else in_windows(normed, block, heads, 14))
        hidden = F.gelu(F.linear(norm(x, block, "norm2"), block["mlp.layers.0.weight"], block["mlp.layers.0.bias"]))
        x = x + F.linear(hidden, block["mlp.layers.1.weight"], block["mlp.layers.1.bias"])
    y = F.conv2d(x.permute(0, 3, 1, 2), neck["conv_1x1.weight"])
    y = norm(y.permute(0, 2, 3, 1), neck, "norm_0").permute(0, 3, 1, 2)
    y = F.conv2d(y, neck["conv_3x3.weight"], padding=1)
    y = norm(y.permute(0, 2, 3, 1), neck, "norm_1").permute(0, 3, 1, 2)
    return y + state["no_mem_embed"].reshape(1, -1, 1, 1)


@pytest.mark.parametrize("size", ["efficienttam_ti", "efficienttam_s"])
def test_the_encoder_reads_its_file_as_published(size: str, randomise: Callable[..., None], tmp_path: Path) -> None:
    import dataclasses

    config = dataclasses.replace(SIZES[size], image_size=512)
    assert isinstance(config.encoder, PlainViTConfig)
    model = build_sam(config).eval()
    randomise(model)
    with torch.no_grad():
        model.image_encoder.no_mem_embed.normal_(generator=torch.Generator().manual_seed(3))
    save_model(model, tmp_path / f"{size}_512x512.pt", "meta")
    state = torch.load(tmp_path / f"{size}_512x512.pt", weights_only=True)["model"]
    assert read_checkpoint(tmp_path / f"{size}_512x512.pt")[::2] == (config, "efficienttam")
    images = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        ours = load_model(tmp_path / f"{size}_512x512.pt").encode(images)
        theirs = encoded(state, images, config.encoder.num_heads)
    assert ours.skips is None
    assert float((ours.features - theirs).abs().max() / theirs.abs().max()) < TOLERANCE
