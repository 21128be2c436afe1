"""Frames, boxes, masks and crops: round trips, and no NaN whatever the masks."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from anymask.geometry import boxes, crops, masks
from anymask.geometry.frames import Frame

sides = st.integers(1, 5000)
coordinates = st.floats(-1e4, 1e4, width=32)
box_arrays = arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=coordinates)
stacks = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=7))


@given(sides, sides, st.sampled_from([1, 64, 256, 1024]), box_arrays)
def test_to_the_model_and_back(height: int, width: int, model_size: int, given_boxes: np.ndarray) -> None:
    frame = Frame((height, width), model_size)
    assert max(frame.resized) == model_size and min(frame.resized) >= 1
    again = frame.boxes_to_original(frame.boxes_to_model(given_boxes))
    np.testing.assert_allclose(again, given_boxes, rtol=1e-5, atol=1e-30)
    corners = given_boxes.reshape(-1, 2, 2)
    np.testing.assert_array_equal(frame.points_to_model(corners).reshape(-1, 4), frame.boxes_to_model(given_boxes))
    np.testing.assert_allclose(frame.points_to_original(frame.points_to_model(corners)), corners, rtol=1e-5, atol=1e-30)


@given(sides, sides, st.sampled_from([64, 1024]))
def test_what_is_in_the_image_is_in_the_padded_square(height: int, width: int, model_size: int) -> None:
    frame = Frame((height, width), model_size)
    np.testing.assert_allclose(frame.points_to_model(np.array([width, height])), frame.resized[::-1], rtol=1e-6)
    assert min(frame.padding) == 0


@given(box_arrays, box_arrays)
def test_iou_is_a_symmetric_share(a: np.ndarray, b: np.ndarray) -> None:
    for dtype in (np.float32, np.float64):
        iou = boxes.pairwise_iou(a.astype(dtype), b.astype(dtype))
        assert iou.dtype == dtype and iou.shape == (len(a), len(b))
        assert ((iou >= 0) & (iou <= 1)).all()
        np.testing.assert_array_equal(iou, boxes.pairwise_iou(b.astype(dtype), a.astype(dtype)).T)


@given(stacks)
def test_a_masks_box_is_tight(stack: np.ndarray) -> None:
    for mask, (x0, y0, x1, y1) in zip(stack, boxes.from_masks(stack).tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        if rows.size:
            assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        else:
            assert (x0, y0, x1, y1) == (0, 0, 0, 0)
    assert boxes.from_masks_torch(torch.from_numpy(stack)).tolist() == boxes.from_masks(stack).tolist()


@given(stacks, st.data())
def test_iou_of_masks_by_counting(stack: np.ndarray, data: st.DataObject) -> None:
    other = data.draw(arrays(bool, stack.shape))
    iou = masks.pairwise_iou(stack, other)
    for i, j in np.ndindex(iou.shape):
        union = int((stack[i] | other[j]).sum())
        assert iou[i, j] == (int((stack[i] & other[j]).sum()) / union if union else 0)
    np.testing.assert_array_equal(masks.pair_iou(stack, other), np.diag(iou))


@given(
    arrays(
        np.float32, array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=5), elements=st.floats(-9, 9, width=32)
    ),
    st.floats(-2, 2),
    st.floats(0, 3),
)
def test_stability_is_a_share_and_alike_in_torch(logits: np.ndarray, threshold: float, offset: float) -> None:
    ours = masks.stability_score(logits, threshold, offset)
    assert ours.shape == logits.shape[:-2] and ((ours >= 0) & (ours <= 1)).all()
    in_torch = masks.stability_score_torch(torch.from_numpy(logits), threshold, offset)
    np.testing.assert_allclose(ours, in_torch.numpy(), rtol=1e-6)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(0, 19))
def test_tiles_cover_every_pixel(height: int, width: int, tile: int, overlap: int) -> None:
    overlap = min(overlap, tile - 1)
    covered = np.zeros((height, width), bool)
    found = crops.tiles((height, width), tile, overlap)
    for x0, y0, x1, y1 in found:
        assert (x1 - x0, y1 - y0) == (min(tile, width), min(tile, height))
        covered[y0:y1, x0:x1] = True
    assert covered.all() and len(set(found)) == len(found)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 3), st.floats(0, 0.9))
def test_each_layer_of_crops_covers_every_pixel(height: int, width: int, num_layers: int, overlap: float) -> None:
    found = crops.layered((height, width), num_layers, overlap)
    for layer in range(num_layers + 1):
        covered = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in (crop.box for crop in found if crop.layer == layer):
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
            covered[y0:y1, x0:x1] = True
        assert covered.all()
