import dataclasses

import pytest
import torch

import nested_samples
from anymask.evaluation.ambiguity import found, measure_ambiguity
from anymask.model import SIZES, build_sam


@pytest.mark.parametrize(
    ("order", "expected"),
    [((2, 0, 1), (True, True, True)), ((2, 2, 1), (False, True, True)), ((0, 0, 0), (True, False, False))],
)
def test_levels_are_matched_one_to_one(order: tuple[int, ...], expected: tuple[bool, ...]) -> None:
    masks = nested_samples.chain()
    assert found(masks, masks[list(order)], 0.5) == expected


def test_a_random_model_is_measured_and_finds_nothing() -> None:
    torch.manual_seed(0)
    model = build_sam(dataclasses.replace(SIZES["smoke"], image_size=64)).eval()
    result = measure_ambiguity(model, [nested_samples.sample(nested_samples.chain(), [0, 1, 2], [-1, 0, 1])])
    assert result.num_clicks == 1
    assert result.all_three == 0


def test_no_chains_give_zeros() -> None:
    model = build_sam(dataclasses.replace(SIZES["smoke"], image_size=64)).eval()
    result = measure_ambiguity(model, [nested_samples.sample(nested_samples.chain()[:1], [0], [-1])])
    assert result.num_clicks == 0
    assert result.all_three == 0
