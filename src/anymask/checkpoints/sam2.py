"""SAM 2's checkpoints: Meta's `.pt` of 2.0 and 2.1, EdgeTAM's, EfficientTAM's, and what was fine-tuned from them.

Such a file holds tensors under "model". Encoder, prompts and decoder are ours but for a few names; the rest is the
memory of videos. Windows, heads and global blocks are in no tensor: they are those of the published size of the same
width and depth. The size of images is in no tensor either, and is 1024 or what the file's name says.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymask.checkpoints.tensors import Shapes, State, shapes_of, stored_state
from anymask.checkpoints.wrapped import log_extras
from anymask.data.files import write_whole
from anymask.errors import CheckpointError
from anymask.model import SIZES, DecoderConfig, HieraConfig, PlainViTConfig, RepViTConfig, Sam, SamConfig

_RENAMED = (
    ("sam_prompt_encoder.", "prompt_encoder."),
    ("sam_mask_decoder.", "mask_decoder."),
    ("no_mem_embed", "image_encoder.no_mem_embed"),
)
"""Prefixes of Meta's tensor names, and ours in their place."""
_MLPS = ((".mlp.layers.0.", ".mlp.lin1."), (".mlp.layers.1.", ".mlp.lin2."))
"""Parts of names in the decoder's transformer, Meta's and ours."""
_TRANSFORMER = "mask_decoder.transformer."
_BODY = "image_encoder.trunk.body"
_OURS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
_PUBLISHED = tuple(config for config in SIZES.values() if isinstance(config.encoder, HieraConfig))
_SIDES = re.compile(r"(?<!\d)(256|384|512|640|768)(?!\d)")
"""Sides of images, other than 1024, that files are named by."""
_TRAINED_AT_512 = "medsam2"
"""How the names of files begin, in lower case, whose images are of 512 pixels though no number says so."""


def is_sam2(state: State) -> bool:
    """Whether the names are those of SAM 2."""
    return any(name.startswith(("sam_mask_decoder.", "sam_prompt_encoder.")) for name in state)


def parse(state: State, name: str) -> tuple[SamConfig, State]:
    """Return the config of a state with SAM 2's names, and what a model on one image has of it, by our names.

    `name` is the file's.

    Raises:
        CheckpointError: a tensor that fixes the config is missing or ill-shaped, or the encoder is of no known size.
    """
    ours = {our_name(tensor_name): tensor for tensor_name, tensor in state.items()}
    kept = {tensor_name: tensor for tensor_name, tensor in ours.items() if tensor_name.startswith(_OURS)}
    log_extras(tensor_name for tensor_name in ours if not tensor_name.startswith(_OURS))
    return infer_config(shapes_of(kept), image_size=side_of(name)), kept


def memory_of(state: State) -> State:
    """Return what a video's memory has of a state with SAM 2's names, by Meta's names."""
    return {name: tensor for name, tensor in state.items() if not our_name(name).startswith(_OURS)}


def side_of(name: str) -> int:
    """Return the side of images that a file's name states."""
    stem = Path(name).stem
    found = _SIDES.search(stem)
    if found:
        return int(found[1])
    return 512 if stem.lower().startswith(_TRAINED_AT_512) else 1024


def our_name(name: str) -> str:
    """Rename one of Meta's tensors; what has no other name keeps its own."""
    for theirs, ours in _RENAMED:
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
            break
    if name.startswith(_TRANSFORMER):
        for theirs, ours in _MLPS:
            name = name.replace(theirs, ours)
    return name


def meta_name(name: str) -> str:
    """Rename one of our tensors: the inverse of `our_name`."""
    if name.startswith(_TRANSFORMER):
        for theirs, ours in _MLPS:
            name = name.replace(ours, theirs)
    for theirs, ours in _RENAMED:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def infer_config(shapes: Shapes, *, image_size: int) -> SamConfig:
    """Read a config off the shapes of tensors of our names, and what they do not tell off the published sizes."""
    return SamConfig(
        encoder=_infer_encoder(shapes),
        decoder=infer_decoder(shapes),
        width=shapes.side("mask_decoder.iou_token.weight", 1),
        image_size=image_size,
        mask_channels=shapes.side("prompt_encoder.mask_downscaling.3.weight", 0),
        pred_iou_thresh=_PUBLISHED[0].pred_iou_thresh,
        fit="stretch",
        pads_boxes=True,
    )


def infer_decoder(shapes: Shapes) -> DecoderConfig:
    """Read SAM 2's decoder off the shapes of tensors of our names."""
    skips = ("mask_decoder.conv_s0.weight", "mask_decoder.conv_s1.weight")
    has_skips = any(name in shapes for name in skips)
    return replace(
        _PUBLISHED[0].decoder,
        depth=shapes.count("mask_decoder.transformer.layers"),
        mlp_dim=shapes.side("mask_decoder.transformer.layers.0.mlp.lin1.weight", 0),
        num_multimask=shapes.side("mask_decoder.mask_tokens.weight", 0) - 1,
        iou_depth=shapes.count("mask_decoder.iou_prediction_head.layers"),
        iou_hidden=shapes.side("mask_decoder.iou_prediction_head.layers.0.weight", 0),
        skip_widths=(shapes.side(skips[0], 1), shapes.side(skips[1], 1)) if has_skips else None,
        object_score="mask_decoder.obj_score_token.weight" in shapes,
    )


