"""Plain ViTs in the public MAE checkpoints' format: read into SAM's encoder, or refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from anymask.checkpoints import save_model
from anymask.checkpoints.mae import load_mae_encoder, read_mae, sam_of_mae
from anymask.errors import CheckpointError
from anymask.model import SIZES, SamConfig, ViTConfig, build_sam
from anymask.model.image_encoder import ImageEncoderViT
from anymask.model.mae import MaeConfig, MaskedAutoencoder

ENCODER = ViTConfig(width=32, depth=2, num_heads=2, global_blocks=(1,), position_grid=8, window_size=3)
CONFIG = SamConfig(encoder=ENCODER, width=32, image_size=128)


def public(patch: int = 16, grid: int = 4, width: int = 32, depth: int = 2) -> dict[str, Tensor]:
    """Random tensors under the names of the public files, with parts that SAM has no use for."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + grid**2, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "mask_token": (1, 1, 16),
        "decoder_embed.weight": (16, width),
    }
    for index in range(depth):
        for name, shape in {
            "norm1": (width,),
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "norm2": (width,),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            shapes[f"blocks.{index}.{name}.weight"] = shape
            shapes[f"blocks.{index}.{name}.bias"] = shape[:1]
    generator = torch.Generator().manual_seed(0)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", ["model", "bare", "safetensors"])
def test_a_public_file_becomes_sams_encoder(kind: str, tmp_path: Path) -> None:
    path, state = tmp_path / "mae_pretrain_vit.pth", public()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state} if kind == "model" else state, path)
    read = read_mae(path)
    assert read is not None
    model = build_sam(CONFIG)
    neck = model.image_encoder.state_dict()["neck.0.weight"].clone()
    load_mae_encoder(model, read)
    own = model.image_encoder.state_dict()
    assert torch.equal(own["blocks.1.mlp.lin2.weight"], state["blocks.1.mlp.fc2.weight"])
    assert torch.equal(own["blocks.0.attn.qkv.bias"], state["blocks.0.attn.qkv.bias"])
    assert torch.equal(own["patch_embed.proj.weight"], state["patch_embed.proj.weight"])
    assert torch.equal(own["neck.0.weight"], neck)
    assert not any(tensor.any() for name, tensor in own.items() if "rel_pos" in name)
    grid = state["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    expected = F.interpolate(grid, (8, 8), mode="bicubic", antialias=True).permute(0, 2, 3, 1)
    assert torch.equal(own["pos_embed"], expected)


def test_patches_of_14_pixels_keep_their_response_to_even_areas() -> None:
    state, model = public(patch=14), build_sam(CONFIG)
    load_mae_encoder(model, state)
    kernels = model.image_encoder.state_dict()["patch_embed.proj.weight"]
    assert kernels.shape[-1] == 16
    even = state["patch_embed.proj.weight"].new_ones(1, 3, 14, 14)
    smooth = state | {"patch_embed.proj.weight": even.expand(32, -1, -1, -1) * 0.5}
    load_mae_encoder(model, smooth)
    kernels = model.image_encoder.state_dict()["patch_embed.proj.weight"]
    assert torch.allclose(kernels.sum((1, 2, 3)), torch.full((32,), 0.5 * 3 * 14**2))


def test_our_own_pretraining_gives_the_same_features() -> None:
    """With one window over all, no relative positions and no class token, SAM's blocks are the plain ones."""
    torch.manual_seed(0)
    encoder = replace(ENCODER, global_blocks=(0, 1))
    mae = MaskedAutoencoder(
        replace(CONFIG, encoder=encoder), MaeConfig(decoder_width=16, decoder_depth=1, decoder_heads=2)
    )
    model = sam_of_mae(mae, seed=3)
    assert isinstance(model.image_encoder, ImageEncoderViT)
    images = torch.randn(1, 3, 128, 128)
    x = model.image_encoder.patch_embed(images) + model.image_encoder.pos_embed
    plain = mae.encoder.patch_embed(images) + mae.encoder.pos_embed
    for block in model.image_encoder.blocks:
        x = block(x)
    flat = plain.flatten(1, 2)
    for block in mae.encoder.blocks:
        flat = block(flat)
    assert torch.allclose(x.flatten(1, 2), flat, atol=1e-5)
    again = sam_of_mae(mae, seed=3).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_the_compact_encoder_is_carried_over_whole() -> None:
    torch.manual_seed(0)
    mae = MaskedAutoencoder(replace(SIZES["smoke"], image_size=64), MaeConfig())
    assert mae.painted is not None
    mae(
        torch.randn(2, 3, 64, 64), mae.draw_visible(2, torch.Generator().manual_seed(0))
    )  # moves the running statistics
    theirs = sam_of_mae(mae).image_encoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mae.painted.encoder.state_dict().items())


def test_other_files_are_not_taken_for_it(tmp_path: Path) -> None:
    save_model(build_sam(CONFIG), tmp_path / "sam.safetensors")
    save_model(build_sam(CONFIG), tmp_path / "sam.pth", format="meta")
    assert read_mae(tmp_path / "sam.safetensors") is None
    assert read_mae(tmp_path / "sam.pth") is None
    assert read_mae(tmp_path / "absent.pth") is None
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        read_mae(tmp_path / "broken.pth")


def test_what_does_not_fit_is_named() -> None:
    model = build_sam(CONFIG)
    with pytest.raises(CheckpointError, match="3 blocks of width 32; the model's encoder has 2 of 32"):
        load_mae_encoder(model, public(depth=3))
    state = public()
    state["blocks.0.gamma_1"] = state.pop("blocks.0.norm2.bias")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.norm2\.bias is missing"):
        load_mae_encoder(model, state)
    with pytest.raises(CheckpointError, match=r"blocks\.0\.gamma_1 is no part"):
        load_mae_encoder(model, public() | {"blocks.0.gamma_1": torch.ones(32)})
    with pytest.raises(CheckpointError, match="15 places"):
        load_mae_encoder(model, public() | {"pos_embed": torch.zeros(1, 16, 32)})
    with pytest.raises(CheckpointError, match="cannot start a compact encoder"):
        load_mae_encoder(build_sam(SIZES["smoke"]), public())
