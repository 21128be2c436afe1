"""SAM 2's image encoder: a trunk of four stages, and a feature pyramid whose levels the mask decoder reads.

The level at stride 16 is the image embedding, with the level at stride 32 added from above; those at strides 4 and 8
are what the decoder's skips are made of. A level is a 1×1 convolution of a stage, and a skip one of a level, with
nothing in between: `MaskDecoder.project_skips` multiplies the two matrices first, so that no level of the embedding's
width exists at a quarter of the image's size. Parameter names are those of Meta's checkpoints. Source: SAM 2 (Ravi et
al. 2024), sec. 4 and app. D.1.

Legend: B images, H×W grid, C channels of a stage or of the pyramid.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anymask.model.dense import product

Stages: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""What a trunk returns, (b, h, w, c) each, at strides 4, 8, 16 and 32."""


class Lateral(nn.Module):
    """A stage's 1×1 convolution to the pyramid's width."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x_BHWC: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w o"]:
        """Project each cell."""
        return product(x_BHWC, self.conv.weight.flatten(1), self.conv.bias)


class FeaturePyramid(nn.Module):
    """The levels of the pyramid, deepest first, as checkpoints number them."""

    def __init__(self, widths: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Lateral(width, out_channels) for width in reversed(widths))

    def forward(self, at16: Float[Tensor, "b h w c"], at32: Float[Tensor, "b h2 w2 d"]) -> Float[Tensor, "b h w o"]:
        """Return the level at stride 16, to which the one at stride 32 is added, each of its cells four times."""
        deepest = self.convs[0](at32)
        enlarged = deepest.repeat_interleave(2, 1).repeat_interleave(2, 2)
        level: Tensor = self.convs[1](at16) + enlarged
        return level

    @property
    def fine(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The convolutions of the levels at strides 4 and 8."""
        at8, at4 = self.convs[2], self.convs[3]
        assert isinstance(at8, Lateral) and isinstance(at4, Lateral)
        return at4.conv, at8.conv


class PyramidEncoder(nn.Module):
    """A trunk and its pyramid: the image embedding at stride 16, and what the decoder's skips are made of."""

    def __init__(self, trunk: nn.Module, widths: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = FeaturePyramid(widths, out_channels)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, out_channels))
        """Added to the embedding of an image that no others came before, as there are in a video."""

    @property
    def checkpointing(self) -> bool:
        """Whether the trunk computes its blocks' activations again in the backward pass rather than keep them."""
        return bool(getattr(self.trunk, "checkpointing", False))

    @checkpointing.setter
    def checkpointing(self, value: bool) -> None:
        self.trunk.checkpointing = value  # type: ignore[assignment]  # torch's stub knows no plain attributes

    def forward(
        self, images_B3SS: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b c h w"], tuple[Float[Tensor, "b d h4 w4"], Float[Tensor, "b e h2 w2"]]]:
        """Return the image embedding, and the stages at strides 4 and 8, which `neck.fine` makes levels of."""
        stages: Stages = self.trunk(images_B3SS)
        at4, at8, at16, at32 = stages
        embedding = self.neck(at16, at32) + self.no_mem_embed
        return embedding.permute(0, 3, 1, 2), (at4.permute(0, 3, 1, 2), at8.permute(0, 3, 1, 2))
