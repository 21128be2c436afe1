"""TinyViT, the small image encoder of MobileSAM, with the parameter names of its published checkpoint.

Four stages: inverted-bottleneck convolutions at stride 4, then windowed attention at strides 8, 16 and 16. Sources:
TinyViT (Wu et al. 2022), sec. 3; MobileSAM (Zhang et al. 2023), which keeps the stride of 16 in the last stage and
adds SAM's neck.

Everything runs channels-last: a 1×1 convolution is then a matrix product, and outside training every batch
normalisation is folded into the convolution before it.

Legend: B images or windows, H×W grid, C channels, N heads, L cells of a window, D channels per head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model.attention import join_windows, split_windows
from anymask.model.config import TinyViTConfig
from anymask.model.dense import Activation, Linear, drop_path, product
from anymask.model.image_encoder import Neck

_EARLY_STAGE = 1  # whose output SAM-HQ's light model takes as early features


class ConvNorm(nn.Module):
    """A convolution and its batch normalisation."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False
    ) -> None:
        super().__init__()
        groups = channels if depthwise else 1
        self.c = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x_BHWC: Float[Tensor, "b h w c"], activation: Activation = "none") -> Float[Tensor, "b p q o"]:
        """Convolve, normalise and activate, channels last."""
        x_BCHW = x_BHWC.permute(0, 3, 1, 2)
        if self.training:
            y = self.bn(self.c(x_BCHW))
        else:
            weight, bias = self.folded()
            if weight.shape[-1] == 1:
                return product(x_BHWC, weight.flatten(1), bias, activation)
            y = F.conv2d(x_BCHW, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)
        y = y.permute(0, 2, 3, 1)
        return F.gelu(y) if activation == "gelu" else y

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return kernel and bias of the convolution that, outside training, does what the two do."""
        mean, variance = self.bn.running_mean, self.bn.running_var
        assert mean is not None and variance is not None
        scale = self.bn.weight * (variance + self.bn.eps).rsqrt()
        return self.c.weight * scale[:, None, None, None], self.bn.bias - mean * scale


class ConvBlock(nn.Module):
    """An inverted bottleneck: widen, convolve each channel, narrow, add."""

    def __init__(self, width: int, expand_ratio: float, drop_path: float) -> None:
        super().__init__()
        hidden = int(width * expand_ratio)
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, depthwise=True)
        self.conv3 = ConvNorm(hidden, width)
        nn.init.zeros_(self.conv3.bn.weight)
        self.drop_path = drop_path

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        y = self.conv3(self.conv2(self.conv1(x_BHWC, "gelu"), "gelu"))
        return F.gelu(x_BHWC + drop_path(y, self.drop_path, self.training))


class WindowAttention(nn.Module):
    """Self-attention in windows, with a learned bias for each absolute offset between two cells."""

    def __init__(self, width: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.norm = nn.LayerNorm(width)
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c).

        Border windows are padded with zeros before the normalisation, as in the public weights' training, so that every
        padding cell has the same query, key and value: the projection of the normalisation's bias.
        """
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        filler = self.qkv(self.norm.bias)
        windows = split_windows(self.qkv(self.norm(x_BHWC)), self.window_size, filler)
        qkv = windows.flatten(1, 2).unflatten(-1, (self.num_heads, 3, -1))
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        bias = self.attention_biases[:, self._offsets()].to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        side = self.window_size
        joined = join_windows(out.transpose(1, 2).flatten(2).unflatten(1, (side, side)), grid)
        y: Tensor = self.proj(joined)
        return y

    def _offsets(self) -> Int[Tensor, "l l"]:
        """Return each pair's index among the biases, which the checkpoint orders by (|dy|, |dx|)."""
        cells = torch.arange(self.window_size**2, device=self.attention_biases.device)
        y, x = cells // self.window_size, cells % self.window_size
        return (y[:, None] - y).abs() * self.window_size + (x[:, None] - x).abs()


class NormMLP(nn.Module):
    """Normalisation, then two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        y: Tensor = self.fc2(self.fc1(self.norm(x), "gelu"))
        return y


class AttentionBlock(nn.Module):
    """Windowed attention, a depthwise convolution across the windows' borders, an MLP."""

    def __init__(self, width: int, num_heads: int, window_size: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.attn = WindowAttention(width, num_heads, window_size)
        self.local_conv = ConvNorm(width, width, 3, depthwise=True)
        self.mlp = NormMLP(width, int(width * mlp_ratio))
        self.drop_path = drop_path

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        x = x_BHWC + drop_path(self.attn(x_BHWC), self.drop_path, self.training)
        x = self.local_conv(x)
        y: Tensor = x + drop_path(self.mlp(x), self.drop_path, self.training)
        return y


class TinyDownsample(nn.Module):
    """Three convolutions from one stage's width to the next's, the middle one strided."""

    def __init__(self, width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, out_width)
        self.conv2 = ConvNorm(out_width, out_width, 3, stride, depthwise=True)
        self.conv3 = ConvNorm(out_width, out_width)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h/stride, w/stride, out_width)."""
        y: Tensor = self.conv3(self.conv2(self.conv1(x_BHWC, "gelu"), "gelu"))
        return y


class TinyStage(nn.Module):
    """Blocks of one width, then the way down to the next stage, if there is one."""

    def __init__(self, blocks: list[nn.Module], downsample: TinyDownsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to the next stage's input."""
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        return x_BHWC if self.downsample is None else self.downsample(x_BHWC)


class TinyPatchEmbedding(nn.Module):
    """Two strided convolutions, to stride 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.ModuleList([ConvNorm(3, width // 2, 3, 2), nn.Identity(), ConvNorm(width // 2, width, 3, 2)])

    def forward(self, images_BHW3: Tensor) -> Tensor:
        """Map (b, s, s, 3) to (b, s/4, s/4, width)."""
        x: Tensor = self.seq[2](self.seq[0](images_BHW3, "gelu"))
        return x


class TinyViTEncoder(nn.Module):
    """MobileSAM's encoder: an image embedding at stride 16. The classifier of its pre-training is left out."""

    def __init__(self, config: TinyViTConfig, out_channels: int) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = TinyPatchEmbedding(config.widths[0])
        self.layers = nn.ModuleList(_stage(config, i) for i in range(len(config.widths)))
        self.neck = Neck(config.widths[-1], out_channels)

    def forward(
        self, images_B3SS: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b h w e"]]:
        """Return the image embedding, and the second stage's output (for SAM-HQ)."""
        x = self.patch_embed(images_B3SS.permute(0, 2, 3, 1).contiguous())
        early = x
        for i, stage in enumerate(self.layers):
            x = stage(x)
            if i == _EARLY_STAGE:
                early = x
        return self.neck(x.permute(0, 3, 1, 2)), early


def _stage(config: TinyViTConfig, index: int) -> TinyStage:
    width, depth, last = config.widths[index], config.depths[index], len(config.widths) - 1
    before, total = sum(config.depths[:index]), sum(config.depths)
    rates = [config.drop_path * (before + i) / max(1, total - 1) for i in range(depth)]
    blocks: list[nn.Module]
    if index == 0:
        blocks = [ConvBlock(width, config.conv_expand_ratio, rate) for rate in rates]
    else:
        heads, window = config.num_heads[index], config.window_sizes[index]
        blocks = [AttentionBlock(width, heads, window, config.mlp_ratio, rate) for rate in rates]
    if index == last:
        return TinyStage(blocks, None)
    stride = 1 if index == last - 1 else 2
    return TinyStage(blocks, TinyDownsample(width, config.widths[index + 1], stride))
