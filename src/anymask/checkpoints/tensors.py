"""The tensors of a checkpoint: their shapes, what a model expects of them, how they are stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from anymask.errors import CheckpointError
from anymask.model import Sam, SamConfig, build_sam

State: TypeAlias = dict[str, Tensor]
"""Tensors by the names of anymask's own parameters, which are Meta's."""


class Shapes(dict[str, tuple[int, ...]]):
    """Shapes by name; errors name the tensor that is missing or ill-shaped."""

    def side(self, name: str, axis: int) -> int:
        """Length of one axis of a tensor; `CheckpointError` if it is absent or too flat."""
        shape = self.get(name)
        if shape is None:
            raise CheckpointError(f"the tensor {name} is missing")
        if len(shape) <= axis or not shape[axis]:
            raise CheckpointError(f"the tensor {name} has shape {list(shape)}, of which the model cannot be built")
        return shape[axis]

    def count(self, prefix: str) -> int:
        """How many of prefix.0, prefix.1, … there are in a row."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        indices = {match[1] for name in self if (match := pattern.match(name))}
        count = 0
        while str(count) in indices:
            count += 1
        return count


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    """Return the shapes of a state's tensors."""
    return Shapes({name: tuple(tensor.shape) for name, tensor in state.items()})


class _WithoutRandomValues(TorchFunctionMode):
    """Draws no values: for tensors that have none (device "meta"), that would import torch's compiler for a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        if func is torch.nn.init.normal_ or func is Tensor.normal_:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def empty_model(config: SamConfig) -> Sam:
    """Build a model whose parameters take no memory and have no values (torch's device "meta")."""
    try:
        with torch.device("meta"), _WithoutRandomValues():
            return build_sam(config)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, IndexError) as error:
        raise CheckpointError(f"no model can be built of its configuration ({error})") from error


def check_state(config: SamConfig, state: Mapping[str, Tensor]) -> None:
    """Refuse a state that is not exactly the config's: missing, unknown, ill-shaped or ill-typed tensors are named.

    Raises:
        CheckpointError: always with the first tensor of its kind, and how many there are.
    """
    expected = empty_model(config).state_dict()
    _refuse([name for name in expected if name not in state], "missing")
    _refuse([name for name in state if name not in expected], "unknown to a model of its configuration")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"the tensor {name} has shape {list(state[name].shape)}, {list(tensor.shape)} was expected"
            )
        if state[name].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(f"the tensor {name} is of type {state[name].dtype}, {tensor.dtype} was expected")


def check_finite(state: Mapping[str, Tensor], path: object) -> None:
    """Refuse weights that are no numbers, as those of a training that diverged; raises CheckpointError."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise CheckpointError(
                f"{path}: the tensor {name} holds NaN or infinity; the training that made it has diverged"
            )


def _refuse(names: list[str], what: str) -> None:
    if len(names) == 1:
        raise CheckpointError(f"the tensor {names[0]} is {what}")
    if names:
        raise CheckpointError(f"{len(names)} tensors are {what}, the first is {names[0]}")


def stored_state(model: Sam, dtype: torch.dtype | None) -> State:
    """Return a model's tensors as they go into a file: on the CPU, the parameters in `dtype` (None: as they are).

    Buffers (the Fourier matrix of positions, batch statistics) keep their precision: they are small, and in half of it
    points would move.
    """
    parameters = {name for name, _ in model.named_parameters()}
    state = {}
    for name, tensor in model.state_dict().items():
        wanted = dtype if name in parameters else None
        state[name] = tensor.detach().to("cpu", wanted or tensor.dtype).contiguous()
        narrowed = state[name].dtype != tensor.dtype
        if narrowed and tensor.isfinite().all() and not state[name].isfinite().all():
            raise CheckpointError(f"the tensor {name} has values that {dtype} cannot hold; store it in float32")
    return state
