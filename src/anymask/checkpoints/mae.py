"""Pre-trained plain ViTs for SAM's image encoder: the public MAE checkpoints' format, and our own pre-training's.

Such a file holds `patch_embed.proj.*`, `pos_embed` (1, 1 + g·g, c), `cls_token`, `blocks.N.{norm1, attn.qkv, attn.proj,
norm2, mlp.fc1, mlp.fc2}.*` and `norm.*`, perhaps under "model", perhaps with a decoder. SAM's encoder takes positions
(without the class token's, interpolated to its grid), patches and blocks; its relative positions start at zero, and
its neck, like all that follows, at random. Source: He et al. 2022; SAM, app. A; Li et al. 2022 (ViTDet), sec. 3.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.checkpoints.meta import read_tensors
from anymask.checkpoints.native import FORMAT, read_safetensors
from anymask.checkpoints.tensors import Shapes, State, shapes_of
from anymask.errors import CheckpointError
from anymask.model import Sam, ViTConfig, build_sam
from anymask.model.mae import MaskedAutoencoder

_UNUSED = re.compile(r"(?:cls_token|mask_token|norm\.|fc_norm\.|head\.|decoder_)")
_RENAMED = {".mlp.fc1.": ".mlp.lin1.", ".mlp.fc2.": ".mlp.lin2."}


def read_mae(path: str | Path) -> State | None:
    """Read a file in the public format as it is; None where it holds anything else, or there is no such file.

    Raises:
        UnsafeCheckpointError: it is a pickle that would run code.
        CheckpointError: it is truncated or damaged.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        notes: dict[str, str] = {}
        if is_safetensors:
            state, notes = read_safetensors(path)
        else:
            state = read_tensors(path)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    is_plain = FORMAT not in notes and {"patch_embed.proj.weight", "pos_embed", "blocks.0.norm1.weight"} <= state.keys()
    return state if is_plain else None


def encoder_state(state: State, config: ViTConfig) -> State:
    """Return a plain ViT's tensors, of the public format, by the names and in the shapes of SAM's encoder.

    Positions are interpolated to the encoder's grid, kernels of patches to its patch (the public ViT-H has 14 pixels,
    SAM's 16) so that an even area keeps its response.

    Raises:
        CheckpointError: its width, depth or MLP is another, or a tensor is missing or unknown.
    """
    shapes = shapes_of(state)
    _check_sizes(shapes, config)
    found: State = {}
    for name, tensor in state.items():
        if _UNUSED.match(name):
            continue
        for theirs, ours in _RENAMED.items():
            name = name.replace(theirs, ours)
        found[name] = tensor.float()
    if "cls_token" in state and found["pos_embed"].ndim == 3:
        found["pos_embed"] = found["pos_embed"][:, 1:]
    found["pos_embed"] = _fit_positions(found["pos_embed"], config.position_grid)
    found["patch_embed.proj.weight"] = _fit_patches(found["patch_embed.proj.weight"], config.patch_size)
    return found


def load_mae_encoder(model: Sam, state: State) -> None:
    """Put a plain ViT, of the public format, into a model's image encoder; all that it does not have stays.

    Raises:
        CheckpointError: the encoder is no ViT, or the tensors are not of its size.
    """
    if not isinstance(model.config.encoder, ViTConfig):
        raise CheckpointError(f"a plain ViT's weights cannot start a {model.config.encoder.kind} encoder; a ViT's can")
    found = encoder_state(state, model.config.encoder)
    own = model.image_encoder.state_dict()
    kept = {name for name in own if name.startswith("neck.") or ".rel_pos_" in name}
    for names, what in ((own.keys() - kept - found.keys(), "missing"), (found.keys() - own.keys(), "no part of it")):
        if names:
            raise CheckpointError(f"of the plain ViT's tensors {sorted(names)[0]} is {what}, {len(names)} in all")
    for name, tensor in found.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"the plain ViT's {name} has shape {list(tensor.shape)}, {list(own[name].shape)} was expected"
            )
    model.image_encoder.load_state_dict(own | found)


def sam_of_mae(pretrained: MaskedAutoencoder, *, seed: int = 0) -> Sam:
    """Build the model whose training may start from a pre-trained encoder; the rest is random, of the seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = build_sam(pretrained.config)
    if pretrained.painted is not None:
        model.image_encoder.load_state_dict(pretrained.painted.encoder.state_dict())
        return model
    load_mae_encoder(model, {name: tensor.detach().cpu() for name, tensor in pretrained.encoder.state_dict().items()})
    return model


def _check_sizes(shapes: Shapes, config: ViTConfig) -> None:
    depth, width = shapes.count("blocks"), shapes.side("patch_embed.proj.weight", 0)
    if (depth, width) != (config.depth, config.width):
        raise CheckpointError(
            f"the plain ViT has {depth} blocks of width {width}; the model's encoder has {config.depth} of "
            f"{config.width}"
        )
    shapes.side("patch_embed.proj.weight", 3)


def _fit_positions(positions: Tensor, grid: int) -> Tensor:
    """Resize positions (1, n·n, c) or (1, n, n, c) to (1, grid, grid, c)."""
    if positions.ndim == 3:
        side = math.isqrt(positions.shape[1])
        if side**2 != positions.shape[1]:
            raise CheckpointError(f"pos_embed has {positions.shape[1]} places beside the class token's: no square grid")
        positions = positions.unflatten(1, (side, side))
    if positions.ndim != 4:
        raise CheckpointError(f"pos_embed has shape {list(positions.shape)}; 1, 1 + n·n, c was expected")
    if positions.shape[1] == grid:
        return positions
    maps = positions.permute(0, 3, 1, 2)
    resized = F.interpolate(maps, (grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return resized.permute(0, 2, 3, 1).contiguous()


def _fit_patches(kernels: Tensor, side: int) -> Tensor:
    stored = kernels.shape[-1]
    if stored == side:
        return kernels
    resized = F.interpolate(kernels, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return resized * (stored / side) ** 2
