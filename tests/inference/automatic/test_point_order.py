from __future__ import annotations

import numpy as np
import pytest

from anymask.geometry import points
from anymask.inference.automatic.point_order import SkipRule, coarse_to_fine


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 16, 32])
def test_levels_hold_every_point_once(side: int) -> None:
    grid = points.grid(side).astype(np.float64)
    levels = coarse_to_fine(grid)
    assert sorted(np.concatenate([level.points for level in levels]).tolist()) == list(range(side**2))
    assert [level.reach for level in levels] == sorted((level.reach for level in levels), reverse=True)


def test_levels_of_32_points_a_side_halve_the_distance() -> None:
    grid = points.grid(32).astype(np.float64)
    levels = coarse_to_fine(grid)
    assert [len(level.points) for level in levels] == [64, 192, 768]
    for depth, level in enumerate(levels[1:], 1):
        before = np.concatenate([level.points for level in levels[:depth]])
        apart = np.abs(grid[level.points][:, None] - grid[before]).max(axis=-1)
        assert (apart <= level.reach).any(axis=1).all()


def test_points_that_coincide_or_lie_anywhere_are_all_there() -> None:
    scattered = np.concatenate([np.random.default_rng(0).random((50, 2)), np.full((3, 2), 0.25), [[0, 0], [1, 1]]])
    levels = coarse_to_fine(scattered)
    assert sorted(np.concatenate([level.points for level in levels]).tolist()) == list(range(55))


def row(*inside: int) -> np.ndarray:
    mask = np.zeros((1, 7), bool)
    mask[0, list(inside)] = True
    return mask


@pytest.fixture
def line() -> np.ndarray:
    """Seven points from left to right."""
    return np.stack([(np.arange(7) + 0.5) / 7, np.full(7, 0.5)], axis=1)


def asks(skip_rule: SkipRule, *given: int, empty: bool = True) -> list[bool]:
    return (~skip_rule(np.array(given), 1.1 / 7, empty=empty)).tolist()


def test_a_mask_that_two_neighbours_give_foretells_the_point_between(line: np.ndarray) -> None:
    skip_rule = SkipRule(line)
    assert asks(skip_rule, 1) == [True]
    skip_rule.add(0, row(0, 1, 2), np.array([9]), borderline=True)
    assert asks(skip_rule, 1) == [True]
    skip_rule.add(2, row(0, 1, 2), np.array([9]), borderline=True)
    assert asks(skip_rule, 1, 3) == [False, True]


def test_a_gap_between_masks_is_asked_about(line: np.ndarray) -> None:
    skip_rule = SkipRule(line)
    for point in (0, 2):
        skip_rule.add(point, row(0, 2), np.array([9]), borderline=True)
    assert asks(skip_rule, 1) == [True]


def test_a_part_that_one_neighbour_alone_knows_is_asked_about(line: np.ndarray) -> None:
    whole, part = row(0, 1, 2, 3, 4), row(2, 3)
    skip_rule = SkipRule(line)
    skip_rule.add(0, whole, np.array([20]), borderline=True)
    skip_rule.add(2, np.concatenate([whole, part]), np.array([20, 5]), borderline=True)
    skip_rule.add(4, whole, np.array([20]), borderline=True)
    assert asks(skip_rule, 1, 3) == [True, True]
    skip_rule.add(3, np.concatenate([whole, part]), np.array([20, 5]), borderline=True)
    assert asks(skip_rule, 1) == [False]


def test_a_place_without_masks_is_skipped_where_allowed_and_nothing_came_near(line: np.ndarray) -> None:
    skip_rule = SkipRule(line)
    for point in (0, 2):
        skip_rule.add(point, np.zeros((0, 7), bool), np.zeros(0, np.int64), borderline=False)
    skip_rule.add(4, np.zeros((0, 7), bool), np.zeros(0, np.int64), borderline=True)
    assert asks(skip_rule, 1, 3) == [False, True]
    assert asks(skip_rule, 1, empty=False) == [True]
