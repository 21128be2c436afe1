"""Muon: steps of equal size in all directions of a weight matrix, and Adam's for everything else.

The momentum of a matrix (or of a convolution's kernel, flattened to one row an output channel) is replaced by its
nearest semi-orthogonal matrix, found by a few Newton-Schulz iterations, so that rare directions are learned as fast
as common ones. Scaled to the size of AdamW's steps, it takes AdamW's learning rates and decay. Source: Jordan et
al. 2024, "Muon: An optimizer for hidden layers"; the scale: Liu et al. 2025, "Muon is scalable for LLM training".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

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
