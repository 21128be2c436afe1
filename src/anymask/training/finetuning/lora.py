"""Low-rank adaptation: the image encoder's matrices learn by a product of two thin ones, and take it up at the end.

Source: LoRA (Hu et al. 2021), sec. 4.1, here for convolutions too, whose kernels are matrices of out × (in · k · k).
The product is a parametrisation of the weight, so that whatever reads the weight reads the sum; `merge_lora` leaves a
model of the same tensors as before, which every format of checkpoints can hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anymask.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """The rank of the product, and the factor that it counts by, in ranks."""

    rank: int = 8
    alpha: float = 8.0

    def __post_init__(self) -> None:
        """Refuse what is no adaptation."""
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank is {self.rank} and alpha {self.alpha}; they must be at least 1, and above 0")


class LowRank(nn.Module):
    """A weight plus `alpha / rank` times the product of two thin matrices, the second of which begins at zero."""

    def __init__(self, weight: Tensor, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        drawn = torch.randn(config.rank, columns, generator=generator) * columns**-0.5
        self.down = nn.Parameter(drawn.to(weight.device, weight.dtype))
        self.up = nn.Parameter(torch.zeros(rows, config.rank, device=weight.device, dtype=weight.dtype))
        self.scale = config.alpha / config.rank

    def forward(self, weight: Float[Tensor, out * rest]) -> Float[Tensor, out * rest]:
        """Return the weight as it is learned."""
        return weight + self.scale * (self.up @ self.down).view_as(weight)


def add_lora(module: nn.Module, config: LoraConfig, *, seed: int = 0) -> int:
    """Adapt every linear layer and ungrouped convolution inside a module, and freeze all of its own parameters.

    Layers with a side of at most four ranks are left as they are, frozen: a product would not be thin there. Returns
    the number of adapted layers; raises InputError where there is none.
    """
    module.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    layers = [
        layer
        for layer in module.modules()
        if (isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1))
        and min(layer.weight.flatten(1).shape) > 4 * config.rank
    ]
    if not layers:
        raise InputError(
            f"a rank of {config.rank} is too high for this encoder: none of its layers is over four times as wide"
        )
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, config, generator))
    return len(layers)


@torch.no_grad()
def merge_lora(module: nn.Module) -> None:
    """Put each sum in the place of its weight, and leave plain layers."""
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
