"""Checkpoints with Meta's names of tensors: segment-anything's own `.pth`, and MobileSAM's and SAM-HQ's.

Such a file holds tensors and nothing else. Its config is read off their names and shapes.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anymask.checkpoints.tensors import Shapes, State, shapes_of, stored_state
from anymask.checkpoints.wrapped import log_extras, unwrapped
from anymask.data.files import write_whole
from anymask.errors import CheckpointError, UnknownModelError, UnsafeCheckpointError
from anymask.model import DecoderConfig, Sam, SamConfig, TinyViTConfig, ViTConfig

_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
_SAM3 = ("detector.", "tracker.", "detector_model.", "tracker_model.")
_TINY_VIT_IMAGE_SIZE = 1024
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *(np._core.multiarray.scalar, np._core.multiarray._reconstruct),  # type: ignore[attr-defined]
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdSU"),
    *(pathlib.PosixPath, pathlib.PurePosixPath),
]
"""What scripts leave beside the tensors, such as the best score as a number of numpy's; it runs no code."""
_WANTED = re.compile(r"(?:GLOBAL|unrecognized function) ([\w.<>]+)")  # in torch's message
_CALLS = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE"}  # pickle's instructions that reach for code


def read_tensors(path: Path) -> State:
    """Read the tensors of a file that torch has saved, without running any code that it may hold.

    Raises:
        UnsafeCheckpointError: it asks for anything but tensors and plain containers.
        CheckpointError: it is truncated, damaged, or holds something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: what matters about them is said below
            with torch.serialization.safe_globals(_HARMLESS):
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        wanted = _WANTED.search(str(error))
        if not wanted and not _calls_code(path):
            raise CheckpointError("is damaged, or is no checkpoint: its pickle cannot be read") from error
        what = f" (it asks for {wanted[1].rstrip('.')})" if wanted else ""
        raise UnsafeCheckpointError(
            f"is a pickle that would run code when loaded{what}; a checkpoint holds only tensors"
        ) from error
    except Exception as error:  # a damaged file makes torch raise anything, from EOFError to AttributeError
        raise CheckpointError("is truncated or damaged, or is no checkpoint of torch's") from error
    return unwrapped(loaded)


def _calls_code(path: Path) -> bool:
    """Whether a bare pickle, which torch could not even parse, reaches for code; nothing is run."""
    try:
        with path.open("rb") as file:
            return any(operation.name in _CALLS for operation, _, _ in pickletools.genops(file))
    except Exception:  # no pickle, or one cut short
        return False


def parse(state: State) -> tuple[SamConfig, State]:
    """Return the config of a state with Meta's names, and the state without what no model uses.

    Raises:
        UnknownModelError: these are no tensors of a Segment Anything model.
        CheckpointError: a tensor that fixes the config is missing or ill-shaped.
    """
    if not any(name.startswith(_PARTS) for name in state):
        example = next(iter(state), "none")
        if any(name.startswith(_SAM3) for name in state):
            raise UnknownModelError(
                "is a SAM 3, whose network anymask does not have, and whose weights are under the SAM License, "
                "not Apache-2.0; SAM 2.1's are read"
            )
        raise UnknownModelError(f"is a checkpoint of no known kind (its tensors are called {example} and so on)")
    log_extras(name for name in state if not name.startswith(_PARTS))
    state = without_leftovers({name: tensor for name, tensor in state.items() if name.startswith(_PARTS)})
    return infer_config(shapes_of(state)), state


def infer_config(shapes: Shapes) -> SamConfig:
    """Read a config off the names and shapes of its tensors.

    What shapes cannot tell is Meta's: eight heads in the decoder, ImageNet's mean and deviation.
    """
    tiny = is_tiny_vit(shapes)
    encoder = infer_tiny_vit(shapes) if tiny else _infer_vit(shapes)
    has_hq = "mask_decoder.hf_token.weight" in shapes
    decoder = DecoderConfig(
        depth=shapes.count("mask_decoder.transformer.layers"),
        mlp_dim=shapes.side("mask_decoder.transformer.layers.0.mlp.lin1.weight", 0),
        num_multimask=shapes.side("mask_decoder.mask_tokens.weight", 0) - 1,
        iou_depth=shapes.count("mask_decoder.iou_prediction_head.layers"),
        iou_hidden=shapes.side("mask_decoder.iou_prediction_head.layers.0.weight", 0),
        hq_feature_width=shapes.side("mask_decoder.compress_vit_feat.0.weight", 0) if has_hq else None,
    )
    return SamConfig(
        encoder=encoder,
        decoder=decoder,
        width=shapes.side("mask_decoder.iou_token.weight", 1),
        image_size=(
            encoder.position_grid * encoder.patch_size if isinstance(encoder, ViTConfig) else _TINY_VIT_IMAGE_SIZE
        ),
        mask_channels=shapes.side("prompt_encoder.mask_downscaling.3.weight", 0),
    )


def _infer_vit(shapes: Shapes) -> ViTConfig:
    width = shapes.side("image_encoder.patch_embed.proj.weight", 0)
    grid = shapes.side("image_encoder.pos_embed", 1)
    tables = [f"image_encoder.blocks.{i}.attn.rel_pos_h" for i in range(shapes.count("image_encoder.blocks"))]
    offsets = [shapes.side(table, 0) for table in tables]
    windows = [length for length in offsets if length != 2 * grid - 1]
    return ViTConfig(
        width=width,
        depth=len(tables),
        num_heads=width // shapes.side("image_encoder.blocks.0.attn.rel_pos_h", 1),
        global_blocks=tuple(i for i, length in enumerate(offsets) if length == 2 * grid - 1),
        patch_size=shapes.side("image_encoder.patch_embed.proj.weight", 2),
        window_size=(windows[0] + 1) // 2 if windows else ViTConfig().window_size,
        mlp_ratio=shapes.side("image_encoder.blocks.0.mlp.lin1.weight", 0) / width,
        position_grid=grid,
    )


def check_expressible(config: SamConfig) -> None:
    """Refuse a config that a file of Meta's kind cannot say.

    Raises:
        CheckpointError: naming the setting that would be lost.
    """
    if not isinstance(config.encoder, ViTConfig | TinyViTConfig):
        raise CheckpointError(f"no other package has a {config.encoder.kind} encoder; save the model as native")
    plain = SamConfig(encoder=config.encoder)
    side = _TINY_VIT_IMAGE_SIZE
    if isinstance(config.encoder, ViTConfig):
        side = config.encoder.position_grid * config.encoder.patch_size
    for name, value, kept in (
        ("image_size", config.image_size, side),
        ("decoder.num_heads", config.decoder.num_heads, DecoderConfig().num_heads),
        ("decoder.ranker_width", config.decoder.ranker_width, DecoderConfig().ranker_width),
        ("pixel_mean", config.pixel_mean, plain.pixel_mean),
        ("pixel_std", config.pixel_std, plain.pixel_std),
        ("pred_iou_thresh", config.pred_iou_thresh, plain.pred_iou_thresh),
        ("stability_score_thresh", config.stability_score_thresh, plain.stability_score_thresh),
        ("text", config.text, plain.text),
    ):
        if value != kept:
            raise CheckpointError(f"Meta's format cannot say that {name} is {value}, not {kept}; save it as native")


def write_meta(model: Sam, path: str | Path, dtype: torch.dtype | None) -> None:
    """Write a model as its own package reads it: Meta's, MobileSAM's or SAM-HQ's.

    Raises:
        CheckpointError: the model is of a kind that the format cannot say.
        OutputError: the file cannot be written.
    """
    check_expressible(model.config)
    state = stored_state(model, dtype)
    encoder = model.config.encoder
    if isinstance(encoder, TinyViTConfig):
        state = with_classifier(state, encoder.widths[-1])
    write_whole(path, lambda temporary: torch.save(state, temporary))


def without_training(config: SamConfig) -> SamConfig:
    """Return the config with the settings that only training has at their rest: no stochastic depth."""
    return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, drop_path=0.0))


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
