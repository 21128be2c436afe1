"""Geometry against Meta's segment_anything.utils."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from anymask.geometry import boxes, crops, masks, nms, points, regions, rle
from anymask.geometry.frames import Frame

SIZES = [(1, 1), (1, 17), (480, 640), (1024, 1024), (1500, 2250), (300, 5000), (5000, 300), (683, 1023)]


@pytest.fixture(scope="module")
def amg(meta_sam: ModuleType) -> ModuleType:
    return meta_sam.utils.amg


@pytest.fixture(scope="module")
def random_masks() -> np.ndarray:
    """A few blobs, a full, an empty and a one-pixel mask."""
    generator = default_rng(0)
    noise = generator.random((8, 45, 70)) < np.linspace(0.02, 0.98, 8)[:, None, None]
    special = np.zeros((3, 45, 70), bool)
    special[0], special[2, 44, 69] = True, True
    return np.concatenate([noise, special])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model_size", [64, 1024])
def test_coordinates_are_mapped_like_resize_longest_side(
    meta_sam: ModuleType, size: tuple[int, int], model_size: int
) -> None:
    peer = meta_sam.utils.transforms.ResizeLongestSide(model_size)
    frame = Frame(size, model_size)
    given = default_rng(0).uniform(-5, 5000, (20, 4))
    assert frame.resized == peer.get_preprocess_shape(*size, model_size)
    np.testing.assert_array_equal(
        frame.points_to_model(given[:, :2]), peer.apply_coords(given[:, :2], size).astype(np.float32)
    )
    np.testing.assert_array_equal(frame.boxes_to_model(given), peer.apply_boxes(given, size).astype(np.float32))


def test_a_side_that_meta_rounds_to_zero_is_one_pixel(meta_sam: ModuleType) -> None:
    assert meta_sam.utils.transforms.ResizeLongestSide.get_preprocess_shape(1, 5000, 1024) == (0, 1024)
    assert Frame((1, 5000), 1024).resized == (1, 1024)


@pytest.mark.parametrize(("side", "layers", "downscale"), [(32, 0, 1), (32, 2, 2), (16, 3, 2), (5, 1, 3), (1, 1, 1)])
def test_grids(amg: ModuleType, side: int, layers: int, downscale: int) -> None:
    ours, peers = points.layer_grids(side, layers, downscale), amg.build_all_layer_point_grids(side, layers, downscale)
    assert len(ours) == len(peers)
    for our, peer in zip(ours, peers, strict=True):
        np.testing.assert_allclose(our, peer, rtol=2e-7)


@pytest.mark.parametrize("size", [(480, 640), (1500, 2250), (300, 5000), (17, 33), (8, 8)])
@pytest.mark.parametrize("overlap", [512 / 1500, 0.0, 0.2])
def test_crop_boxes(amg: ModuleType, size: tuple[int, int], overlap: float) -> None:
    peer_boxes, peer_layers = amg.generate_crop_boxes(size, 2, overlap)
    ours = crops.layered(size, 2, overlap)
    kept = [i for i, (x0, y0, x1, y1) in enumerate(peer_boxes) if x0 < x1 and y0 < y1]
    assert [list(crop.box) for crop in ours] == [peer_boxes[i] for i in kept]
    assert [crop.layer for crop in ours] == [peer_layers[i] for i in kept]


@pytest.mark.parametrize("mode", ["holes", "islands"])
@pytest.mark.parametrize("min_area", [0, 2, 10, 10000])
def test_small_regions(amg: ModuleType, random_masks: np.ndarray, mode: str, min_area: float) -> None:
    for mask in random_masks:
        ours, our_change = regions.remove_small(mask, min_area, mode)
        peers, peer_change = amg.remove_small_regions(mask, min_area, mode)
        assert our_change == peer_change
        np.testing.assert_array_equal(ours, peers)


def test_boxes_of_masks(amg: ModuleType, random_masks: np.ndarray) -> None:
    stacked = np.stack([random_masks, random_masks[::-1]])
    peers = amg.batched_mask_to_box(torch.from_numpy(stacked)).numpy()
    found = boxes.from_masks(stacked)
    last = np.array([0, 0, 1, 1]) * found.any(-1)[..., None]  # the peers' right and bottom edges are inclusive
    np.testing.assert_array_equal(found - last, peers)


def test_boxes_near_a_crop_edge(amg: ModuleType) -> None:
    corner = default_rng(0).integers(0, 300, (2000, 2))
    candidates = np.concatenate([corner, corner + default_rng(1).integers(0, 200, (2000, 2))], axis=1)
    for crop, image in [
        ((100, 50, 400, 450), (0, 0, 700, 450)),
        ((0, 0, 700, 450), (0, 0, 700, 450)),
        ((10, 10, 690, 440), (0, 0, 700, 450)),
    ]:
        peers = amg.is_box_near_crop_edge(torch.from_numpy(candidates), list(crop), list(image)).numpy()
        np.testing.assert_array_equal(boxes.is_near_crop_edge(candidates, crop, image), peers)


def test_uncropping(amg: ModuleType, random_masks: np.ndarray) -> None:
    crop = (5, 7, 75, 52)
    given = default_rng(0).integers(0, 40, (9, 4))
    np.testing.assert_array_equal(
        crops.uncrop_boxes(given, crop), amg.uncrop_boxes_xyxy(torch.from_numpy(given), list(crop))
    )
    peers = amg.uncrop_masks(torch.from_numpy(random_masks), list(crop), 60, 90).numpy()
    for mask, peer in zip(random_masks, peers, strict=True):
        np.testing.assert_array_equal(rle.decode(rle.encode_at(mask, crop[:2], (60, 90))), peer)


@pytest.mark.parametrize(("threshold", "offset"), [(0.0, 1.0), (0.5, 0.25), (0.0, 0.0)])
def test_stability_where_it_is_defined(amg: ModuleType, threshold: float, offset: float) -> None:
    logits = torch.randn(6, 30, 40, generator=torch.Generator().manual_seed(0)) * 3
    peers = amg.calculate_stability_score(logits, threshold, offset)
    assert torch.equal(masks.stability_score_torch(logits, threshold, offset), peers)
    np.testing.assert_array_equal(masks.stability_score(logits.numpy(), threshold, offset), peers.numpy())


def test_stability_of_an_empty_mask_is_0_where_metas_is_undefined(amg: ModuleType) -> None:
    logits = torch.full((1, 4, 4), -5.0)
    assert amg.calculate_stability_score(logits, 0.0, 1.0).isnan().all()
    assert masks.stability_score_torch(logits).tolist() == [0.0]


def test_run_lengths(amg: ModuleType, random_masks: np.ndarray) -> None:
    for ours, peer in zip(
        rle.encode_many(random_masks), amg.mask_to_rle_pytorch(torch.from_numpy(random_masks)), strict=True
    ):
        assert rle.runs(ours).tolist() == peer["counts"]
        assert ours == amg.coco_encode_rle(peer)
        assert rle.checked(peer) == ours
        assert rle.area(ours) == amg.area_from_rle(peer)


def test_the_stand_in_for_torchvision_suppresses_alike(meta_sam: ModuleType) -> None:
    generator = default_rng(0)
    corner = generator.random((60, 2), np.float32) * 50
    candidates = np.concatenate([corner, corner + generator.random((60, 2), np.float32) * 40], axis=1)
    scores, categories = generator.random(60, np.float32), generator.integers(0, 3, 60)
    peer = meta_sam.automatic_mask_generator.batched_nms
    kept = peer(torch.from_numpy(candidates), torch.from_numpy(scores), torch.from_numpy(categories), 0.4)
    assert 10 < len(kept) < 60
    np.testing.assert_array_equal(nms.box_nms(candidates, scores, 0.4, categories), kept.numpy())
