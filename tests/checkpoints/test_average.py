from __future__ import annotations

import copy

import pytest
import torch

from anymask.checkpoints import average_models
from anymask.errors import CheckpointError, InputError
from anymask.model import SIZES, Sam, build_sam


@pytest.fixture
def models() -> list[Sam]:
    first = build_sam(SIZES["smoke"]).eval()
    others = [copy.deepcopy(first) for _ in range(2)]
    for other, step in zip(others, (0.5, 1.0), strict=True):
        for parameter in other.parameters():
            parameter.data += step
    return [first, *others]


def test_each_parameter_is_the_mean_and_the_models_stay(models: list[Sam]) -> None:
    before = copy.deepcopy(models[0].state_dict())
    mean = average_models(models)
    for name, parameter in mean.named_parameters():
        torch.testing.assert_close(parameter.data, before[name] + 0.5)
    for name, tensor in models[0].state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert not mean.training


def test_models_of_another_kind_have_no_mean(models: list[Sam]) -> None:
    with pytest.raises(CheckpointError, match="model 2 has another configuration"):
        average_models([models[0], build_sam(SIZES["compact"])])
    with pytest.raises(InputError, match="mean of 1 models"):
        average_models(models[:1])
