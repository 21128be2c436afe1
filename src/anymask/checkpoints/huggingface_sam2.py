"""The config.json of transformers' Sam2Model and EdgeTamModel, and the few tensors that are cut otherwise there.

What a video's memory has in such a folder is left: names that begin otherwise than an image's parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from anymask.checkpoints.key_map import SHARED, TIED
from anymask.checkpoints.tensors import State
from anymask.checkpoints.wrapped import log_extras
from anymask.errors import CheckpointError
from anymask.model import SIZES, DecoderConfig, HieraConfig, RepViTConfig, SamConfig

MODEL_TYPES = ("sam2", "sam2_video", "edgetam", "edgetam_video")

_PARTS = ("vision_encoder.", "prompt_encoder.", "mask_decoder.", "no_memory_embedding", SHARED)
_POINTS = "prompt_encoder.point_embed.weight"
_NUM_POINTS = 4
_FIXED: dict[str, dict[str, Any]] = {
    "backbone_config": {
        "patch_kernel_size": [7, 7],
        "patch_stride": [4, 4],
        "patch_padding": [3, 3],
        "query_stride": [2, 2],
        "num_query_pool_stages": 3,
        "hidden_act": "gelu",
    },
    "vision_config": {
        "fpn_kernel_size": 1,
        "fpn_stride": 1,
        "fpn_padding": 0,
        "fpn_top_down_levels": [2, 3],
        "num_feature_levels": 3,
    },
    "mask_decoder_config": {"attention_downsample_rate": 2},
}
"""Settings that transformers has and this network does not: any other value is refused."""
_REPVIT: dict[str, Any] = {
    "model_type": "timm_wrapper",
    "architecture": "repvit_m1",
    "num_classes": 2,
    "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
}
"""EdgeTAM's trunk, as transformers asks timm for it."""


def image_state(state: State) -> State:
    """Leave what only videos need, and give each kind of point a tensor of its own."""
    log_extras(name for name in state if not name.startswith(_PARTS))
    kept = {name: tensor for name, tensor in state.items() if name.startswith(_PARTS)}
    points = kept.pop(_POINTS, None)
    if points is None or points.ndim != 2:
        raise CheckpointError(f"the tensor {_POINTS} is missing or ill-shaped")
    return kept | {f"{_POINTS}.{i}": row[None] for i, row in enumerate(points)}


def joined_state(state: State) -> State:
    """Undo `image_state` for a state by transformers' names; positions stand in it twice, as it does not tie them."""
    rows = [state[f"{_POINTS}.{i}"] for i in range(_NUM_POINTS)]
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(f"{_POINTS}.")}
    return rest | {_POINTS: torch.cat(rows), TIED: rest[SHARED].clone()}


def parse_config(values: Mapping[str, Any]) -> SamConfig:
    """Return our config for a config.json's values; what it leaves out is transformers' default, SAM 2's tiny.

    Raises:
        CheckpointError: a setting is ill-typed, or is one that this network does not have.
    """
    vision = _section(values, "vision_config")
    backbone = _section(vision, "backbone_config")
    prompt, mask = _section(values, "prompt_encoder_config"), _section(values, "mask_decoder_config")
    usual = SIZES["hiera_t"]
    try:
        decoder = replace(_parse_decoder(mask), skip_widths=(int(vision.get("fpn_hidden_size", usual.width)),) * 2)
        return replace(
            usual,
            encoder=_parse_repvit(backbone) if "edgetam" in values["model_type"] else _parse_hiera(backbone),
            decoder=decoder,
            width=int(vision.get("fpn_hidden_size", usual.width)),
            image_size=_side(prompt.get("image_size", usual.image_size)),
            mask_channels=int(prompt.get("mask_input_channels", usual.mask_channels)),
        )
    except (TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"its config.json has a setting that cannot be used ({error})") from error


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, dict):
        raise CheckpointError(f"its config.json has a {name} that is no object")
    for key, wanted in _FIXED.get(name, {}).items():
        if section.get(key, wanted) not in (wanted, None):
            raise CheckpointError(f"its config.json says {name}.{key} = {section[key]!r}; this network has {wanted!r}")
    return section


def _side(value: Any) -> int:
    sides = [int(side) for side in (value if isinstance(value, list | tuple) else [value])]
    if len(set(sides)) != 1:
        raise ValueError(f"images of {sides} pixels are no squares")
    return sides[0]


def _parse_hiera(values: Mapping[str, Any]) -> HieraConfig:
    usual = HieraConfig()
    widths = tuple(values.get("embed_dim_per_stage") or usual.stage_widths)
    heads = tuple(values.get("num_attention_heads_per_stage") or (1, 2, 4, 8))
    encoder = HieraConfig(
        width=int(values.get("hidden_size", widths[0])),
        depths=_four(values.get("blocks_per_stage") or usual.depths),
        num_heads=int(heads[0]),
        global_blocks=tuple(int(i) for i in values.get("global_attention_blocks") or usual.global_blocks),
        window_sizes=_four(values.get("window_size_per_stage") or usual.window_sizes),
        position_grid=_side(values.get("window_positional_embedding_background_size") or usual.position_grid),
        mlp_ratio=float(values.get("mlp_ratio", usual.mlp_ratio)),
    )
    if widths != encoder.stage_widths or heads != tuple(encoder.num_heads * 2**stage for stage in range(4)):
        raise ValueError(f"widths {list(widths)} and heads {list(heads)}, which do not double from stage to stage")
    return encoder


