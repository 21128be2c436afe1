"""Attention with the image's projections folded into the tokens is attention as it is written in textbooks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from anymask.model.two_way import Attention

CELLS, TOKENS, WIDTH = 100, 7, 32


@pytest.fixture
def attention(randomise: Callable[[nn.Module], None]) -> Attention:
    built = Attention(WIDTH, 4, 2)
    randomise(built)
    return built.double()


def sides(images: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of three prompts about each of two images, an image side for each or for all, and its positions."""
    generator = torch.Generator().manual_seed(2)
    shapes = ((2, 3, TOKENS, WIDTH), (2, images, CELLS, WIDTH), (CELLS, WIDTH))
    tokens, image, positions = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return tokens.requires_grad_(), image.requires_grad_(), positions


def gradients(attention: Attention, answer: Tensor, *inputs: Tensor) -> list[Tensor]:
    weight = torch.linspace(-1, 1, answer.numel(), dtype=answer.dtype).view_as(answer)
    wanted = [*inputs, *attention.parameters()]
    found = torch.autograd.grad((answer * weight).sum(), wanted, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("way", ["read", "write", "write, some absent"])
def test_folded_and_plain_attention_agree_in_value_and_gradient(attention: Attention, images: int, way: str) -> None:
    tokens, image, positions = sides(images)
    present = None
    if "absent" in way:
        present = torch.rand(2, 3, TOKENS, generator=torch.Generator().manual_seed(3)) > 0.4
        present[..., 0] = True
    located = image + positions
    asked = (tokens, located, image) if way == "read" else (located, tokens, tokens * 0.5)
    folded = attention._read(*asked) if way == "read" else attention._write(*asked, present)
    plain = attention._attend(*asked, present)
    assert torch.allclose(folded, plain, rtol=1e-9, atol=1e-9)
    assert torch.equal(attention(*asked, present), folded)
    ours, expected = (gradients(attention, answer, tokens, image) for answer in (folded, plain))
    largest = max(float(g.abs().max()) for g in expected)
    for a, b in zip(ours, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-11 * largest)


def test_many_tokens_are_attended_to_in_the_plain_way(attention: Attention) -> None:
    tokens, image, _ = sides(1)
    many = tokens.repeat(1, 1, 5, 1)
    assert torch.equal(attention(many, image, image), attention._attend(many, image, image, None))
    assert torch.equal(attention(image, many, many), attention._attend(image, many, many, None))


def test_under_autocast_the_image_stays_in_bfloat16(attention: Attention) -> None:
    tokens, image, _ = sides(3)
    attention, tokens, image = attention.float(), tokens.float(), image.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert attention(image, tokens, tokens).dtype == torch.bfloat16
        assert attention(tokens, image, image).dtype == torch.bfloat16
