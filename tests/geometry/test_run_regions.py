from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import pixel_regions
from anymask.errors import DataError
from anymask.geometry import regions, rle, run_regions


@pytest.mark.parametrize("min_area", [0, 1, 2, 5, 20, 1000])
def test_regions_in_runs_are_those_in_pixels(min_area: int) -> None:
    generator = np.random.default_rng(min_area)
    compared = 0
    for _ in range(150):
        mask = generator.random(generator.integers(1, 40, 2)) < generator.random()
        filled, _ = regions.remove_small(mask, min_area, "holes")
        areas = np.sort(regions.components(filled)[1])
        if areas.size > 1 and areas[-1] < min_area and areas[-1] == areas[-2]:
            continue  # which of several largest islands stays is another's choice
        expected, expected_change = pixel_regions.clean(mask, min_area)
        found, change = run_regions.clean(rle.encode(mask), min_area)
        assert found == rle.encode(expected)
        assert change == expected_change
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (6, 7)])
def test_full_and_empty_masks_stay(size: tuple[int, int]) -> None:
    for mask in (np.zeros(size, bool), np.ones(size, bool)):
        assert run_regions.clean(rle.encode(mask), 1) == (rle.encode(mask), False)


def test_of_several_largest_islands_the_leftmost_stays() -> None:
    mask = np.zeros((5, 9), bool)
    mask[4, 1:3] = mask[0, 5:7] = mask[3, 8] = True
    found, change = run_regions.clean(rle.encode(mask), 10)
    kept = np.zeros_like(mask)
    kept[4, 1:3] = True
    assert change
    assert_array_equal(rle.decode(found), kept)


def test_a_spiral_is_one_region() -> None:
    mask = np.zeros((41, 41), bool)
    low, high = 0, 40
    while low < high:
        mask[low, low : high + 1] = mask[low : high + 1, high] = mask[high, low : high + 1] = True
        mask[low + 2 : high + 1, low] = True
        mask[low + 2, low : low + 3] = True
        low, high = low + 2, high - 2
    assert pixel_regions.count(mask) == 1
    stored = rle.encode(mask)
    assert run_regions.clean(stored, int(mask.sum()))[0] == rle.encode(pixel_regions.clean(mask, int(mask.sum()))[0])


def test_a_malformed_mask_is_refused() -> None:
    with pytest.raises(DataError):
        run_regions.clean({"size": [4, 4], "counts": "zz"}, 3)
