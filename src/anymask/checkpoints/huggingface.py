"""Hugging Face folders: config.json and model.safetensors, as transformers keeps SamModel, SamHQModel and Sam2Model.

SAM 2's config.json is handled by `huggingface_sam2`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from anymask.checkpoints import huggingface_sam2
from anymask.checkpoints.key_map import SHARED, TIED, KeyMap
from anymask.checkpoints.meta import check_expressible, read_tensors
from anymask.checkpoints.native import read_safetensors, save_safetensors
from anymask.checkpoints.tensors import State, stored_state
from anymask.data.files import write_text_atomic, write_whole
from anymask.errors import CheckpointError, OutputError, UnknownModelError
from anymask.model import DecoderConfig, HieraConfig, PlainViTConfig, RepViTConfig, Sam, SamConfig, ViTConfig

_CONFIG, _WEIGHTS, _PROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
_INDEX, _PICKLE = "model.safetensors.index.json", "pytorch_model.bin"
_PICKLE_INDEX = "pytorch_model.bin.index.json"

_FIXED = {
    "vision_config": {"hidden_act": "gelu", "qkv_bias": True, "use_abs_pos": True, "use_rel_pos": True},
    "mask_decoder_config": {"hidden_act": "relu", "attention_downsample_rate": 2},
}
"""Settings that transformers has and this network does not: any other value is refused."""


def read_folder(folder: Path) -> tuple[SamConfig, State]:
    """Read the config and the tensors of a folder.

    Raises:
        UnknownModelError: it is no folder of Hugging Face's, or of another model.
        CheckpointError: a file is missing or damaged, or asks for what this network does not have.
    """
    values = _read_json(folder / _CONFIG)
    kind, is_sam2 = values.get("model_type"), values.get("model_type") in huggingface_sam2.MODEL_TYPES
    if str(kind).startswith("sam3"):
        raise UnknownModelError(
            f"its {_CONFIG} is of a SAM 3, whose network anymask does not have, and whose weights are under the SAM "
            "License, not Apache-2.0; SAM 2.1's are read"
        )
    if kind not in ("sam", "sam_hq") and not is_sam2:
        raise UnknownModelError(f"its {_CONFIG} is of model type {kind!r}; sam, sam_hq, sam2 or edgetam would do")
    config = huggingface_sam2.parse_config(values) if is_sam2 else parse_config(values)
    state = _read_weights(folder)
    if TIED in state:
        tied = state.pop(TIED)
        state.setdefault(SHARED, tied)
    if is_sam2:
        state = huggingface_sam2.image_state(state)
    keys = KeyMap(config.decoder.iou_depth, sam2=is_sam2)
    return config, {keys.from_hugging_face(name): tensor for name, tensor in state.items()}


def _read_weights(folder: Path) -> State:
    if (folder / _WEIGHTS).is_file():
        return read_safetensors(folder / _WEIGHTS)[0]
    if (folder / _INDEX).is_file():
        names = sorted(set(_read_json(folder / _INDEX).get("weight_map", {}).values()))
        state: State = {}
        for name in names:
            state |= read_safetensors(folder / Path(str(name)).name)[0]
        return state
    if (folder / _PICKLE).is_file():
        return read_tensors(folder / _PICKLE)
    if (folder / _PICKLE_INDEX).is_file():
        parts: State = {}
        for name in sorted(set(_read_json(folder / _PICKLE_INDEX).get("weight_map", {}).values())):
            parts |= read_tensors(folder / Path(str(name)).name)
        return parts
    raise CheckpointError(f"the folder has no {_WEIGHTS}")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UnknownModelError(f"the folder has no {path.name}; a folder of Hugging Face's was expected")
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"its {path.name} is no readable JSON ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"its {path.name} is no JSON object")
    return values


def parse_config(values: Mapping[str, Any]) -> SamConfig:
    """Return our config for a config.json's values; what it leaves out is transformers' default, ViT-B.

    Raises:
        CheckpointError: a setting is ill-typed, or is one that this network does not have.
    """
    vision, prompt, mask = (_section(values, part) for part in ("vision", "prompt_encoder", "mask_decoder"))
    usual, decoder = ViTConfig(), DecoderConfig()
    try:
        width = int(vision.get("hidden_size", usual.width))
        hidden = vision.get("mlp_dim") or width * float(vision.get("mlp_ratio", usual.mlp_ratio))
        patch_size, image_size = int(vision.get("patch_size", 16)), int(vision.get("image_size", 1024))
        encoder = ViTConfig(
            width=width,
            depth=int(vision.get("num_hidden_layers", usual.depth)),
            num_heads=int(vision.get("num_attention_heads", usual.num_heads)),
            global_blocks=tuple(int(i) for i in vision.get("global_attn_indexes", usual.global_blocks)),
            patch_size=patch_size,
            window_size=int(vision.get("window_size", usual.window_size)),
            mlp_ratio=hidden / width,
            position_grid=image_size // patch_size,
        )
        return SamConfig(
            encoder=encoder,
            decoder=replace(
                huggingface_sam2.read_decoder(mask, decoder),
                hq_feature_width=int(mask.get("vit_dim", 768)) if values["model_type"] == "sam_hq" else None,
            ),
            width=int(vision.get("output_channels", 256)),
            image_size=image_size,
            mask_channels=int(prompt.get("mask_input_channels", 16)),
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"its {_CONFIG} has a setting that cannot be used ({error})") from error


def _section(values: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    name = f"{part}_config"
    section = values.get(name) or {}
    if not isinstance(section, dict):
        raise CheckpointError(f"its {_CONFIG} has a {name} that is no object")
    for key, wanted in _FIXED.get(name, {}).items():
        if section.get(key, wanted) != wanted:
            raise CheckpointError(f"its {_CONFIG} says {name}.{key} = {section[key]!r}; this network has {wanted!r}")
    return section


def format_config(config: SamConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Return the config.json of a model with a ViT encoder.

    transformers would give the decoder's normalisations an epsilon of 1e-6; Meta's, and ours, is 1e-5.
    """
    encoder, decoder = config.encoder, config.decoder
    if not isinstance(encoder, ViTConfig):
        raise CheckpointError(f"transformers' SamModel has no {encoder.kind} encoder; save the model as native")
    kind = "sam" if decoder.hq_feature_width is None else "sam_hq"
    hq = {} if decoder.hq_feature_width is None else {"vit_dim": decoder.hq_feature_width}
    sizes = {"image_size": config.image_size, "patch_size": encoder.patch_size}
    return {
        "architectures": ["SamModel" if kind == "sam" else "SamHQModel"],
        "model_type": kind,
        "dtype": str(dtype).removeprefix("torch."),
        "vision_config": sizes
        | _FIXED["vision_config"]
        | {
            "model_type": f"{kind}_vision_model",
            "hidden_size": encoder.width,
            "output_channels": config.width,
            "num_hidden_layers": encoder.depth,
            "num_attention_heads": encoder.num_heads,
            "global_attn_indexes": list(encoder.global_blocks),
            "window_size": encoder.window_size,
            "mlp_ratio": encoder.mlp_ratio,
            "mlp_dim": int(encoder.width * encoder.mlp_ratio),
            "num_pos_feats": config.width // 2,
            "layer_norm_eps": 1e-6,
        },
        "prompt_encoder_config": sizes
        | {
            "model_type": f"{kind}_prompt_encoder",
            "hidden_size": config.width,
            "image_embedding_size": config.embedding_size,
            "mask_input_channels": config.mask_channels,
            "layer_norm_eps": 1e-6,
        },
        "mask_decoder_config": _FIXED["mask_decoder_config"]
        | hq
        | {
            "model_type": f"{kind}_mask_decoder",
            "hidden_size": config.width,
            "num_hidden_layers": decoder.depth,
            "num_attention_heads": decoder.num_heads,
            "mlp_dim": decoder.mlp_dim,
            "num_multimask_outputs": decoder.num_multimask,
            "iou_head_depth": decoder.iou_depth,
            "iou_head_hidden_dim": decoder.iou_hidden,
            "layer_norm_eps": 1e-5,
        },
    }


