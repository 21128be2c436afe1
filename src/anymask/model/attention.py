"""Attention with decomposed relative positions, in which no N×N bias ever exists whole; and windows of a grid.

Legend: B images or windows, S side of a window, n = ceil(H/S) · ceil(W/S) windows per image, N heads, L = H·W queries
and keys, D channels per head.

The logits of query i and key (y, x) are `q·k·scale + rel_h[i, y] + rel_w[i, x]` (SAM, app. A; MViTv2, sec. 4).
Two exact ways to add the two relative terms:

- folded: as `[q·scale, rel_h, rel_w] · [k, onehot(y), onehot(x)]`, so that any fused attention kernel serves, with
  gradients and on any device. On CUDA that is FlashAttention, which takes no bias but heads of up to 256 channels:
  ViT-H's have 208 in global attention. The longer products cost it about a tenth of an encoder's time; an N×L×L bias
  instead would be 0.5 GiB per image in bfloat16;
- chunked: a few heads and query rows at a time, added in place to logits that stay in the cache; this is the fast one
  on a CPU where no gradient is wanted. It computes in float32, whatever the processor's instructions: bfloat16 logits
  are slower, and coarse.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from anymask.model.dense import product, runs_on_cpu_without_gradient

_CHUNK_ELEMENTS = 1 << 20
"""Logits held at a time by `attend_chunked`: 4 MiB of float32."""

_HEAD_MULTIPLE = 8
"""Channels of a head that CUDA's fused kernels take; torch would pad others itself, with three more copies."""


def self_attention(
    q: Float[Tensor, "b n l d"], k: Float[Tensor, "b n l d"], v: Float[Tensor, "b n l d"]
) -> Float[Tensor, "b n l d"]:
    """Attend; written out for bfloat16 on a CPU, where the fused kernel is several times slower."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        logits: Tensor = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
        return logits.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def relative_positions(table: Float[Tensor, "s d"], size: int) -> Float[Tensor, "size size d"]:
    """Return the embedding of every (query, key) offset along one axis, interpolating a table of another size.

    `table` has one row for each offset from -(n-1) to n-1 of the n positions it was made for.
    """
    offsets = 2 * size - 1
    if table.shape[0] != offsets:
        rows = table.float().T[None]
        table = F.interpolate(rows, size=offsets, mode="linear")[0].T.to(table.dtype)
    position = torch.arange(size, device=table.device)
    return table[position[:, None] - position[None, :] + size - 1]


def relative_terms(
    q: Float[Tensor, "b n l d"],
    table_h: Float[Tensor, "s d"],
    table_w: Float[Tensor, "t d"],
    grid: tuple[int, int],
) -> tuple[Float[Tensor, "b n l h"], Float[Tensor, "b n l w"]]:
    """Return each query's logit towards each key row and each key column of the grid."""
    height, width = grid
    q_BNHWD = q.unflatten(2, grid)
    rel_h = q_BNHWD @ relative_positions(table_h, height).to(q.dtype).transpose(-2, -1)
    by_column = q_BNHWD.transpose(2, 3) @ relative_positions(table_w, width).to(q.dtype).transpose(-2, -1)
    return rel_h.flatten(2, 3), by_column.transpose(2, 3).flatten(2, 3)


def attend(
    q: Float[Tensor, "b n l d"],
    k: Float[Tensor, "b n l d"],
    v: Float[Tensor, "b n l d"],
    rel_h: Float[Tensor, "b n l h"],
    rel_w: Float[Tensor, "b n l w"],
) -> Float[Tensor, "b n l d"]:
    """Attend over an h×w grid of keys with decomposed relative positions, by the faster exact way."""
    if q.dtype in (torch.float32, torch.bfloat16) and runs_on_cpu_without_gradient(q, k, v, rel_h, rel_w):
        out = attend_chunked(q.float(), k.float(), v.float(), rel_h.float(), rel_w.float())
        return out.to(q.dtype)
    return attend_folded(q, k, v, rel_h, rel_w)


