"""A model's own masks as training data: sure ones, within the picture."""

from __future__ import annotations

import numpy as np
import pytest

import anymask
from anymask.training.sources import MAX_SIDES, OwnMasks, touched_sides


def test_sides_are_counted() -> None:
    masks = np.zeros((5, 8, 6), bool)
    masks[0, 2:4, 2:4] = True
    masks[1, 0, 2:4] = True
    masks[2, 3:, :2] = True
    masks[3, :, 2] = True
    masks[4] = True
    assert touched_sides(masks).tolist() == [0, 1, 2, 2, 4]
    assert touched_sides(masks[:0]).shape == (0,)


def test_a_thing_is_found_and_its_ground_is_not() -> None:
    image = np.full((160, 200, 3), 60, np.uint8)
    rows, columns = np.ogrid[:160, :200]
    disc = (rows - 80) ** 2 + (columns - 110) ** 2 < 45**2
    image[disc] = (230, 80, 40)
    masks = OwnMasks(anymask.load("anymask-s"), min_iou=0.4, min_stability=0.7, points_per_side=8)(image)
    assert masks.shape[1:] == image.shape[:2]
    assert (touched_sides(masks) <= MAX_SIDES).all()
    shared = (masks & disc).sum((1, 2)) / (masks | disc).sum((1, 2))
    assert shared.max() > 0.8


@pytest.mark.parametrize("size", [(1, 40), (33, 20)])
def test_nothing_is_found_in_black(size: tuple[int, int]) -> None:
    masks = OwnMasks(anymask.load("anymask-s"), min_iou=0.99, points_per_side=2)(np.zeros((*size, 3), np.uint8))
    assert masks.shape == (0, *size)
