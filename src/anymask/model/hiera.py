"""Hiera, the trunk of SAM 2: four stages of attention in windows, each at half the resolution of the one before.

Queries are pooled where a stage begins; a few blocks of the third stage attend to everything. Positions are added
once: a small background stretched over the image, plus the positions in a window, repeated. Parameter names are those
of Meta's checkpoints. Sources: Hiera (Ryali et al. 2023), sec. 3; Bolya et al. 2023 (window attention and positions),
sec. 4; SAM 2 (Ravi et al. 2024), app. D.1.

Legend: B images or windows, H×W grid, C width, N heads, L cells, D channels per head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from anymask.model.attention import join_windows, self_attention, split_windows
from anymask.model.config import HieraConfig
from anymask.model.dense import MLP, Linear, by_rows, drop_path, in_strips
from anymask.model.pyramid import Stages

_STRIP = 1 << 18
"""Numbers of a block's input that are taken at a time on a CPU, whole rows of windows: 1 MiB, and 4 in the MLP."""


class HieraAttention(nn.Module):
    """Self-attention over a grid, whole or in windows, whose queries may be pooled 2×2."""

    def __init__(self, width: int, out_width: int, num_heads: int, window_size: int, *, pools: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.pools = pools
        self.qkv = Linear(width, 3 * out_width)
        self.proj = Linear(out_width, out_width)

    def forward(self, x_BHWC: Float[Tensor, "b h w c"]) -> Float[Tensor, "b p q o"]:
        """Attend; `window_size` 0 is global. Where queries are pooled, the grid comes back at half its size.

        Windows at the border are padded with zero inputs, as in the public weights' training, whose keys and values
        are the projection's bias.
        """
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        qkv = self.qkv(x_BHWC)
        if self.window_size:
            attended = self._attend(split_windows(qkv, self.window_size, self.qkv.bias))
            stride = 2 if self.pools else 1
            out = join_windows(attended, (grid[0] // stride, grid[1] // stride))
        else:
            out = self._attend(qkv)
        y: Tensor = self.proj(out)
        return y

    def _attend(self, qkv_BHWC: Tensor) -> Tensor:
        q, k, v = qkv_BHWC.chunk(3, -1)
        if self.pools:
            q = pooled(q)
        heads = [x.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v)]
        out = self_attention(*heads)
        return out.transpose(1, 2).reshape(q.shape)


class HieraMLP(MLP):
    """Two linear layers with GELU between, some rows of cells at a time on a CPU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, width, 2, activation="gelu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        return by_rows(super().forward, x)


class HieraBlock(nn.Module):
    """A pre-norm transformer block; the first of a stage also narrows the grid and widens the channels."""

    def __init__(
        self, width: int, out_width: int, num_heads: int, window_size: int, mlp_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        pools = width != out_width
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = HieraAttention(width, out_width, num_heads, window_size, pools=pools)
        self.norm2 = nn.LayerNorm(out_width, eps=1e-6)
        self.mlp = HieraMLP(out_width, int(out_width * mlp_ratio))
        self.proj = Linear(width, out_width) if pools else None
        self.drop_path = drop_path

    def forward(self, x_BHWC: Float[Tensor, "b h w c"]) -> Float[Tensor, "b p q o"]:
        """Map a grid to the block's output.

        On a CPU some rows of windows go through the whole block after the others, and stay in its cache.
        """
        window = self.attn.window_size
        if not window or not in_strips(x_BHWC):
            return self._map(x_BHWC)
        rows = window * max(1, _STRIP // (window * x_BHWC[:, 0].numel()))
        return torch.cat([self._map(strip) for strip in x_BHWC.split(rows, 1)], 1)

    def _map(self, x_BHWC: Tensor) -> Tensor:
        normed = self.norm1(x_BHWC)
        kept = x_BHWC if self.proj is None else pooled(self.proj(normed))
        x = kept + drop_path(self.attn(normed), self.drop_path, self.training)
        y: Tensor = x + drop_path(self.mlp(self.norm2(x)), self.drop_path, self.training)
        return y


class HieraPatchEmbedding(nn.Module):
    """Overlapping patches of 7×7 pixels at stride 4, projected."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 7, 4, 3)

    def forward(self, images_B3SS: Tensor) -> Tensor:
        """Map (b, 3, s, s) to (b, s/4, s/4, width)."""
        patches: Tensor = self.proj(images_B3SS.contiguous(memory_format=torch.channels_last))
        return patches.permute(0, 2, 3, 1)


class Hiera(nn.Module):
    """The trunk: what each of its four stages leaves of an image."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = HieraPatchEmbedding(config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, config.position_grid, config.position_grid))
        side = config.window_sizes[0]
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, side, side))
        self.blocks = nn.ModuleList(_blocks(config))
        self.checkpointing = False
        """Whether blocks compute their activations again in the backward pass rather than keep them."""

    def forward(self, images_B3SS: Float[Tensor, "b 3 s s"]) -> Stages:
        """Return the stages at strides 4, 8, 16 and 32, (b, h, w, c) each."""
        x = self.patch_embed(images_B3SS)
        x = x + self._positions(x.shape[1], x.shape[2]).to(x.dtype)
        ends = self.config.stage_ends
        stages: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            recomputed = self.checkpointing and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if recomputed else block(x)
            if i in ends:
                stages.append(x)
        at4, at8, at16, at32 = stages
        return at4, at8, at16, at32

    def _positions(self, height: int, width: int) -> Float[Tensor, "1 h w c"]:
        background = F.interpolate(self.pos_embed.float(), (height, width), mode="bicubic", align_corners=False)
        side = self.pos_embed_window.shape[-1]
        windows = self.pos_embed_window.float().tile(1, 1, -(-height // side), -(-width // side))
        return (background + windows[..., :height, :width]).permute(0, 2, 3, 1)


def pooled(x_BHWC: Float[Tensor, "b h w c"]) -> Float[Tensor, "b p q c"]:
    """Take the largest of each channel over 2×2 cells."""
    return F.max_pool2d(x_BHWC.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _blocks(config: HieraConfig) -> list[HieraBlock]:
    """Build the blocks of all stages; a stage's first block still has the windows of the stage before."""
    blocks: list[HieraBlock] = []
    depth = sum(config.depths)
    width, window = config.width, config.window_sizes[0]
    for stage, num_blocks in enumerate(config.depths):
        out_width, heads = config.width * 2**stage, config.num_heads * 2**stage
        for _ in range(num_blocks):
            index = len(blocks)
            rate = config.drop_path * index / max(1, depth - 1)
            side = 0 if index in config.global_blocks else window
            blocks.append(HieraBlock(width, out_width, heads, side, config.mlp_ratio, rate))
            width, window = out_width, config.window_sizes[stage]
    return blocks
