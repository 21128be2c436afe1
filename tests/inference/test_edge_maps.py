from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anymask.errors import InputError
from anymask.inference.edges import EdgeOptions, Edges, mask_edge, to_grey


def test_edges_lie_on_the_regions_that_the_model_sees(scene_sam: Any, scene: np.ndarray) -> None:
    strength = Edges(scene_sam).detect(scene)
    assert strength.shape == scene.shape[:2] and strength.dtype == np.float32
    assert strength.max() == 1 and strength.min() == 0
    sample = 300 / scene_sam.mask_size  # pixels of the image to one of a mask
    y, x = np.nonzero(strength)
    centre = np.hypot(x - 100.0, y - 100.0)
    to_disc = np.min([np.abs(centre - radius) for radius in (20, 50, 80)], axis=0)
    square = np.maximum(np.abs(x - 249.5), np.abs(y - 89.5))
    assert (np.minimum(to_disc, np.abs(square - 30)) < sample).all()
    for radius in (20, 50, 80):  # each circle is there all around
        near = np.abs(centre - radius) < sample
        turns = np.floor(np.arctan2(y[near] - 100, x[near] - 100) / np.pi * 8)
        assert len(np.unique(turns)) >= 16


def test_where_the_image_ends_there_is_no_edge() -> None:
    probability = np.zeros((20, 30), np.float32)
    probability[:, :12] = 1
    edge = mask_edge(probability)
    np.testing.assert_array_equal(np.flatnonzero(edge.any(axis=0)), [11, 12])
    assert not mask_edge(np.ones((20, 30), np.float32)).any()


@pytest.mark.parametrize("size", [(100, 150), (150, 100)])
def test_where_the_padding_begins_there_is_no_edge(scene_sam: Any, size: tuple[int, int]) -> None:
    assert not Edges(scene_sam).detect(np.full((*size, 3), 64, np.uint8)).any()


def test_the_edge_is_zero_away_from_the_masks_outline() -> None:
    probability = np.tile(np.linspace(0, 1, 41, dtype=np.float32), (9, 1))
    np.testing.assert_array_equal(np.flatnonzero(mask_edge(probability).any(axis=0)), [20, 21])


def test_thinning_keeps_a_part_of_what_there_is(scene_sam: Any, scene: np.ndarray) -> None:
    thick = Edges(scene_sam, EdgeOptions(thin=False)).detect(scene)
    thin = Edges(scene_sam).detect(scene)
    kept = thin > 0
    np.testing.assert_array_equal(thin[kept], thick[kept])
    assert kept.sum() < (thick > 0).sum()


def test_an_image_without_masks_has_no_edges(scene_sam: Any) -> None:
    assert not Edges(scene_sam).detect(np.zeros((50, 70, 3), np.uint8)).any()


def test_grey_values_span_eight_bits() -> None:
    np.testing.assert_array_equal(to_grey(np.array([[0.0, 0.5, 1.0]], np.float32)), [[0, 128, 255]])


@pytest.mark.parametrize("bad", [{"points_per_side": 0}, {"nms_thresh": 1.5}, {"nms_thresh": float("nan")}])
def test_options_without_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        EdgeOptions(**bad)