def attend_folded(
    q: Float[Tensor, "b n l d"],
    k: Float[Tensor, "b n l d"],
    v: Float[Tensor, "b n l d"],
    rel_h: Float[Tensor, "b n l h"],
    rel_w: Float[Tensor, "b n l w"],
) -> Float[Tensor, "b n l d"]:
    """Attend with the relative terms folded into the product of longer queries and keys."""
    height, width, dim = rel_h.shape[-1], rel_w.shape[-1], q.shape[-1]
    filler = -(dim + height + width) % _HEAD_MULTIPLE
    rows = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, 0)
    columns = torch.eye(width, width + filler, dtype=k.dtype, device=k.device).repeat(height, 1)
    onehot = torch.cat([rows, columns], -1).expand(*k.shape[:2], -1, -1)
    long_q = torch.cat([q * dim**-0.5, rel_h, rel_w, q.new_zeros(*q.shape[:3], filler)], -1)
    long_k = torch.cat([k, onehot], -1)
    long_v = F.pad(v, (0, height + width + filler))  # fused kernels want heads of one length
    return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :dim]


def attend_chunked(
    q: Float[Tensor, "b n l d"],
    k: Float[Tensor, "b n l d"],
    v: Float[Tensor, "b n l d"],
    rel_h: Float[Tensor, "b n l h"],
    rel_w: Float[Tensor, "b n l w"],
) -> Float[Tensor, "b n l d"]:
    """Attend a chunk of query rows at a time, with the logits in the cache; no gradients."""
    batch, heads, length, dim = q.shape
    height, width = rel_h.shape[-1], rel_w.shape[-1]
    if length * length * heads <= _CHUNK_ELEMENTS:
        return _attend_windows(q, k, v, rel_h, rel_w)
    out = torch.empty_like(q)
    step = max(1, _CHUNK_ELEMENTS // length)
    for b in range(batch):
        for n in range(heads):
            keys = (k[b, n] * dim**-0.5).contiguous()
            values_t = v[b, n].T.contiguous()
            for start in range(0, length, step):
                rows = slice(start, start + step)
                logits = product(q[b, n, rows].contiguous(), keys)
                grid = logits.view(-1, height, width)
                grid += rel_h[b, n, rows, :, None]
                grid += rel_w[b, n, rows, None, :]
                torch.softmax(logits, -1, out=logits)
                out[b, n, rows] = product(logits, values_t)
    return out


def _attend_windows(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    batch, heads, length, dim = q.shape
    out = torch.empty_like(q)
    step = max(1, _CHUNK_ELEMENTS // (length * length * heads))
    for start in range(0, batch, step):
        part = slice(start, start + step)
        logits = (q[part] * dim**-0.5) @ k[part].transpose(-1, -2)
        grid = logits.unflatten(-1, (rel_h.shape[-1], rel_w.shape[-1]))
        grid += rel_h[part].unsqueeze(-1)
        grid += rel_w[part].unsqueeze(-2)
        out[part] = torch.softmax(logits, -1) @ v[part]
    return out


def split_windows(
    x: Float[Tensor, "b h w c"], side: int, filler: Float[Tensor, " c"]
) -> Float[Tensor, "b*n side side c"]:
    """Cut a grid into windows, row by row; cells that windows have beyond the grid hold `filler`."""
    batch, height, width, _ = x.shape
    rows, columns = -(-height // side), -(-width // side)
    if (rows * side, columns * side) != (height, width):
        whole = filler.to(x.dtype).expand(batch, rows * side, columns * side, -1).clone()
        whole[:, :height, :width] = x
        x = whole
    windows: Tensor = x.unflatten(2, (columns, side)).unflatten(1, (rows, side)).transpose(2, 3)
    return windows.reshape(-1, side, side, x.shape[-1])


def join_windows(windows: Float[Tensor, "b*n side side c"], grid: tuple[int, int]) -> Float[Tensor, "b h w c"]:
    """Undo `split_windows` for a grid of (height, width), dropping the cells beyond it."""
    side, (height, width) = windows.shape[1], grid
    rows, columns = -(-height // side), -(-width // side)
    whole: Tensor = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return whole[:, :height, :width]
