"""Attention with relative positions: every way of computing it, and a plain one written apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from anymask.model.attention import attend, attend_chunked, attend_folded, relative_positions, relative_terms
from anymask.model.dense import uses_onednn

GRIDS = [(1, 1), (3, 5), (14, 14), (16, 9)]


def plain(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    bias = (rel_h[..., :, None] + rel_w[..., None, :]).flatten(-2)
    return (q @ k.mT * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


def operands(grid: tuple[int, int], batch: int = 2, heads: int = 3, dim: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(grid[0])
    length = grid[0] * grid[1]
    q, k, v = (torch.randn(batch, heads, length, dim, generator=generator) for _ in range(3))
    rel_h, rel_w = (torch.randn(batch, heads, length, side, generator=generator) for side in grid)
    return [q, k, v, rel_h, rel_w]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
@pytest.mark.parametrize("way", [attend, attend_folded, attend_chunked])
def test_every_way_is_exact(
    way: type[attend], grid: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anymask.model.attention._CHUNK_ELEMENTS", chunk)
    values = operands(grid)
    torch.testing.assert_close(way(*values), plain(*values), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_plain_way() -> None:
    values = [value.requires_grad_() for value in operands((4, 6))]
    ours = torch.autograd.grad(attend(*values).square().sum(), values)
    theirs = torch.autograd.grad(plain(*values).square().sum(), values)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_operands_are_left_alone() -> None:
    values = operands((5, 5))
    copies = [value.clone() for value in values]
    attend_chunked(*values)
    assert all(torch.equal(value, copy) for value, copy in zip(values, copies, strict=True))


def test_relative_terms_pair_by_pair() -> None:
    height, width, dim = 3, 4, 5
    q = torch.randn(1, 2, height * width, dim)
    table_h, table_w = torch.randn(2 * height - 1, dim), torch.randn(2 * width - 1, dim)
    rel_h, rel_w = relative_terms(q, table_h, table_w, (height, width))
    for i in range(height * width):
        y, x = divmod(i, width)
        for key in range(height):
            torch.testing.assert_close(rel_h[0, :, i, key], q[0, :, i] @ table_h[y - key + height - 1])
        for key in range(width):
            torch.testing.assert_close(rel_w[0, :, i, key], q[0, :, i] @ table_w[x - key + width - 1])


def test_tables_of_another_size_keep_their_middle() -> None:
    table = torch.linspace(-3, 3, 13)[:, None]
    for size in (3, 7, 12):
        positions = relative_positions(table, size)
        assert positions.shape == (size, size, 1)
        torch.testing.assert_close(positions.diagonal()[0], torch.zeros(size))
        torch.testing.assert_close(positions, -positions.transpose(0, 1))


def test_in_bfloat16_the_logits_are_not_rounded() -> None:
    halves = [4 * value.bfloat16() for value in operands((14, 14))]
    with torch.inference_mode():
        out = attend(*halves)
    assert out.dtype == torch.bfloat16
    exact = plain(*(value.float() for value in halves))
    if uses_onednn(*halves):
        torch.testing.assert_close(out.float(), exact, rtol=2**-8, atol=1e-4)
    else:
        torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_attention_takes_the_folded_form(dtype: torch.dtype) -> None:
    values = [value.to("cuda", dtype) for value in operands((14, 14), heads=16, dim=80)]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out = attend_folded(*values)
    exact = plain(*(value.float() for value in values))
    torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.05)
