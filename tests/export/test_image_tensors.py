from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anymask.export.parts import image_tensors
from anymask.model import Embedding, Prompts, Sam
from anymask.model.embedding import flatten, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    keys: Tensor
    many: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    cells: Tensor
    inner: Inner
    size: int = 3


def outer() -> Outer:
    return Outer(cells=torch.ones(1), inner=Inner(keys=torch.ones(2), many=(torch.ones(3), torch.ones(4))))


def test_tensors_are_named_by_their_path() -> None:
    named = {name: len(tensor) for name, tensor in flatten(outer()).items()}
    assert named == {"cells": 1, "inner_keys": 2, "inner_many_0": 3, "inner_many_1": 4}


def test_named_tensors_are_put_in_their_place_and_the_rest_stays() -> None:
    before, fresh = outer(), torch.zeros(4)
    after = replace(before, {"inner_many_1": fresh})
    assert after.inner.many[1] is fresh
    assert after.cells is before.cells and after.inner.many[0] is before.inner.many[0]
    assert isinstance(after, Outer) and after.size == 3


def test_what_depends_on_the_image_is_told_from_what_does_not(stirred: Sam) -> None:
    """Moving all that is the image's from one prepared embedding to another moves its answers."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        first, second = (
            stirred.prepare(Embedding(features=torch.randn(1, 64, 16, 16, generator=generator))) for _ in range(2)
        )
        tensors = image_tensors(stirred, first)
        assert 0 < len(tensors) < len(flatten(first.side))
        moved = Embedding(features=second.features, side=replace(second.side, tensors))
        prompts = Prompts.build(points=torch.tensor([[[[40.0, 30.0]]]]), labels=torch.tensor([[[1]]]))
        wanted, found, other = (stirred.decode(one, prompts)[0] for one in (first, moved, second))
    assert torch.equal(found, wanted)
    assert not torch.equal(other, wanted)
