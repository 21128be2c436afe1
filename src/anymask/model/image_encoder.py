"""The ViT image encoder: windowed attention, a few global blocks, relative positions, and a convolutional neck.

Legend: B images, H×W patch grid, C width, N heads, D channels per head. Source: SAM, sec. 3 and app. A.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from anymask.model.attention import attend, join_windows, relative_terms, split_windows
from anymask.model.config import ViTConfig
from anymask.model.dense import LayerNorm2d, Linear, by_rows, drop_path, in_strips


class ViTAttention(nn.Module):
    """Multi-head self-attention over a grid, whole or in windows, with relative positions."""

    def __init__(self, width: int, num_heads: int, grid: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        side = window_size or grid
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // num_heads))

    def forward(self, x_BHWC: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """Attend; `window_size` 0 is global.

        Windows at the border are padded with zero *inputs*, as in the public weights' training. The keys and values
        of padding are then the projection's bias, so that padding costs no projection.
        """
        if not self.window_size:
            out = self._attend(self.qkv(x_BHWC))
        elif in_strips(x_BHWC):
            out = torch.cat([self._attend_windows(strip) for strip in x_BHWC.split(self.window_size, 1)], 1)
        else:
            out = self._attend_windows(x_BHWC)
        y: Tensor = self.proj(out)
        return y

    def _attend_windows(self, x_BHWC: Tensor) -> Tensor:
        height, width = x_BHWC.shape[1:3]
        windows = self._attend(split_windows(self.qkv(x_BHWC), self.window_size, self.qkv.bias))
        return join_windows(windows, (height, width))

    def _attend(self, qkv_BHWC: Tensor) -> Tensor:
        batch, height, width, _ = qkv_BHWC.shape
        qkv = qkv_BHWC.reshape(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        rel_h, rel_w = relative_terms(q, self.rel_pos_h, self.rel_pos_w, (height, width))
        out = attend(q, k, v, rel_h, rel_w)
        return out.transpose(1, 2).reshape(batch, height, width, -1)


class ViTMLP(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = Linear(width, hidden)
        self.lin2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        return by_rows(self._map, x)

    def _map(self, x: Tensor) -> Tensor:
        y: Tensor = self.lin2(self.lin1(x, "gelu"))
        return y


class ViTBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: ViTConfig, index: int) -> None:
        super().__init__()
        window = 0 if index in config.global_blocks else config.window_size
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = ViTAttention(config.width, config.num_heads, config.position_grid, window)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = ViTMLP(config.width, int(config.width * config.mlp_ratio))
        self.drop_path = config.drop_path * index / max(1, config.depth - 1)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        x = x_BHWC + drop_path(self.attn(self.norm1(x_BHWC)), self.drop_path, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop_path, self.training)


class PatchEmbedding(nn.Module):
    """Non-overlapping patches, projected."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, images_B3SS: Tensor) -> Tensor:
        """Map (b, 3, s, s) to (b, s/patch, s/patch, width)."""
        patches: Tensor = self.proj(images_B3SS)
        return patches.permute(0, 2, 3, 1).contiguous()


class Neck(nn.Sequential):
    """A 1×1 and a 3×3 convolution, each normalised: an encoder's width to the image embedding's."""

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(width, out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )


class ImageEncoderViT(nn.Module):
    """A ViT whose output is the image embedding, stride 16."""

    def __init__(self, config: ViTConfig, out_channels: int) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.patch_size, config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.position_grid, config.position_grid, config.width))
        self.blocks = nn.ModuleList(ViTBlock(config, i) for i in range(config.depth))
        self.neck = Neck(config.width, out_channels)
        self.checkpointing = False
        """Whether blocks compute their activations again in the backward pass rather than keep them."""

    def forward(
        self, images_B3SS: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b h w e"]]:
        """Return the image embedding, and the patch features after the first global block (for SAM-HQ)."""
        x = self.patch_embed(images_B3SS)
        x = x + self._positions(x.shape[1], x.shape[2]).to(x.dtype)
        early = x
        for i, block in enumerate(self.blocks):
            recomputed = self.checkpointing and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if recomputed else block(x)
            if i == min(self.config.global_blocks, default=0):
                early = x
        return self.neck(x.permute(0, 3, 1, 2)), early

    def _positions(self, height: int, width: int) -> Tensor:
        if self.pos_embed.shape[1:3] == (height, width):
            return self.pos_embed
        stored = self.pos_embed.permute(0, 3, 1, 2).float()
        resized = F.interpolate(stored, (height, width), mode="bicubic", antialias=True, align_corners=False)
        return resized.permute(0, 2, 3, 1)
