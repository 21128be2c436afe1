"""What scripts take from Meta's helpers for masks of everything, ours against Meta's own."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from anymask.compat.segment_anything.utils import amg
from anymask.errors import InputError

CROP, IMAGE = [20, 10, 80, 50], [0, 0, 100, 60]


@pytest.fixture(scope="module")
def theirs(meta_sam: ModuleType) -> ModuleType:
    return meta_sam.utils.amg


def test_crops_and_grids_are_metas(theirs: ModuleType) -> None:
    assert amg.generate_crop_boxes((60, 100), 2, 0.3) == theirs.generate_crop_boxes((60, 100), 2, 0.3)
    for ours, grid in zip(
        amg.build_all_layer_point_grids(8, 2, 2), theirs.build_all_layer_point_grids(8, 2, 2), strict=True
    ):
        np.testing.assert_allclose(ours, grid, atol=1e-7)


def test_what_lies_in_a_crop_goes_where_meta_puts_it(theirs: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(50, 2, 2, generator=generator) * torch.tensor([60.0, 40.0])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    masks = torch.rand(3, 40, 60, generator=generator) > 0.5
    assert torch.equal(amg.uncrop_boxes_xyxy(boxes, CROP), theirs.uncrop_boxes_xyxy(boxes, CROP))
    assert torch.equal(amg.uncrop_points(corners, CROP), theirs.uncrop_points(corners, CROP))
    assert torch.equal(amg.uncrop_masks(masks, CROP, 60, 100), theirs.uncrop_masks(masks, CROP, 60, 100))
    near = theirs.is_box_near_crop_edge(boxes, CROP, IMAGE)
    assert 0 < near.sum() < len(near) and torch.equal(amg.is_box_near_crop_edge(boxes, CROP, IMAGE), near)


@pytest.mark.parametrize("mode", ["holes", "islands"])
def test_small_regions_are_removed_as_meta_removes_them(theirs: ModuleType, mode: str) -> None:
    for seed in range(5):
        mask = np.random.default_rng(seed).random((40, 60)) < 0.35
        ours, peer = (package.remove_small_regions(mask, 6, mode) for package in (amg, theirs))
        assert ours[1] == peer[1] and (ours[0] == peer[0]).all()
    with pytest.raises(InputError, match="mode is"):
        amg.remove_small_regions(mask, 6, "both")


def test_boxes_and_batches(theirs: ModuleType) -> None:
    box = torch.tensor([3.0, 4.0, 10.0, 20.0])
    assert torch.equal(amg.box_xyxy_to_xywh(box), theirs.box_xyxy_to_xywh(box))
    assert list(amg.batch_iterator(2, [1, 2, 3], "abc")) == list(theirs.batch_iterator(2, [1, 2, 3], "abc"))
    with pytest.raises(InputError, match=r"but got \[1, 2\]"):
        list(amg.batch_iterator(2, [1], [1, 2]))
