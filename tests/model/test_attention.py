"""Attention with relative positions: every way of computing it, and a plain one written apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from anymask.model.attention import attend, attend_chunked, attend_folded, relative_positions, relative_terms

GRIDS = [(1, 1), (3, 5), (14, 14), (16, 9)]


def plain(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    bias = (rel_h[..., :, None] + rel_w[..., None, :]).flatten(-2)
    return (q @ k.mT * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


def operands(
    grid: tuple[int, int], batch: int = 2, heads: int = 3, dim: int = 8, seed: int | None = None
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(grid[0] if seed is None else seed)
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


def float32_error(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Bound what computing in float32 changes of each output.

    A logit is a sum of d products, scaled, and two terms: d + 3 roundings, each of at most the sum of all magnitudes.
    A weight is the exponential of the difference of two logits over a sum of such: four times a logit's error. The sums
    over the keys round once for each key, above and below the line. An output changes by the weighted |value|.
    """
    unit = torch.finfo(torch.float32).eps / 2
    products = q.abs() @ k.abs().mT * q.shape[-1] ** -0.5
    magnitude = products.max() + rel_h.abs().max() + rel_w.abs().max()
    relative = 4 * (q.shape[-1] + 3) * unit * magnitude + 2 * k.shape[-2] * unit
    return relative * plain(q, k, v.abs(), rel_h, rel_w)


@pytest.mark.parametrize("seed", range(4))
def test_in_bfloat16_the_logits_are_not_rounded(seed: int) -> None:
    halves = [4 * value.bfloat16() for value in operands((14, 14), seed=seed)]
    with torch.inference_mode():
        out = attend(*halves)
    assert out.dtype == torch.bfloat16
    doubles = [value.double() for value in halves]
    exact = plain(*doubles)
    half_last_place = torch.finfo(torch.bfloat16).eps / 2 * exact.abs()  # what is left: an output is rounded once
    bound = half_last_place + float32_error(*doubles)
    assert ((out - exact).abs() <= bound).all()
    coarse = attend_folded(*halves)  # rounds the scaled queries, and so the logits
    assert ((coarse - exact).abs() > bound).any()


def test_folded_in_bfloat16_only_the_weights_and_the_outputs_are_rounded() -> None:
    halves = [4 * value.bfloat16() for value in operands((14, 14), dim=16)]  # a scale of 1/4 rounds no query
    out = attend_folded(*halves)
    doubles = [value.double() for value in halves]
    exact = plain(*doubles)
    weighted = plain(*doubles[:2], doubles[2].abs(), *doubles[3:])
    unit = torch.finfo(torch.bfloat16).eps / 2
    bound = unit * (weighted + exact.abs()) * (1 + unit) + float32_error(*doubles)
    assert ((out - exact).abs() <= bound).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_attention_takes_the_folded_form(dtype: torch.dtype) -> None:
    values = [value.to("cuda", dtype) for value in operands((14, 14), heads=16, dim=80)]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out = attend_folded(*values)
    exact = plain(*(value.float() for value in values))
    torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.05)
