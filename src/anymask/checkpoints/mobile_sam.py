"""MobileSAM's checkpoints: a TinyViT encoder, with the classifier of its pre-training still in the file."""

from __future__ import annotations

import re

import torch

from anymask.checkpoints.tensors import Shapes, State
from anymask.model import TinyViTConfig

_ENCODER = "image_encoder"
_LEFTOVER = re.compile(r"image_encoder\.(norm_head|head)\.(weight|bias)|image_encoder\..+\.attn\.attention_bias_idxs")
_NUM_CLASSES = 1000  # of the classifier, ImageNet's


def is_tiny_vit(shapes: Shapes) -> bool:
    """Whether the encoder is a TinyViT."""
    return f"{_ENCODER}.patch_embed.seq.0.c.weight" in shapes


def infer_tiny_vit(shapes: Shapes) -> TinyViTConfig:
    """Read the encoder's config off its tensors' shapes; the number of stages is TinyViT's four."""
    layers = [f"{_ENCODER}.layers.{i}" for i in range(4)]
    first = shapes.side(f"{_ENCODER}.patch_embed.seq.2.c.weight", 0)
    later = [shapes.side(f"{layer}.downsample.conv3.c.weight", 0) for layer in layers[:-1]]
    depths = [shapes.count(f"{layer}.blocks") for layer in layers]
    biases = [f"{layer}.blocks.0.attn.attention_biases" for layer in layers[1:]]
    heads = [shapes.side(bias, 0) for bias in biases]
    windows = [round(shapes.side(bias, 1) ** 0.5) for bias in biases]
    hidden = shapes.side(f"{layers[1]}.blocks.0.mlp.fc1.weight", 0)
    expanded = shapes.side(f"{layers[0]}.blocks.0.conv1.c.weight", 0)
    # The first stage has no attention: its heads and windows stand in the config only to keep the places.
    return TinyViTConfig(
        widths=(first, later[0], later[1], later[2]),
        depths=(depths[0], depths[1], depths[2], depths[3]),
        num_heads=(max(1, first // 32), heads[0], heads[1], heads[2]),
        window_sizes=(windows[0], windows[0], windows[1], windows[2]),
        mlp_ratio=hidden / later[0],
        conv_expand_ratio=expanded / first,
    )


def without_leftovers(state: State) -> State:
    """Drop what the encoder does not use: the classifier, and the table of offsets that some files hold."""
    return {name: tensor for name, tensor in state.items() if not _LEFTOVER.fullmatch(name)}


def with_classifier(state: State, width: int) -> State:
    """Add a classifier that says nothing: MobileSAM's own package refuses a file without one."""
    return state | {
        f"{_ENCODER}.norm_head.weight": torch.ones(width),
        f"{_ENCODER}.norm_head.bias": torch.zeros(width),
        f"{_ENCODER}.head.weight": torch.zeros(_NUM_CLASSES, width),
        f"{_ENCODER}.head.bias": torch.zeros(_NUM_CLASSES),
    }
