"""RepViT-M1, the trunk of EdgeTAM: convolutions of each channel, then of each cell, in four stages.

While it is trained, a channel's 3×3 kernel has a 1×1 kernel and the identity beside it, each with its own batch
normalisation; outside training the three are one kernel. Everything runs channels-last, as in TinyViT, of which the
normalised convolution is. Parameter names are those of EdgeTAM's checkpoint, which are timm's. Sources: RepViT (Wang et
al. 2023), sec. 3; EdgeTAM (Zhou et al. 2025), sec. 3.

Legend: B images, H×W grid, C channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from anymask.model.config import RepViTConfig
from anymask.model.dense import drop_path, product
from anymask.model.pyramid import Stages
from anymask.model.tiny_vit import ConvNorm


class TokenMixer(nn.Module):
    """A 3×3 convolution of each channel, beside it a 1×1 and the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, depthwise=True)
        self.conv1 = ConvNorm(width, width, 1, depthwise=True)

    def forward(self, x_BHWC: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """Mix the cells around each cell."""
        if self.training:
            mixed: Tensor = self.conv(x_BHWC) + self.conv1(x_BHWC) + x_BHWC
            return mixed
        weight, bias = self.conv.folded()
        middle, middle_bias = self.conv1.folded()
        weight = weight + F.pad(middle + 1, (1, 1, 1, 1))
        y = F.conv2d(x_BHWC.permute(0, 3, 1, 2), weight, bias + middle_bias, padding=1, groups=len(weight))
        return y.permute(0, 2, 3, 1)


class ChannelMixer(nn.Module):
    """Widen, activate, narrow: two 1×1 convolutions."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, width)
        nn.init.zeros_(self.conv2.bn.weight)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        y: Tensor = self.conv2(self.conv1(x_BHWC, "gelu"))
        return y


class SqueezeExcitation(nn.Module):
    """A factor for each channel, from the mean of all (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = max(8, (width // 4 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, width, 1)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Scale the channels of (b, h, w, c)."""
        squeezed = product(x_BHWC.mean((1, 2)), self.fc1.weight.flatten(1), self.fc1.bias, "relu")
        factors = product(squeezed, self.fc2.weight.flatten(1), self.fc2.bias).sigmoid()
        return x_BHWC * factors[:, None, None]


class Block(nn.Module):
    """Mix cells, weigh channels in every other block, mix channels."""

    def __init__(self, width: int, mlp_ratio: float, drop_path: float, *, excites: bool) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.token_mixer = TokenMixer(width)
        self.se = SqueezeExcitation(width) if excites else nn.Identity()
        self.channel_mixer = ChannelMixer(width, int(width * mlp_ratio))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        x = self.se(self.token_mixer(x_BHWC))
        y: Tensor = x + drop_path(self.channel_mixer(x), self.drop_path, self.training)
        return y


class RepViTDownsample(nn.Module):
    """From a stage's output to half the resolution and the next stage's width."""

    def __init__(self, width: int, out_width: int, mlp_ratio: float) -> None:
        super().__init__()
        self.pre_block = Block(width, mlp_ratio, 0.0, excites=False)
        self.spatial_downsample = ConvNorm(width, width, 3, 2, depthwise=True)
        self.channel_downsample = ConvNorm(width, out_width)
        self.ffn = ChannelMixer(out_width, int(out_width * mlp_ratio))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h/2, w/2, out_width)."""
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x_BHWC)))
        y: Tensor = x + self.ffn(x)
        return y


class RepViTStage(nn.Module):
    """Blocks of one resolution, behind the way down from the stage before."""

    def __init__(self, before: int | None, width: int, mlp_ratio: float, rates: list[float]) -> None:
        super().__init__()
        self.downsample = nn.Identity() if before is None else RepViTDownsample(before, width, mlp_ratio)
        self.blocks = nn.Sequential(
            *[Block(width, mlp_ratio, rate, excites=i % 2 == 0) for i, rate in enumerate(rates)]
        )

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map the stage before's output to this one's."""
        y: Tensor = self.blocks(self.downsample(x_BHWC))
        return y


class Stem(nn.Module):
    """Two strided convolutions, to stride 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width // 2, 3, 2)
        self.conv2 = ConvNorm(width // 2, width, 3, 2)

    def forward(self, images_BHW3: Tensor) -> Tensor:
        """Map (b, s, s, 3) to (b, s/4, s/4, width)."""
        x: Tensor = self.conv2(self.conv1(images_BHW3, "gelu"))
        return x


class RepViTBody(nn.Module):
    """The network without its classifier."""

    def __init__(self, config: RepViTConfig) -> None:
        super().__init__()
        self.stem = Stem(config.widths[0])
        before = (None, *config.widths)
        rates = torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").split(config.depths)
        for i, width in enumerate(config.widths):
            self.add_module(f"stages_{i}", RepViTStage(before[i], width, config.mlp_ratio, rates[i].tolist()))

    def stages(self) -> list[nn.Module]:
        """Return the stages in their order."""
        return [stage for name, stage in self.named_children() if name.startswith("stages_")]


class RepViT(nn.Module):
    """The trunk: what each of its four stages leaves of an image."""

    def __init__(self, config: RepViTConfig) -> None:
        super().__init__()
        self.config = config
        self.body = RepViTBody(config)
        self.checkpointing = False
        """Whether stages compute their activations again in the backward pass rather than keep them."""

    def forward(self, images_B3SS: Float[Tensor, "b 3 s s"]) -> Stages:
        """Return the stages at strides 4, 8, 16 and 32, (b, h, w, c) each."""
        x = self.body.stem(images_B3SS.permute(0, 2, 3, 1).contiguous())
        found: list[Tensor] = []
        for stage in self.body.stages():
            recomputed = self.checkpointing and torch.is_grad_enabled()
            x = checkpoint(stage, x, use_reentrant=False) if recomputed else stage(x)
            found.append(x)
        at4, at8, at16, at32 = found
        return at4, at8, at16, at32
