"""What tests in several folders share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


def _randomise(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, std: float, mean: float = 0.0) -> torch.Tensor:
        return mean + std * torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("rel_pos", "pos_embed", "attention_biases")):
                parameter.copy_(normal(parameter, 0.5))
            elif parameter.ndim == 1:
                parameter.copy_(normal(parameter, 0.2, 1.0 if "weight" in name else 0.0))
            elif parameter.shape[0] > 1:
                parameter.copy_(normal(parameter, parameter[0].numel() ** -0.5))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(normal(buffer, 0.1))
            elif name.endswith("running_var"):
                buffer.copy_(normal(buffer, 0.2, 1.0).clamp(min=0.3))


@pytest.fixture(scope="session")
def randomise() -> Callable[..., None]:
    """Fill a model so that no part of it is silent: positions are far from zero, activations stay near one."""
    return _randomise
