"""Dense layers against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from anymask.model.dense import LayerNorm2d, Linear, drop_path, product, uses_onednn

ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}


@pytest.mark.parametrize("shape", [(1, 7), (63, 7), (64, 7), (2, 5, 40, 16), (0, 7), (3, 0, 7)])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_product(shape: tuple[int, ...], activation: str, with_bias: bool, grad: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    weight = torch.randn(11, shape[-1], generator=generator, requires_grad=grad)
    bias = torch.randn(11, generator=generator) if with_bias else None
    expected = ACTIVATIONS[activation](F.linear(x, weight, bias))
    y = product(x, weight, bias, activation)
    assert y.requires_grad == grad
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_product_of_views_that_are_not_contiguous() -> None:
    x, weight = torch.randn(9, 80, 2).permute(2, 1, 0), torch.randn(9, 5).T
    torch.testing.assert_close(product(x, weight), x @ weight.T, rtol=1e-5, atol=1e-5)


def test_onednn_is_kept_for_float32_without_gradients() -> None:
    x, weight = torch.randn(100, 8), torch.randn(8, 8, requires_grad=True)
    assert not uses_onednn(x, weight)
    assert not uses_onednn(x.half())
    assert not uses_onednn(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses_onednn(x)


def test_linear_loads_and_trains_as_torchs() -> None:
    ours, theirs = Linear(6, 4), torch.nn.Linear(6, 4)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(70, 6)
    ours(x).sum().backward()
    theirs(x).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_layer_norm_is_over_channels() -> None:
    norm = LayerNorm2d(5)
    torch.nn.init.normal_(norm.weight)
    x = 4 + 3 * torch.randn(2, 5, 3, 6)
    centred = x - x.mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt() * norm.weight[:, None, None]
    torch.testing.assert_close(norm(x), expected)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 3, 2)
    y = drop_path(x, 0.25, training=True)
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert torch.equal(y.amax((1, 2)), y.amin((1, 2)))
    assert abs(float(y.mean()) - 1) < 0.05
    assert drop_path(x, 0.25, training=False) is x


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("rows", [3, 100])
def test_product_in_bfloat16_rounds_its_result_once(activation: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(n, 48, generator=generator).bfloat16() for n in (rows, 11))
    bias = torch.randn(11, generator=generator).bfloat16()
    y = product(x, weight, bias, activation)
    assert y.dtype == torch.bfloat16
    exact = ACTIVATIONS[activation](F.linear(x.double(), weight.double(), bias.double()))
    torch.testing.assert_close(y.double(), exact, rtol=2**-7, atol=2**-6)


def test_onednn_is_kept_for_operands_of_one_type() -> None:
    x = torch.randn(100, 8)
    assert not uses_onednn(x, x.bfloat16())
    assert not uses_onednn(x.bfloat16(), x)
