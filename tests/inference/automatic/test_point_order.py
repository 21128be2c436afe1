from __future__ import annotations

import numpy as np
import pytest

from anymask.geometry import points
from anymask.inference.automatic.point_order import Foretold, coarse_to_fine


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


def asks(foretold: Foretold, *given: int, blank: bool = True) -> list[bool]:
    return (~foretold(np.array(given), 1.1 / 7, blank=blank)).tolist()


def test_a_mask_that_two_neighbours_give_foretells_the_point_between(line: np.ndarray) -> None:
    foretold = Foretold(line)
    assert asks(foretold, 1) == [True]
    foretold.add(0, row(0, 1, 2), np.array([9]), near=True)
    assert asks(foretold, 1) == [True]
    foretold.add(2, row(0, 1, 2), np.array([9]), near=True)
    assert asks(foretold, 1, 3) == [False, True]


def test_a_gap_between_masks_is_asked_about(line: np.ndarray) -> None:
    foretold = Foretold(line)
    for point in (0, 2):
        foretold.add(point, row(0, 2), np.array([9]), near=True)
    assert asks(foretold, 1) == [True]


def test_a_part_that_one_neighbour_alone_knows_is_asked_about(line: np.ndarray) -> None:
    whole, part = row(0, 1, 2, 3, 4), row(2, 3)
    foretold = Foretold(line)
    foretold.add(0, whole, np.array([20]), near=True)
    foretold.add(2, np.concatenate([whole, part]), np.array([20, 5]), near=True)
    foretold.add(4, whole, np.array([20]), near=True)
    assert asks(foretold, 1, 3) == [True, True]
    foretold.add(3, np.concatenate([whole, part]), np.array([20, 5]), near=True)
    assert asks(foretold, 1) == [False]


def test_a_place_without_masks_is_skipped_where_allowed_and_nothing_came_near(line: np.ndarray) -> None:
    foretold = Foretold(line)
    for point in (0, 2):
        foretold.add(point, np.zeros((0, 7), bool), np.zeros(0, np.int64), near=False)
    foretold.add(4, np.zeros((0, 7), bool), np.zeros(0, np.int64), near=True)
    assert asks(foretold, 1, 3) == [False, True]
    assert asks(foretold, 1, blank=False) == [True]
