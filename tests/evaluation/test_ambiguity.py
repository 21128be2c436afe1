import dataclasses

import numpy as np
import pytest
import torch

from anymask.data.sample import Sample
from anymask.evaluation.ambiguity import found, measure_ambiguity
from anymask.model import SIZES, build_sam


def _chain() -> np.ndarray:
    masks = np.zeros((3, 40, 40), bool)
    masks[0, 2:38, 2:38] = True
    masks[1, 5:25, 5:25] = True
    masks[2, 8:16, 8:16] = True
    return masks


def _sample(masks: np.ndarray, levels: list[int], parents: list[int]) -> Sample:
    return Sample(
        key="chain",
        image=np.full((*masks.shape[1:], 3), 90, np.uint8),
        masks=masks,
        levels=np.array(levels, np.int8),
        parents=np.array(parents, np.int64),
    )


@pytest.mark.parametrize(
    ("order", "expected"),
    [((2, 0, 1), (True, True, True)), ((2, 2, 1), (False, True, True)), ((0, 0, 0), (True, False, False))],
)
def test_levels_are_matched_one_to_one(order: tuple[int, ...], expected: tuple[bool, ...]) -> None:
    masks = _chain()
    assert found(masks, masks[list(order)], 0.5) == expected


def test_a_random_model_is_measured_and_finds_nothing() -> None:
    torch.manual_seed(0)
    model = build_sam(dataclasses.replace(SIZES["smoke"], image_size=64)).eval()
    result = measure_ambiguity(model, [_sample(_chain(), [0, 1, 2], [-1, 0, 1])])
    assert result.num_clicks == 1
    assert result.all_three == 0


def test_no_chains_give_zeros() -> None:
    model = build_sam(dataclasses.replace(SIZES["smoke"], image_size=64)).eval()
    result = measure_ambiguity(model, [_sample(_chain()[:1], [0], [-1])])
    assert result.num_clicks == 0
    assert result.all_three == 0
