"""anymask's own checkpoints: one safetensors file, with the config as JSON in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from anymask.checkpoints.tensors import State, stored_state
from anymask.data.channels import ChannelMapping
from anymask.data.files import write_whole
from anymask.errors import CheckpointError
from anymask.model import Sam, SamConfig

FORMAT = "anymask.format"
CONFIG = "anymask.config"
CHANNELS = "anymask.channels"
"""How pictures become RGB (`anymask.data.channels`), as JSON; left out where they are RGB."""
_MEMORY = "memory."
"""Before the names of tensors that only videos need, kept of a checkpoint that had them."""
_VERSION = "1"


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """Read the tensors and the header's notes of a safetensors file.

    Raises:
        CheckpointError: it is truncated or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"is a truncated or damaged safetensors file ({error})") from error


def parse(state: State, notes: dict[str, str]) -> tuple[SamConfig, State]:
    """Return the config that the notes hold, and the state.

    Raises:
        CheckpointError: the notes are of a later version of anymask's, or not what it writes.
    """
    if notes[FORMAT] != _VERSION:
        raise CheckpointError(
            f"has version {notes[FORMAT]} of anymask's format, this anymask reads version {_VERSION}; update anymask"
        )
    try:
        values = json.loads(notes.get(CONFIG, ""))
    except ValueError as error:
        raise CheckpointError("has no readable configuration in its header") from error
    if not isinstance(values, dict):
        raise CheckpointError("has no readable configuration in its header")
    own = {name: tensor for name, tensor in state.items() if not name.startswith(_MEMORY)}
    return SamConfig.from_dict(values), own


def memory_of(state: State) -> State:
    """Return the tensors that only videos need, by the names that they came with."""
    return {name.removeprefix(_MEMORY): tensor for name, tensor in state.items() if name.startswith(_MEMORY)}


def read_channels(path: Path) -> dict[str, Any] | None:
    """Return the mapping of channels that a file of anymask's keeps, as plain values; None where it keeps none.

    Raises:
        CheckpointError: there is one, but not what anymask writes.
    """
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() or {}
    if CHANNELS not in notes:
        return None
    try:
        return ChannelMapping.from_dict(json.loads(notes[CHANNELS])).to_dict()
    except (ValueError, TypeError) as error:
        raise CheckpointError("has no readable mapping of channels in its header") from error


def write_native(model: Sam, path: str | Path, dtype: torch.dtype | None, memory: State) -> None:
    """Write a model, its parameters in `dtype` (None: as they are), and the `memory` that goes with it, if any.

    Raises:
        OutputError: the file cannot be written.
        CheckpointError: `dtype` cannot hold a value.
    """
    notes = {"format": "pt", FORMAT: _VERSION, CONFIG: json.dumps(model.config.to_dict())}
    if model.channels is not None:
        notes[CHANNELS] = json.dumps(model.channels)
    state = stored_state(model, dtype)
    state |= {_MEMORY + name: tensor.detach().cpu().contiguous() for name, tensor in memory.items()}
    write_whole(path, lambda temporary: save_safetensors(state, temporary, notes))


def save_safetensors(state: State, path: Path, notes: dict[str, str]) -> None:
    """Write a safetensors file; failures are `OSError`s."""
    try:
        save_file(state, path, notes)
    except SafetensorError as error:
        raise OSError(str(error)) from error
