"""The plain ViT of pre-training against transformers' ViTMAEModel, on the same weights and the same visible patches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anymask.model import SamConfig, ViTConfig
from anymask.model.mae import MaeConfig, MaskedAutoencoder


def renamed(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The tensors of transformers' encoder under the names of the public files, but for the MLP, which is ours."""
    out = {
        "cls_token": state["embeddings.cls_token"],
        "pos_embed": state["embeddings.position_embeddings"][:, 1:].unflatten(1, (4, 4)),
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
    }
    pairs = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "mlp.lin1": "mlp.fc1",
        "mlp.lin2": "mlp.fc2",
    }
    for index in range(depth):
        for end in ("weight", "bias"):
            own, theirs = f"blocks.{index}.", f"layers.{index}."
            parts = [state[f"{theirs}attention.{part}_proj.{end}"] for part in "qkv"]
            out[f"{own}attn.qkv.{end}"] = torch.cat(parts)
            for ours, name in pairs.items():
                out[f"{own}{ours}.{end}"] = state[f"{theirs}{name}.{end}"]
    return out


def test_the_encoder_sees_what_transformers_does() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    config = transformers.ViTMAEConfig(**sizes, image_size=64, patch_size=16, mask_ratio=0.75, layer_norm_eps=1e-6)
    theirs = transformers.ViTMAEModel(config).eval()
    if "layers.0.attention.q_proj.weight" not in theirs.state_dict():
        pytest.skip("this version of transformers names its tensors otherwise")
    encoder = ViTConfig(width=32, depth=2, num_heads=2, global_blocks=(1,), position_grid=8)
    mae = MaskedAutoencoder(SamConfig(encoder=encoder, width=32, image_size=64), MaeConfig()).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.3)
        theirs.embeddings.position_embeddings[:, 0] = 0.0  # as MAE leaves it: the class token has no place
        mae.encoder.load_state_dict(renamed(theirs.state_dict(), 2))
        images, noise = torch.randn(2, 3, 64, 64), torch.rand(2, 16)
        expected = theirs(pixel_values=images, noise=noise).last_hidden_state
        found = mae.encoder(images, noise.argsort(1)[:, : mae.num_visible])
    assert found.shape == expected.shape == (2, 5, 32)
    assert torch.allclose(found, expected, atol=1e-5)