def _infer_encoder(shapes: Shapes) -> HieraConfig | RepViTConfig | PlainViTConfig:
    if f"{_BODY}.stem.conv2.c.weight" in shapes:
        return _infer_repvit(shapes)
    if "image_encoder.neck.convs.0.conv_1x1.weight" in shapes:
        return _infer_plain_vit(shapes)
    return _infer_hiera(shapes)


def _infer_plain_vit(shapes: Shapes) -> PlainViTConfig:
    """Read EfficientTAM's encoder off its tensors; windows and the heads' 64 channels are those of its two sizes."""
    width, depth = shapes.side("image_encoder.trunk.pos_embed", 2), shapes.count("image_encoder.trunk.blocks")
    usual = PlainViTConfig()
    if depth != usual.depth:
        raise CheckpointError(
            f"has a plain encoder of {depth} blocks; those of EfficientTAM, of {usual.depth}, are known"
        )
    return replace(
        usual,
        width=width,
        num_heads=width // 64,
        patch_size=shapes.side("image_encoder.trunk.patch_embed.proj.weight", 2),
        mlp_ratio=shapes.side("image_encoder.trunk.blocks.0.mlp.layers.0.weight", 0) / width,
        position_grid=math.isqrt(shapes.side("image_encoder.trunk.pos_embed", 1) - 1),
    )


def _infer_repvit(shapes: Shapes) -> RepViTConfig:
    """Read EdgeTAM's encoder off its tensors, which tell all of it."""
    first = shapes.side(f"{_BODY}.stem.conv2.c.weight", 0)
    later = [shapes.side(f"{_BODY}.stages_{i}.downsample.channel_downsample.c.weight", 0) for i in (1, 2, 3)]
    depths = [shapes.count(f"{_BODY}.stages_{i}.blocks") for i in range(4)]
    hidden = shapes.side(f"{_BODY}.stages_0.blocks.0.channel_mixer.conv1.c.weight", 0)
    return RepViTConfig(
        widths=(first, later[0], later[1], later[2]),
        depths=(depths[0], depths[1], depths[2], depths[3]),
        mlp_ratio=hidden / first,
    )


def _infer_hiera(shapes: Shapes) -> HieraConfig:
    """Find the published encoder with the first stage's width and as many blocks of each width."""
    width = shapes.side("image_encoder.trunk.patch_embed.proj.weight", 0)
    blocks = range(shapes.count("image_encoder.trunk.blocks"))
    widths = [shapes.side(f"image_encoder.trunk.blocks.{i}.norm2.weight", 0) for i in blocks]
    depths = tuple(widths.count(width * 2**stage) for stage in range(4))
    for config in _PUBLISHED:
        encoder = config.encoder
        if isinstance(encoder, HieraConfig) and (encoder.width, encoder.depths) == (width, depths):
            return replace(encoder, position_grid=shapes.side("image_encoder.trunk.pos_embed", 2))
    raise CheckpointError(
        f"has a Hiera encoder of width {width} and {depths} blocks, whose windows no tensor tells; those of SAM 2's "
        "tiny, small, base-plus and large are known"
    )


def check_expressible(config: SamConfig, shapes: Shapes, name: str) -> None:
    """Refuse a config that a file of SAM 2's, called `name`, would not give back.

    Raises:
        CheckpointError: naming the setting that would be lost.
    """
    side = side_of(name)
    if config.image_size != side:
        raise CheckpointError(
            f"SAM 2's format keeps the size of images in the file's name, and {name} says {side}, not "
            f"{config.image_size}; call it so, or save the model as native"
        )
    read, wanted = (_flat(dataclasses.asdict(each)) for each in (infer_config(shapes, image_size=side), config))
    for setting, value in wanted.items():
        if read.get(setting) != value and setting != "encoder.drop_path":
            raise CheckpointError(
                f"SAM 2's format cannot say that {setting} is {value}, not {read.get(setting)}; save it as native"
            )


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def write_sam2(model: Sam, path: str | Path, dtype: torch.dtype | None, memory: dict[str, Tensor]) -> None:
    """Write a model as Meta's package reads it; its own loader also wants the `memory` of a video.

    Raises:
        CheckpointError: the config is one that the format cannot say.
        OutputError: the file cannot be written.
    """
    stored = stored_state(model, dtype)
    check_expressible(model.config, shapes_of(stored), Path(path).name)
    state = {meta_name(name): tensor for name, tensor in stored.items()} | memory
    write_whole(path, lambda temporary: torch.save({"model": state}, temporary))