def write_folder(model: Sam, folder: str | Path, dtype: torch.dtype | None) -> None:
    """Write the folder that `SamModel.from_pretrained` reads, or that of SAM-HQ, SAM 2 and EdgeTAM.

    Raises:
        CheckpointError: the model is of a kind that transformers does not have.
        OutputError: the folder cannot be written.
    """
    config, folder = model.config, Path(folder)
    is_sam2 = isinstance(config.encoder, HieraConfig | RepViTConfig | PlainViTConfig)
    if is_sam2:
        values, processor = (
            huggingface_sam2.format_config(config, dtype or model.dtype),
            huggingface_sam2.format_processor,
        )
    else:
        values, processor = format_config(config, dtype or model.dtype), _processor
        check_expressible(replace(config, decoder=replace(config.decoder, num_heads=DecoderConfig().num_heads)))
    keys = KeyMap(config.decoder.iou_depth, sam2=is_sam2)
    state = {keys.to_hugging_face(name): tensor for name, tensor in stored_state(model, dtype).items()}
    if is_sam2:
        state = huggingface_sam2.joined_state(state)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: no folder can be made there ({error.strerror or error})") from error
    write_whole(folder / _WEIGHTS, lambda path: save_safetensors(state, path, {"format": "pt"}))
    write_text_atomic(folder / _PROCESSOR, json.dumps(processor(config), indent=2) + "\n")
    write_text_atomic(folder / _CONFIG, json.dumps(values, indent=2) + "\n")


def _processor(config: SamConfig) -> dict[str, Any]:
    side, mask_side = config.image_size, 4 * config.embedding_size
    return {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor" if config.decoder.hq_feature_width is None else "SamHQProcessor",
        "image_mean": [round(value / 255, 6) for value in config.pixel_mean],
        "image_std": [round(value / 255, 6) for value in config.pixel_std],
        "size": {"longest_edge": side},
        "pad_size": {"height": side, "width": side},
        "mask_size": {"longest_edge": mask_side},
        "mask_pad_size": {"height": mask_side, "width": mask_side},
    }
