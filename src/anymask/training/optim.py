"""The optimiser, the schedule of its learning rate, and the moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from anymask.model import Sam
from anymask.training.config import OptimConfig
from anymask.training.muon import Muon

_DECAYED = (nn.Linear, nn.modules.conv._ConvNd)
_NARROW = 16
"""Matrices with fewer inputs or outputs have no directions to balance."""


def build_optimizer(
    model: nn.Module, config: OptimConfig, precision: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """Matrices and kernels decay; biases, norms, embeddings and positions do not.

    Muon orthogonalises the steps of all matrices but those of a few inputs or outputs, in `precision`.
    """
    matrices: list[nn.Parameter] = []
    narrow: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name != "weight" or not isinstance(module, _DECAYED):
                kept.append(parameter)
            else:
                (narrow if min(parameter.flatten(1).shape) < _NARROW else matrices).append(parameter)
    rest = {"params": kept, "weight_decay": 0.0}
    if config.kind == "adamw":
        decayed = {"params": matrices + narrow, "weight_decay": config.weight_decay}
        return torch.optim.AdamW([decayed, rest], lr=config.learning_rate, betas=config.betas)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay, "orthogonal": True},
        {"params": narrow, "weight_decay": config.weight_decay},
        rest,
    ]
    return Muon(groups, lr=config.learning_rate, betas=config.betas, dtype=precision)


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


class MovingAverage:
    """An exponential moving average of a model's parameters; buffers (running statistics) are copied."""

    def __init__(self, model: Sam, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model; early steps move faster, so that the random start is soon forgotten."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), weight)
        for buffer, source in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(source)
