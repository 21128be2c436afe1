"""Floating-point operations of a model's parts, counted from its configuration; to multiply and add are two.

What is counted is what this package computes: matrix products and convolutions, with the relative positions folded
into attention (`anymask.model.attention`) and projections of an image shared by all first prompts. Back-propagation
through them is twice as much again. Prompts, and encoders that are no ViT, are counted as they run, on tensors
without values.

Legend: L cells of the patch grid or the embedding, T tokens of a window or a prompt, C width.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from anymask.checkpoints.tensors import empty_model
from anymask.model import Embedding, Prompts, Sam, SamConfig, ViTConfig, build_sam
from anymask.model.mae import MaeConfig, MaskedAutoencoder
from anymask.task.rounds import RoundsConfig

_FIRST_TOKENS = 2
"""Of a first prompt: a point and its padding, or a box's two corners."""


def encoder_flops(config: SamConfig) -> int:
    """Return the operations of encoding one image."""
    if not isinstance(config.encoder, ViTConfig):
        with torch.device("meta"):
            encoder, images = build_sam(config).image_encoder, torch.empty(1, 3, config.image_size, config.image_size)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                encoder.eval()(images)
        return int(counter.get_total_flops())
    vit, cells = config.encoder, config.embedding_size**2
    patches = 2 * cells * 3 * vit.patch_size**2 * vit.width
    neck = 2 * cells * config.width * (vit.width + 9 * config.width)
    return (
        patches + neck + sum(block_flops(vit, config.embedding_size, i in vit.global_blocks) for i in range(vit.depth))
    )


def block_flops(config: ViTConfig, grid: int, is_global: bool) -> int:
    """Return the operations of one block of a ViT on a grid of patches."""
    side = grid if is_global or not config.window_size else config.window_size
    windows, tokens = (-(-grid // side)) ** 2, side**2
    head = config.width // config.num_heads
    long_head = -(-(head + 2 * side) // 8) * 8
    relative = 2 * 2 * tokens * side * head
    attention = windows * config.num_heads * (2 * 2 * tokens**2 * long_head + relative)
    dense = 4 * config.width**2 + 2 * config.width * int(config.width * config.mlp_ratio)
    return attention + 2 * grid**2 * dense


def plain_block_flops(tokens: int, width: int, mlp_ratio: float) -> int:
    """Return the operations of one block of a plain ViT on some tokens."""
    return 2 * tokens * (4 * width**2 + 2 * width * int(width * mlp_ratio)) + 4 * tokens**2 * width


def prompt_flops(model: Sam, points: int, *, has_mask: bool, num_prompts: int = 1) -> int:
    """Return the operations of answering prompts about one image, of `points` tokens each and perhaps a mask.

    Without masks, what the first layer takes from the image is computed once for all prompts. The model needs no
    weights: it may be one of `empty_model`.
    """
    with torch.device("meta"):
        masks = torch.empty(1, num_prompts, model.mask_size, model.mask_size) if has_mask else None
        labels = torch.empty(1, num_prompts, points, dtype=torch.long)
        places = torch.empty(1, num_prompts, points, 2)
        asked = Prompts(points=places, labels=labels, masks=masks, padded=False, has_padding=True)
        features = torch.empty(1, model.config.width, model.embedding_size, model.embedding_size)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval().decode(Embedding(features=features), asked)
    return int(counter.get_total_flops())


def rounds_flops(config: SamConfig, rounds: RoundsConfig, num_prompts: int) -> int:
    """Return a third of the operations of all rounds about one image: those of one forward pass, if all rounds teach.

    The inner refinements are taken to lie halfway through the corrections. What is only played costs a third.
    """
    points = [_FIRST_TOKENS + k for k in range(1, rounds.num_corrections + 1)]
    if rounds.num_refinements:
        middle = _FIRST_TOKENS + rounds.num_corrections // 2
        points += [_FIRST_TOKENS + rounds.num_corrections] + [middle] * (rounds.num_refinements - 1)
    model = empty_model(config)
    first = prompt_flops(model, _FIRST_TOKENS, has_mask=False, num_prompts=num_prompts)
    later = sum(prompt_flops(model, n, has_mask=True, num_prompts=num_prompts) for n in points)
    num_loss_rounds = rounds.num_loss_rounds or len(points)
    return first + (later * (len(points) + 2 * num_loss_rounds) // (3 * len(points)) if points else 0)


def mae_flops(config: SamConfig, mae: MaeConfig) -> tuple[int, int]:
    """Return the operations of an autoencoder's encoder and decoder for one image."""
    with torch.device("meta"):
        model = MaskedAutoencoder(config, mae)
        if model.painted is not None:
            images = torch.empty(1, 3, config.image_size, config.image_size)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model.eval()(images, torch.zeros(1, model.num_visible, dtype=torch.long))
            whole = encoder_flops(config)
            return whole, int(counter.get_total_flops()) - whole
    vit = config.encoder
    assert isinstance(vit, ViTConfig)
    seen, cells, values = model.num_visible + 1, model.grid**2, 3 * vit.patch_size**2
    encoder = 2 * cells * values * vit.width + vit.depth * plain_block_flops(seen, vit.width, vit.mlp_ratio)
    ends = 2 * mae.decoder_width * (seen * vit.width + cells * values)
    return encoder, ends + mae.decoder_depth * plain_block_flops(cells + 1, mae.decoder_width, 4.0)
