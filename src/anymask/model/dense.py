"""Dense layers on the fastest exact kernel there is.

On the CPU, torch's own float32 matrix product goes to MKL, which on some processors (AMD's above all) reaches half
the speed of oneDNN. Where no gradient is wanted, `product` therefore calls the oneDNN product that torch's compiler
uses, with the activation fused into it; everywhere else it is `torch.nn.functional.linear`. In bfloat16 the two are
equally fast, but the activation of its own takes longer than the product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["none", "relu", "gelu"]

_MIN_WORK = 1 << 19  # multiplications; below this oneDNN's set-up does not pay

_ROWS = 1024
"""Rows at a time in `by_rows`: memory for a hidden layer (12 MiB in ViT-B) need not be mapped again."""


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def _onednn_types() -> frozenset[torch.dtype]:
    types = {torch.float32}
    if hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported") and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        types.add(torch.bfloat16)
    return frozenset(types)


def runs_on_cpu_without_gradient(*operands: Tensor) -> bool:
    """Whether operations on these run at once on the CPU in the operands' own type, with no gradient to be kept.

    False while torch compiles, traces or converts types itself (autocast).
    """
    if torch.compiler.is_compiling() or torch.jit._trace.is_tracing() or torch.is_autocast_enabled("cpu"):
        return False
    if any(t.device.type != "cpu" for t in operands):
        return False
    return not (torch.is_grad_enabled() and any(t.requires_grad for t in operands))


def uses_onednn(x: Tensor, *others: Tensor | None) -> bool:
    """Whether `product` takes oneDNN for these operands: on the CPU, of one type, with no gradient to be kept.

    The types are float32 and, where the processor has instructions that serve it, bfloat16.
    """
    operands = (x, *(t for t in others if t is not None))
    if not runs_on_cpu_without_gradient(*operands):
        return False
    if x.dtype not in _onednn_types() or any(t.dtype != x.dtype for t in operands):
        return False
    return bool(torch.backends.mkldnn.enabled) and _has_onednn()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none") -> Tensor:
    """Return `activation(x @ weight.T + bias)` for x (…, i), weight (o, i), bias (o); shape (…, o)."""
    if uses_onednn(x, weight, bias) and x.numel() * len(weight) >= _MIN_WORK:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
        return result
    if activation == "gelu":
        if torch.compiler.is_exporting():  # as one matrix, with its bias: ONNX Runtime's BiasGelu is slow
            return F.gelu(F.linear(x.flatten(0, -2), weight, bias)).reshape(*x.shape[:-1], len(weight))
        return F.gelu(F.linear(x, weight, bias))
    y = F.linear(x, weight, bias)
    return F.relu(y) if activation == "relu" else y


class Linear(nn.Linear):
    """`torch.nn.Linear` through `product`, with an optional activation."""

    def forward(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """Map (…, in_features) to (…, out_features)."""
        return product(x, self.weight, self.bias, activation)


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each pixel, with Meta's epsilon of 1e-6."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise (b, c, h, w); memory stays channels-last."""
        return self.channels_last(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def channels_last(self, x: Tensor) -> Tensor:
        """Normalise (…, c)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class MLP(nn.Module):
    """`depth` linear layers with an activation between them; ReLU in SAM's hypernetworks and IoU head."""

    def __init__(self, width: int, hidden: int, out: int, depth: int, activation: Activation = "relu") -> None:
        super().__init__()
        sizes = [width, *[hidden] * (depth - 1), out]
        self.activation: Activation = activation
        self.layers = nn.ModuleList(Linear(i, o) for i, o in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, out)."""
        for layer in self.layers[:-1]:
            x = layer(x, self.activation)
        x = self.layers[-1](x)
        return x


def in_strips(x: Tensor) -> bool:
    """Whether to take a part after the other, which stays in a CPU's cache; a compiler cuts up as it likes."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def by_rows(compute: Callable[[Tensor], Tensor], x: Float[Tensor, "... c"]) -> Float[Tensor, "... o"]:
    """Return `compute(x)` for what maps each row by itself; on a CPU, a few rows at a time (`in_strips`)."""
    if not in_strips(x):
        return compute(x)
    rows = x.flatten(0, -2).split(_ROWS)
    joined: Tensor = torch.cat([compute(part) for part in rows]).unflatten(0, x.shape[:-1])
    return joined


def drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Drop whole samples of a residual branch (stochastic depth), scaling the rest to keep the mean."""
    if probability == 0.0 or not training:
        return x
    keep = 1.0 - probability
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
    return x * mask / keep