def _parse_repvit(values: Mapping[str, Any]) -> RepViTConfig:
    architecture = str(values.get("architecture", "repvit_m1"))
    if "repvit_m1" not in architecture or "repvit_m1_" in architecture:
        raise ValueError(f"a trunk called {architecture!r}, where repvit_m1 is known")
    return RepViTConfig()


def _four(values: Any) -> tuple[int, int, int, int]:
    first, second, third, fourth = (int(value) for value in values)
    return first, second, third, fourth


def read_decoder(values: Mapping[str, Any], usual: DecoderConfig) -> DecoderConfig:
    """Return `usual` with the sizes that transformers' config of a decoder states."""
    return replace(
        usual,
        depth=int(values.get("num_hidden_layers", usual.depth)),
        num_heads=int(values.get("num_attention_heads", usual.num_heads)),
        mlp_dim=int(values.get("mlp_dim", usual.mlp_dim)),
        num_multimask=int(values.get("num_multimask_outputs", usual.num_multimask)),
        iou_depth=int(values.get("iou_head_depth", usual.iou_depth)),
        iou_hidden=int(values.get("iou_head_hidden_dim", usual.iou_hidden)),
    )


def _parse_decoder(values: Mapping[str, Any]) -> DecoderConfig:
    usual = SIZES["hiera_t"].decoder
    chooses = bool(values.get("dynamic_multimask_via_stability", True))
    return replace(
        read_decoder(values, usual),
        min_stability=float(values.get("dynamic_multimask_stability_thresh", 0.98)) if chooses else None,
        stability_offset=float(values.get("dynamic_multimask_stability_delta", usual.stability_offset)),
    )


def format_config(config: SamConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Return the config.json of a model that `parse_config` would read back.

    Raises:
        CheckpointError: the config is one that transformers cannot say.
    """
    encoder, side = config.encoder, config.image_size
    if isinstance(encoder, HieraConfig):
        family, model, widths = "sam2", "Sam2Model", encoder.stage_widths
        backbone = _FIXED["backbone_config"] | _format_hiera(encoder, side)
    elif isinstance(encoder, RepViTConfig):
        family, model, widths = "edgetam", "EdgeTamModel", encoder.widths
        backbone = _REPVIT
    else:
        raise CheckpointError(f"transformers has no SAM 2 with a {encoder.kind} encoder; save the model as native")
    values = {
        "architectures": [model],
        "model_type": family,
        "dtype": str(dtype).removeprefix("torch."),
        "vision_config": _FIXED["vision_config"]
        | {
            "model_type": f"{family}_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": list(reversed(widths)),
            "backbone_feature_sizes": [[side // stride] * 2 for stride in (4, 8, 16)],
            "fpn_hidden_size": config.width,
            "layer_norm_eps": 1e-6,
        },
        "prompt_encoder_config": {
            "model_type": f"{family}_prompt_encoder",
            "hidden_size": config.width,
            "image_size": side,
            "patch_size": encoder.stride,
            "mask_input_channels": config.mask_channels,
            "layer_norm_eps": 1e-6,
        },
        "mask_decoder_config": _FIXED["mask_decoder_config"]
        | {"model_type": f"{family}_mask_decoder"}
        | _format_decoder(config.decoder, config.width),
    }
    read = parse_config(values)
    if read != replace(config, encoder=replace(encoder, drop_path=0.0)):
        raise CheckpointError(f"transformers' {model} cannot say all of this model's configuration; save it as native")
    return values


def _format_hiera(encoder: HieraConfig, side: int) -> dict[str, Any]:
    return {
        "model_type": "sam2_hiera_det_model",
        "image_size": [side, side],
        "hidden_size": encoder.width,
        "num_attention_heads": encoder.num_heads,
        "blocks_per_stage": list(encoder.depths),
        "embed_dim_per_stage": list(encoder.stage_widths),
        "num_attention_heads_per_stage": [encoder.num_heads * 2**stage for stage in range(4)],
        "window_size_per_stage": list(encoder.window_sizes),
        "global_attention_blocks": list(encoder.global_blocks),
        "window_positional_embedding_background_size": [encoder.position_grid] * 2,
        "mlp_ratio": encoder.mlp_ratio,
        "layer_norm_eps": 1e-6,
    }


def _format_decoder(decoder: DecoderConfig, width: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": decoder.depth,
        "num_attention_heads": decoder.num_heads,
        "mlp_dim": decoder.mlp_dim,
        "num_multimask_outputs": decoder.num_multimask,
        "iou_head_depth": decoder.iou_depth,
        "iou_head_hidden_dim": decoder.iou_hidden,
        "dynamic_multimask_via_stability": decoder.min_stability is not None,
        "dynamic_multimask_stability_delta": decoder.stability_offset,
        "dynamic_multimask_stability_thresh": 0.98 if decoder.min_stability is None else decoder.min_stability,
    }


def format_processor(config: SamConfig) -> dict[str, Any]:
    """Return the preprocessor_config.json of a model."""
    side, mask_side = config.image_size, 4 * config.embedding_size
    return {
        "image_processor_type": "Sam2ImageProcessor",
        "processor_class": "Sam2Processor",
        "image_mean": [round(value / 255, 6) for value in config.pixel_mean],
        "image_std": [round(value / 255, 6) for value in config.pixel_std],
        "size": {"height": side, "width": side},
        "mask_size": {"height": mask_side, "width": mask_side},
    }
