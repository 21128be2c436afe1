"""Models from files and names, files from models; a checkpoint's kind is told by its content, never by its name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch

from anymask.checkpoints import huggingface, meta, native, sam2
from anymask.checkpoints.catalogue import CheckpointKind
from anymask.checkpoints.places import resolve
from anymask.checkpoints.tensors import State, check_finite, check_state, empty_model
from anymask.checkpoints.wrapped import without_prefix
from anymask.errors import CheckpointError
from anymask.model import HieraConfig, PlainViTConfig, RepViTConfig, Sam, SamConfig, TinyViTConfig
from anymask.threads import tell_if_late

Kind: TypeAlias = CheckpointKind | Literal["native"]
Format: TypeAlias = Literal["native", "meta", "huggingface"]

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def read_checkpoint(path: str | Path) -> tuple[SamConfig, State, Kind]:
    """Read a file or folder: its config, its tensors by our (Meta's) names, and its kind.

    Large tensors stay on disk until they are used (memory-mapped); the file must not change meanwhile.

    Raises:
        UnknownModelError: it is a checkpoint of no kind that anymask knows.
        UnsafeCheckpointError: it is a pickle that would run code.
        CheckpointError: it is absent, empty, truncated, or its tensors are not those of its model.
    """
    path = Path(path)
    try:
        config, state, kind = _read(path)
        check_state(config, state)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    return config, state, kind


def _read(path: Path) -> tuple[SamConfig, State, Kind]:
    if path.is_dir():
        return *huggingface.read_folder(path), "huggingface"
    state, notes = _read_file(path)
    if native.FORMAT in notes:
        return *native.parse(state, notes), "native"
    if any(name.startswith("vision_encoder.") for name in state):
        raise CheckpointError("holds a Hugging Face folder's weights; give the folder, with its config.json")
    config, state = sam2.parse(state, path.name) if sam2.is_sam2(state) else meta.parse(state)
    return config, state, _kind(config)


def _read_file(path: Path) -> tuple[State, dict[str, str]]:
    """Read a file's tensors, and the notes in its header if it is a safetensors file."""
    if not path.exists():
        raise CheckpointError("there is no such file or folder")
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise CheckpointError("the file is empty")
    if start[8:] != b"{":  # not a safetensors file, whose header is JSON after eight bytes of length
        return meta.read_tensors(path), {}
    state, notes = native.read_safetensors(path)
    return (state if native.FORMAT in notes else without_prefix(state)), notes


def _kind(config: SamConfig) -> Kind:
    if config.decoder.hq_feature_width is not None:
        return "sam_hq"
    match config.encoder:
        case TinyViTConfig():
            return "mobile_sam"
        case HieraConfig():
            return "sam2"
        case RepViTConfig():
            return "edgetam"
        case PlainViTConfig():
            return "efficienttam"
    return "meta"


def read_memory(name_or_path: str | Path) -> State:
    """Return what a checkpoint of SAM 2's kind holds of a video's memory, by Meta's names.

    No model here uses it; `save_model` keeps it, so that a converted file has lost nothing.

    Raises:
        CheckpointError: there is none in it, or it is a Hugging Face folder, which has other names.
    """
    path = resolve(name_or_path)
    if path.is_dir():
        raise CheckpointError(f"{path}: the memory of a Hugging Face folder has other names; convert Meta's file")
    try:
        state, notes = _read_file(path)
        known = native.FORMAT in notes or sam2.is_sam2(state)
        memory = native.memory_of(state) if native.FORMAT in notes else sam2.memory_of(state)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error
    if not known or not memory:
        raise CheckpointError(f"{path}: holds no memory of videos; SAM 2's checkpoints do")
    return memory


def load_model(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
) -> Sam:
    """Load a model, ready for inference (`eval`).

    `name_or_path` is the embedded model ("anymask-s"), a published one ("sam-vit-b", downloaded when it is not there
    yet), a file or folder of any kind that `read_checkpoint` knows, or a repository of the Hugging Face Hub
    ("org/name" or "org/name@revision"), which huggingface_hub fetches. `dtype` None is float32, whatever the file
    has. An `image_size` other than the stored one interpolates the encoder's positions. Weights of float32 stay in
    their file, memory-mapped: another may take its place meanwhile, but it must not be written over.

    Raises:
        UnknownModelError: it is neither a model's name nor a file or folder.
        CheckpointError: it cannot be read, or the image size does not suit the encoder.
        DownloadError: it is not on this machine and cannot be fetched.
    """
    if dtype is not None and dtype not in _FLOATS:
        raise CheckpointError(f"a model cannot have the type {dtype}; float32, bfloat16 or float16 would do")
    path = resolve(name_or_path)
    config, state, kind = read_checkpoint(path)
    if image_size is not None:
        config = replace(config, image_size=image_size)
    model = empty_model(config)
    # What is stored as float32 stays mapped: pages are read when they are used, and the model's own once written to.
    own = {name: x.float() if x.is_floating_point() else x for name, x in state.items()}
    check_finite(own, path)
    model.load_state_dict(own, assign=True)
    model.channels = native.read_channels(path) if kind == "native" else None
    if torch.device(device).type == "cpu":
        tell_if_late()
    return model.to(device=device, dtype=dtype or torch.float32).eval()


def save_model(
    model: Sam,
    path: str | Path,
    format: Format = "native",
    dtype: torch.dtype | None = None,
    *,
    memory: State | None = None,
) -> None:
    """Write a model whole or not at all: "native" and "meta" make a file, "huggingface" a folder.

    The parameters are stored in `dtype` (None: as they are), buffers as they are. Reading what was written gives a
    model with the same outputs; a format that cannot say all of the model's config is refused. "meta" is the format of
    the model's own package: Meta's, MobileSAM's, SAM-HQ's or SAM 2's. `memory` is from `read_memory`, and goes along.

    Raises:
        CheckpointError: the format cannot hold this model, or `dtype` one of its values.
        OutputError: the place cannot be written to.
    """
    if format not in get_args(Format):
        raise CheckpointError(f"no checkpoint format is called {format!r}; there are {', '.join(get_args(Format))}")
    if dtype is not None and dtype not in _FLOATS:
        raise CheckpointError(f"weights cannot be stored as {dtype}; float32, bfloat16 or float16 would do")
    if model.channels is not None and format != "native":
        raise CheckpointError(f"{path}: the format {format} cannot keep the model's mapping of channels; native can")
    is_sam2 = isinstance(model.config.encoder, HieraConfig | RepViTConfig | PlainViTConfig)
    if memory and (format == "huggingface" or not (is_sam2 or format == "native")):
        raise CheckpointError(f"{path}: the format {format} cannot keep a video's memory; native can")
    if format == "native":
        native.write_native(model, path, dtype, memory or {})
    elif format == "huggingface":
        huggingface.write_folder(model, path, dtype)
    elif is_sam2:
        sam2.write_sam2(model, path, dtype, memory or {})
    else:
        meta.write_meta(model, path, dtype)


def model_hash(model: Sam) -> str:
    """Return 16 hexadecimal digits of a SHA-256 over all that the model's answers depend on: config and tensors.

    Equal for a model read from any format that keeps its type; the device does not matter.
    """
    config = meta.without_training(model.config)
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(plain.view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]
