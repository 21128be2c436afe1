import numpy as np
import pytest
import torch

from anymask.geometry import boxes


def test_width_counts_pixels() -> None:
    mask = np.zeros((6, 9), bool)
    mask[2:5, 3] = True
    box = boxes.from_masks(mask)
    assert box.tolist() == [3, 2, 4, 5]
    assert boxes.area(box) == mask.sum() == 3


def test_empty_one_pixel_and_full_masks() -> None:
    masks = np.zeros((3, 4, 5), bool)
    masks[1, 0, 0] = True
    masks[2] = True
    assert boxes.from_masks(masks).tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 5, 4]]


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0), (2, 3, 4, 5)])
def test_any_leading_shape_in_numpy_and_torch(shape: tuple[int, ...]) -> None:
    masks = np.random.default_rng(0).random(shape) < 0.1
    found = boxes.from_masks(masks)
    assert found.shape == (*shape[:-2], 4)
    assert boxes.from_masks_torch(torch.from_numpy(masks)).tolist() == found.tolist()


def test_clip_keeps_the_dtype_and_what_is_inside() -> None:
    given = np.array([[-3, 2, 50, 4], [1, 1, 2, 2], [30, 30, 40, 40]], np.float32)
    clipped = boxes.clip(given, (10, 20))
    assert clipped.dtype == np.float32
    assert clipped.tolist() == [[0, 2, 20, 4], [1, 1, 2, 2], [20, 10, 20, 10]]
    assert boxes.area(clipped).tolist() == [40, 1, 0]


def test_crossed_edges_enclose_nothing() -> None:
    assert boxes.area(np.array([[5, 5, 3, 3], [5, 0, 3, 9]])).tolist() == [0, 0]


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]])
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2], [0, 0, 0, 0]])
    assert boxes.pairwise_iou(a, b).tolist() == [[1 / 7, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_iou_with_no_boxes(n: int, m: int) -> None:
    assert boxes.pairwise_iou(np.zeros((n, 4)), np.zeros((m, 4))).shape == (n, m)


def test_near_an_inner_crop_edge_but_not_near_the_images() -> None:
    image, crop = (0, 0, 200, 200), (0, 0, 120, 200)
    candidates = np.array([[0, 50, 40, 90], [60, 50, 100, 90], [60, 50, 99, 90], [50, 150, 80, 200]])
    assert boxes.is_near_crop_edge(candidates, crop, image).tolist() == [False, True, False, False]
    assert boxes.is_near_crop_edge(candidates, crop, image, tolerance=19).tolist() == [False] * 4
    assert boxes.is_near_crop_edge(np.zeros((0, 4)), crop, image).shape == (0,)


def test_near_is_measured_in_the_images_frame() -> None:
    image, crop = (0, 0, 200, 200), (100, 0, 200, 200)
    at_the_crops_left, at_the_images_right = [0, 80, 40, 120], [60, 80, 100, 120]
    assert boxes.is_near_crop_edge(np.array([at_the_crops_left, at_the_images_right]), crop, image).tolist() == [
        True,
        False,
    ]
