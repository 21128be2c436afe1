"""The optimisers, the schedule of their learning rate, and the moving average of the weights.

Muon takes steps of equal size in all directions of a weight matrix, and Adam's for everything else. The momentum of a
matrix (or of a convolution's kernel, flattened to one row per output channel) is replaced by its nearest
semi-orthogonal matrix, found by a few Newton-Schulz iterations, so that rare directions are learned as fast as common
ones. Scaled to the size of AdamW's steps, it takes AdamW's learning rates and decay. Source: Jordan et al. 2024, "Muon:
An optimizer for hidden layers"; the scale: Liu et al. 2025, "Muon is scalable for LLM training".
"""

from __future__ import annotations

import copy
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anymask.training.config import OptimConfig

M = TypeVar("M", bound=nn.Module)

_DECAYED = (nn.Linear, nn.modules.conv._ConvNd)
_NARROW = 16
"""Matrices with fewer inputs or outputs have no directions to balance."""
_BLOCK = re.compile(r"\bimage_encoder\.blocks\.(\d+)\.")
_TRUNK = re.compile(r"\bimage_encoder\.trunk\.")
_FIRST = re.compile(r"\bimage_encoder\.(?:patch_embed|pos_embed)\b")


@dataclass(slots=True)
class _Share:
    """Parameters that learn at one rate."""

    matrices: list[nn.Parameter] = field(default_factory=list)
    narrow: list[nn.Parameter] = field(default_factory=list)
    kept: list[nn.Parameter] = field(default_factory=list)


def build_optimizer(
    model: nn.Module, config: OptimConfig, precision: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """Matrices and kernels decay; biases, norms, embeddings and positions do not.

    Muon orthogonalises the steps of all matrices but those of a few inputs or outputs, in `precision`; kernels that
    filter each channel by itself are no matrices. Each group's `lr_scale` is what `layer_scale` says of its parameters,
    times `trunk_scale` in a pre-trained trunk; the groups of the highest come first.
    """
    depth = count_blocks(model) if config.layer_decay < 1 else 0
    shares: defaultdict[float, _Share] = defaultdict(_Share)
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            full_name = f"{path}.{name}"
            scale = layer_scale(full_name, depth, config.layer_decay)
            share = shares[scale * config.trunk_scale if _TRUNK.search(full_name) else scale]
            if name != "weight" or not isinstance(module, _DECAYED):
                share.kept.append(parameter)
            else:
                is_narrow = min(parameter.flatten(1).shape) < _NARROW or getattr(module, "groups", 1) > 1
                (share.narrow if is_narrow else share.matrices).append(parameter)
    groups: list[dict[str, Any]] = []
    for scale, share in sorted(shares.items(), reverse=True):
        decay, rest = {"weight_decay": config.weight_decay, "lr_scale": scale}, {"weight_decay": 0.0, "lr_scale": scale}
        if config.kind == "adamw":
            groups.append({"params": share.matrices + share.narrow, **decay})
        else:
            groups.append({"params": share.matrices, **decay, "orthogonal": True})
            groups.append({"params": share.narrow, **decay})
        groups.append({"params": share.kept, **rest})
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)
    return Muon(groups, lr=config.learning_rate, betas=config.betas, dtype=precision)


def count_blocks(model: nn.Module) -> int:
    """Return how many blocks the image encoder has; 0 where it is no ViT."""
    return len({found[1] for name, _ in model.named_parameters() if (found := _BLOCK.search(name))})


def layer_scale(name: str, depth: int, decay: float) -> float:
    """Return a parameter's learning rate relative to the highest: layer-wise decay (SAM, app. A; BEiT, app.).

    Of `depth` blocks the last learns at `decay`, each one before it at `decay` times the rate of the next, patches and
    positions at the lowest; what lies above the blocks (neck, prompt encoder, mask decoder) at the highest.
    """
    block = _BLOCK.search(name)
    if block:
        return float(decay ** (depth - int(block[1])))
    return float(decay ** (depth + 1)) if _FIRST.search(name) else 1.0


def set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def rate_factor(step: int, total: int, config: OptimConfig) -> float:
    """Return the learning rate at a step (from 0) relative to the highest: linear warm-up, then the schedule."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "steps":
        return float(0.1 ** sum(step >= m for m in config.milestones))
    progress = min(1.0, (step - config.warmup) / max(1, total - config.warmup))
    return config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))


class MovingAverage(Generic[M]):
    """An exponential moving average of a model's parameters; buffers (running statistics) are copied."""

    def __init__(self, model: M, decay: float) -> None:
        self.decay = decay
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model; early steps move faster, so that the random start is soon forgotten."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), weight)
        for buffer, source in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(source)


_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values from anywhere in (0, 1] to about 1 in five iterations (Jordan et al.)."""
_ITERATIONS = 5
_STEP_SIZE = 0.2
"""Root mean square of an AdamW step in units of its rate, as Liu et al. measured it."""


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal` True take Muon's steps, all others AdamW's.

    `dtype` is what the iterations are computed in: bfloat16 is enough, where the device multiplies it fast.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0, "orthogonal": False})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # torch's returns a closure's loss
        """Take one step along the gradients that are there."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for parameter in parameters:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                self._orthogonal_step(parameters, group["lr"])
            else:
                self._adam_step(parameters, group["lr"], group["betas"])

    def _orthogonal_step(self, parameters: list[Tensor], lr: float) -> None:
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            by_shape[tuple(parameter.flatten(1).shape)].append(parameter)
        for shape, alike in by_shape.items():
            steps = orthogonal(torch.stack([self._momentum(p).flatten(1) for p in alike]).to(self.dtype))
            scale = lr * _STEP_SIZE * max(shape) ** 0.5
            for parameter, step in zip(alike, steps.to(alike[0].dtype), strict=True):
                parameter.sub_(step.view(parameter.shape), alpha=scale)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Update the momentum, and look one step ahead (Nesterov)."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(_MOMENTUM).add_(gradient)
        ahead: Tensor = gradient.add(state["momentum"], alpha=_MOMENTUM)
        return ahead

    def _adam_step(self, parameters: list[Tensor], lr: float, betas: tuple[float, float]) -> None:
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if not state:
                state["step"] = torch.zeros((), device="cpu")
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            count = float(state["step"])
            state["mean"].lerp_(gradient, 1 - betas[0])
            state["square"].lerp_(gradient.square(), 1 - betas[1])
            deviation = (state["square"] / (1 - betas[1] ** count)).sqrt_().add_(1e-8)
            parameter.addcdiv_(state["mean"], deviation, value=-lr / (1 - betas[0] ** count))


def orthogonal(matrices: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """Return the semi-orthogonal matrix nearest to each, its singular values between about 0.7 and 1.2."""
    a, b, c = _COEFFICIENTS
    upright = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if upright else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    made: Tensor = x.mT if upright else x
    return made
