import numpy as np
import pytest

from anymask.errors import InputError
from anymask.geometry import points


def test_a_grid_is_at_the_cells_centres() -> None:
    assert points.grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert points.grid(1).tolist() == [[0.5, 0.5]]
    assert points.grid(32).dtype == np.float32
    with pytest.raises(InputError, match="1 or more"):
        points.grid(0)


def test_layers_never_run_out_of_points() -> None:
    assert [len(grid) for grid in points.layer_grids(4, 3, 2)] == [16, 4, 1, 1]
    assert [len(grid) for grid in points.layer_grids(3, 2)] == [9, 9, 9]


def test_the_centre_of_known_masks() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:12, 10:17] = True
    assert points.centre(mask) == (13, 8)
    assert points.centre(np.ones((5, 9), bool)) == (2, 2)  # the image's border is an edge; the first of five
    assert points.centre(np.ones((1, 1), bool)) == (0, 0)


@pytest.mark.parametrize("shape", [(0, 0), (4, 0), (3, 4)])
def test_an_empty_mask_has_none(shape: tuple[int, int]) -> None:
    empty = np.zeros(shape, bool)
    assert points.centre(empty) is None
    assert points.random_point(empty, np.random.default_rng(0)) is None
    assert points.next_click(empty, empty) is None


def test_the_next_click_is_in_the_larger_error() -> None:
    truth, prediction = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    truth[2:9, 2:9] = True
    assert points.next_click(prediction, truth) == ((5, 5), 1)
    prediction[5:16, 20:31] = True
    assert points.next_click(prediction, truth) == ((25, 10), 0)
    prediction[:] = truth
    assert points.next_click(prediction, truth) is None


def test_larger_means_deeper_not_more_pixels() -> None:
    truth, prediction = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    truth[2:5, 2:5] = True
    prediction[10, :] = True
    assert points.next_click(prediction, truth) == ((3, 3), 1)


def test_on_a_tie_the_surplus_wins() -> None:
    truth, prediction = np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)
    assert points.next_click(prediction, truth) == ((1, 0), 0)


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match="one shape"):
        points.next_click(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


def test_random_points_are_uniform_and_reproducible() -> None:
    mask = np.array([[0, 1, 0], [1, 0, 1]], bool)
    generator = np.random.default_rng(0)
    drawn = [points.random_point(mask, generator) for _ in range(3000)]
    counts = {point: drawn.count(point) for point in set(drawn)}
    assert set(counts) == {(1, 0), (0, 1), (2, 1)}
    assert min(counts.values()) > 900
    assert points.random_point(mask, np.random.default_rng(0)) == drawn[0]
