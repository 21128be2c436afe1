"""The tree of masks: parents by hand, and by whole masks on random scenes."""

from __future__ import annotations

import numpy as np
import pytest

from anymask.errors import InputError
from anymask.geometry import rle
from anymask.inference.automatic.tree import build_tree


def box(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = (60, 80)) -> rle.RLE:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return rle.encode(mask)


def test_a_house_its_door_and_its_handle() -> None:
    handle, house, door, tree = box(12, 32, 14, 34), box(5, 5, 40, 50), box(10, 20, 20, 50), box(50, 5, 70, 50)
    made = build_tree([handle, house, door, tree])
    assert made.parents.tolist() == [2, -1, 1, -1]
    assert made.levels.tolist() == [2, 0, 1, 0]
    assert made.children(-1) == [1, 3] and made.children(1) == [2] and made.children(0) == []


def test_the_share_decides() -> None:
    part, whole = box(0, 0, 10, 10), box(2, 0, 40, 10)  # 80 of 100 pixels inside
    assert build_tree([part, whole], containment=0.8).parents.tolist() == [1, -1]
    assert build_tree([part, whole], containment=0.81).parents.tolist() == [-1, -1]


def test_twins_hang_on_the_same_parent() -> None:
    one, other, around = box(10, 10, 30, 30), box(10, 10, 30, 31), box(0, 0, 60, 60)
    assert build_tree([one, other, around]).parents.tolist() == [2, 2, -1]
    assert build_tree([one, other, around], twin=1.0).parents.tolist() == [1, 2, -1]
    assert build_tree([one, one], twin=1.0).parents.tolist() == [-1, -1]  # never a circle


def test_no_masks_and_empty_masks() -> None:
    assert build_tree([]).parents.shape == (0,)
    assert build_tree([box(0, 0, 0, 0), box(0, 0, 5, 5)]).parents.tolist() == [-1, -1]


def test_against_whole_masks() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((300, 60, 80), bool)  # more than the 255 that pycocotools' area takes
    for mask in masks:
        (x0, y0), (width, height) = rng.integers(0, (70, 50)), rng.geometric(0.05, 2)
        mask[y0 : y0 + height, x0 : x0 + width] = rng.random(mask[y0 : y0 + height, x0 : x0 + width].shape) < 0.97
    made = build_tree(rle.encode_many(masks), containment=0.85, twin=0.7)
    areas = masks.sum((1, 2))
    for index, mask in enumerate(masks):
        inside = (masks & mask).sum((1, 2))
        holds = (inside >= 0.85 * areas[index]) & (areas[index] <= 0.7 * areas) & (areas[index] > 0)
        candidates = np.flatnonzero(holds)
        if not candidates.size:
            assert made.parents[index] == -1 and made.levels[index] == 0
            continue
        assert areas[made.parents[index]] == areas[candidates].min() and holds[made.parents[index]]
        assert made.levels[index] == made.levels[made.parents[index]] + 1
    assert made.levels.max() >= 2


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="containment is 0"):
        build_tree([], containment=0)
    with pytest.raises(InputError, match="sizes"):
        build_tree([box(0, 0, 1, 1), box(0, 0, 1, 1, (5, 5))])
