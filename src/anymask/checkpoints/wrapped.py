"""Tensors as training scripts save them: found under the keys and behind the prefixes that are put around a model's.

A script's file is the model's state or holds it under one of a few keys, beside optimizers and counts. Its names may
have grown by the modules that wrapped the model: data parallelism's `module.`, torch.compile's `_orig_mod.`,
Lightning's `model.`, micro-sam's `sam.`. What stands beside the model is logged and left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from anymask.checkpoints.tensors import State
from anymask.errors import CheckpointError, UnknownModelError

_KEYS = (
    *("model", "state_dict", "model_state_dict", "model_state", "net", "network", "sam", "weights", "module", "params"),
    *("ema", "model_ema", "params_ema"),
)
_PREFIX = re.compile(
    r"((?:(?:module|model|network|net|sam|_orig_mod|_forward_module)\.)*)(?:image_encoder|vision_encoder)\."
)
_COMPILED = "_orig_mod."

_log = logging.getLogger(__name__)


def unwrapped(loaded: Any) -> State:
    """Return the tensors of what torch has loaded, from under the keys and prefixes that scripts put around them.

    Raises:
        UnknownModelError: there are no tensors by name.
        CheckpointError: a tensor has no values, or is stored in another way than plainly.
    """
    beside: list[str] = []
    while isinstance(loaded, dict):
        key = next((key for key in _KEYS if isinstance(loaded.get(key), dict) and loaded[key]), None)
        if key is None:
            break
        beside += [str(name) for name in loaded if name != key]
        loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        raise UnknownModelError("holds no tensors by name; a checkpoint was expected")
    is_model = any(isinstance(name, str) and _PREFIX.match(name.replace(_COMPILED, "")) for name in loaded)
    found = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}
    for name in loaded:
        if name not in found and not (is_model and "." not in str(name)):
            raise UnknownModelError(f"holds {name!r}, which is no tensor; a checkpoint was expected")
    for name, tensor in found.items():
        if tensor.is_meta:
            raise CheckpointError(f"the tensor {name} has no values (device meta); save the whole model")
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise CheckpointError(f"the tensor {name} is sparse or quantized; a plain one was expected")
    beside += [str(name) for name in loaded if name not in found]
    if beside:
        _log.info("left beside the model: %s", ", ".join(sorted(beside)))
    return without_prefix(found)


def without_prefix(state: State) -> State:
    """Return the tensors by the names that they have in the model; as they are where none is an image encoder's."""
    plain = {name.replace(_COMPILED, "").replace(".module.", "."): tensor for name, tensor in state.items()}
    prefix = next((match[1] for name in plain if (match := _PREFIX.match(name))), "")
    if not prefix:
        return plain
    log_extras(name for name in plain if not name.startswith(prefix))
    return {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)}


def log_extras(names: Iterable[str]) -> None:
    """Name in the log the parts of a checkpoint that a model on one image has no use for."""
    parts = sorted({name.split(".", 1)[0] for name in names})
    if parts:
        _log.info("parts of the checkpoint that are not used: %s", ", ".join(parts))
