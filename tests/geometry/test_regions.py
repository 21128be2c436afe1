import numpy as np
import pytest

import pixel_regions
from anymask.geometry import regions


def drawn(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    assert pixel_regions.count(drawn("#..", ".#.", "..#")) == 1
    assert pixel_regions.count(drawn("#..", "...", "..#")) == 2


def test_labels_and_areas() -> None:
    labels, areas = regions.components(drawn("##.#", "...#", "...#"))
    assert sorted(areas.tolist()) == [2, 3]
    for i, area in enumerate(areas, start=1):
        assert (labels == i).sum() == area
    assert (labels == 0).sum() == 7


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 4), (1, 1)])
def test_empty_masks(shape: tuple[int, int]) -> None:
    empty = np.zeros(shape, bool)
    assert pixel_regions.count(empty) == 0
    assert not regions.largest_component(empty).any()
    assert regions.remove_small(empty, 10, "islands")[1] is False
    assert pixel_regions.clean(empty, 1)[0].shape == shape


def test_small_holes_are_filled_and_large_ones_kept() -> None:
    mask = drawn("########", "#.##..##", "####..##", "########")
    filled, changed = regions.remove_small(mask, 4, "holes")
    assert changed and filled.sum() == mask.sum() + 1 and filled[1, 1]
    assert regions.remove_small(mask, 1, "holes")[1] is False


def test_small_islands_go_and_the_largest_stays_whatever_its_size() -> None:
    mask = drawn("#....", "...##", ".....", "#....")
    without, changed = regions.remove_small(mask, 2, "islands")
    assert changed and without.sum() == 2
    largest, changed = regions.remove_small(mask, 100, "islands")
    assert changed
    np.testing.assert_array_equal(largest, without)
    np.testing.assert_array_equal(regions.largest_component(mask), without)


def test_a_lone_small_island_stays() -> None:
    mask = drawn("...", ".#.", "...")
    np.testing.assert_array_equal(regions.remove_small(mask, 5, "islands")[0], mask)


def test_clean_fills_holes_first() -> None:
    ring = drawn("......", ".###..", ".#.#..", ".###..", "......", ".....#")
    cleaned, changed = pixel_regions.clean(ring, 9)
    assert changed and cleaned.sum() == 9 and cleaned[2, 2] and not cleaned[5, 5]
    assert pixel_regions.clean(np.ones((3, 3), bool), 5)[1] is False


def test_non_contiguous_masks() -> None:
    mask = np.asfortranarray(drawn("#.#", "#.#"))
    assert pixel_regions.count(mask) == 2
    assert pixel_regions.count(mask[:, ::2]) == 1


def test_tidying_goes_by_shares_of_the_mask() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:25, 5:45] = True  # 800 pixels
    mask[10:14, 10:13] = False  # 12: a pinhole
    mask[15:20, 20:24] = False  # 20: a hole
    mask[30:38, 5:15] = True  # 80: a part
    mask[30:33, 50:60] = True  # 30: a crumb
    expected = mask.copy()
    expected[10:14, 10:13] = True
    clicked = expected.copy()
    expected[30:33, 50:60] = False
    assert (regions.tidy(mask, []) == expected).all()
    assert (regions.tidy(mask, [(10.0, 7.0), (0.0, 0.0), (99.0, 99.0)]) == expected).all()
    assert (regions.tidy(mask, [(59.9, 30.0)]) == clicked).all()


def test_what_is_open_to_the_outside_or_the_border_is_no_hole() -> None:
    mask = np.ones((40, 60), bool)
    mask[0, 0] = mask[39, 30] = False
    assert (regions.tidy(mask, []) == mask).all()
    assert not regions.tidy(np.zeros((3, 4), bool), [(1.0, 1.0)]).any()
