"""The optimiser, the schedule of its learning rate, and the moving average of the weights."""

from __future__ import annotations

import copy
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from anymask.training.config import OptimConfig
from anymask.training.muon import Muon

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
