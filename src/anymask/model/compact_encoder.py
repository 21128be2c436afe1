"""Our own image encoder for CPUs: convolutions where detail is, attention where meaning is.

A convolutional stem to stride 4, residual blocks of dense 3×3 convolutions at strides 4 and 8 (depthwise ones are
slower on a CPU, above all in training), a few blocks of attention and convolution at stride 16, and a merge of the
three to an embedding at stride 8. Batch normalisation after each convolution vanishes into it at inference. No
positional encoding: zero padding and convolutions tell positions apart, so that any input size serves.

Legend: B images, C channels, H×W cells, N heads, L = H·W.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model.attention import self_attention
from anymask.model.config import CompactConfig
from anymask.model.dense import LayerNorm2d, Linear, drop_path


class CompactConvNorm(nn.Sequential):
    """A 3×3 convolution and its batch normalisation, whose scale starts at `gain`."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1, gain: float = 1.0) -> None:
        conv = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
        norm = nn.BatchNorm2d(out_channels)
        nn.init.constant_(norm.weight, gain)
        super().__init__(conv, norm)


class CompactConvBlock(nn.Module):
    """Two 3×3 convolutions around a GELU, added to their input."""

    def __init__(self, channels: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = CompactConvNorm(channels, channels)
        self.conv2 = CompactConvNorm(channels, channels, gain=0.2)
        self.drop_path = drop_path

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h, w)."""
        y = self.conv2(F.gelu(self.conv1(x_BCHW)))
        return x_BCHW + drop_path(y, self.drop_path, self.training)


class CompactAttentionBlock(nn.Module):
    """Self-attention over all cells, then a `CompactConvBlock`."""

    def __init__(self, channels: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.qkv = Linear(channels, 3 * channels)
        self.proj = Linear(channels, channels)
        self.conv = CompactConvBlock(channels, drop_path)
        self.drop_path = drop_path

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c, h, w)."""
        height, width = x_BCHW.shape[-2:]
        x_BLC = x_BCHW.flatten(2).transpose(-2, -1)
        q, k, v = self.qkv(self.norm(x_BLC)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = self_attention(q, k, v).transpose(1, 2).flatten(2)
        x_BLC = x_BLC + drop_path(self.proj(attended), self.drop_path, self.training)
        x: Tensor = self.conv(x_BLC.transpose(-2, -1).unflatten(-1, (height, width)))
        return x


class CompactEncoder(nn.Module):
    """An image embedding at stride 8 from features at strides 4, 8 and 16."""

    def __init__(self, config: CompactConfig, out_channels: int) -> None:
        super().__init__()
        at2, at4, at8, at16 = config.widths
        num4, num8, num16 = config.depths
        rates = torch.linspace(0, config.drop_path, num4 + num8 + num16, device="cpu").tolist()
        self.stem = nn.Sequential(CompactConvNorm(3, at2, 2), nn.GELU(), CompactConvNorm(at2, at4, 2))
        self.stage4 = nn.Sequential(*[CompactConvBlock(at4, r) for r in rates[:num4]])
        self.down8 = CompactConvNorm(at4, at8, 2)
        self.stage8 = nn.Sequential(*[CompactConvBlock(at8, r) for r in rates[num4 : num4 + num8]])
        self.down16 = CompactConvNorm(at8, at16, 2)
        self.stage16 = nn.Sequential(*[CompactAttentionBlock(at16, config.num_heads, r) for r in rates[num4 + num8 :]])
        self.from4 = nn.Conv2d(at4, out_channels, 3, 2, 1)
        self.from8 = nn.Conv2d(at8, out_channels, 1)
        self.from16 = nn.Conv2d(at16, out_channels, 1)
        self.merge = nn.Sequential(nn.GELU(), nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False))
        self.norm = LayerNorm2d(out_channels)

    def forward(self, images_B3SS: Float[Tensor, "b 3 s s"]) -> tuple[Float[Tensor, "b c h w"], None]:
        """Return the image embedding, and nothing for SAM-HQ."""
        x4 = self.stage4(self.stem(images_B3SS.contiguous(memory_format=torch.channels_last)))
        x8 = self.stage8(self.down8(x4))
        x16 = self.stage16(self.down16(x8))
        coarse = F.interpolate(self.from16(x16), x8.shape[-2:], mode="bilinear", align_corners=False)
        merged = self.merge(self.from4(x4) + self.from8(x8) + coarse)
        return self.norm(merged), None
