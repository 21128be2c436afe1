from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from anymask.errors import InputError
from anymask.inference.automatic.masks import AutomaticMasks
from anymask.inference.automatic.options import PRESETS, AutomaticOptions
from anymask.model import SIZES, build_sam


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pred_iou_thresh": 1.5}, "pred_iou_thresh is 1.5; it must be a number from 0 to 1"),
        ({"stability_score_thresh": float("nan")}, "stability_score_thresh is nan"),
        ({"stability_score_offset": -1}, "stability_score_offset is -1; it must be a number of 0 or more"),
        ({"box_nms_thresh": "0.7"}, "box_nms_thresh is '0.7'"),
        ({"crop_overlap_ratio": 2}, "crop_overlap_ratio is 2"),
        ({"points_per_side": 0}, "points_per_side is 0; it must be a whole number from 1 to 1,024"),
        ({"points_per_batch": 1.5}, "points_per_batch is 1.5"),
        ({"crop_n_layers": -1}, "crop_n_layers is -1"),
        ({"crop_n_layers": 7}, "crop_n_layers is 7; it must be a whole number from 0 to 6"),
        ({"crop_n_points_downscale_factor": 0}, "crop_n_points_downscale_factor is 0"),
        ({"min_mask_region_area": True}, "min_mask_region_area is True"),
        ({"memory_limit": 100}, "memory_limit is 100"),
        ({"nms": "soft"}, 'nms is \'soft\'; it must be "box" or "mask"'),
        ({"points_per_side": None}, "give either points_per_side or point_grids"),
        ({"point_grids": [np.zeros((1, 2))]}, "give either points_per_side or point_grids"),
        ({"points_per_side": None, "point_grids": [[[2, 0]]]}, r"a grid of shape \(1, 2\) was given"),
        ({"points_per_side": None, "point_grids": [[[0, 0]]], "crop_n_layers": 1}, "point_grids has 1 grids"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutomaticOptions(**given)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="there is no option 'points'; there are points_per_side"):
        AutomaticOptions().replace(points=3)
    with pytest.raises(InputError, match="there is no preset 'best'; there are fast, balanced, paper"):
        AutomaticOptions.preset("best")


def test_presets_can_be_overridden() -> None:
    options = AutomaticOptions.preset("paper", points_per_side=16)
    assert (options.crop_n_layers, options.min_mask_region_area, options.points_per_side) == (2, 100, 16)
    assert PRESETS["paper"].points_per_side == 32


def test_the_papers_grids() -> None:
    assert [len(grid) for grid in PRESETS["paper"].grids()] == [32**2, 16**2, 8**2]


def test_given_grids_are_kept_and_can_be_compared() -> None:
    grid = np.array([[0.25, 0.5], [0.75, 0.5]])
    options = AutomaticOptions(points_per_side=None, point_grids=[grid])
    assert options == AutomaticOptions(points_per_side=None, point_grids=(grid.tolist(),))
    assert hash(options) != hash(AutomaticOptions())
    np.testing.assert_array_equal(options.grids()[0], grid)


def test_thresholds_left_open_are_the_models_own() -> None:
    modest = dataclasses.replace(SIZES["smoke"], pred_iou_thresh=0.4, stability_score_thresh=0.6)
    assert AutomaticOptions().for_model(modest).thresholds == (0.4, 0.6)
    assert AutomaticOptions(pred_iou_thresh=0.7).for_model(modest).thresholds == (0.7, 0.6)
    assert AutomaticOptions(pred_iou_thresh=0.0).for_model(modest).thresholds == (0.0, 0.6)
    assert AutomaticOptions().for_model(SIZES["vit_b"]).thresholds == (0.88, 0.95)  # Meta's


def test_the_generator_asks_its_model() -> None:
    model = build_sam(dataclasses.replace(SIZES["smoke"], pred_iou_thresh=0.4))
    assert AutomaticMasks(model).options.thresholds == (0.4, 0.95)


def test_numpys_numbers_are_kept_as_plain_ones() -> None:
    given = {"points_per_side": np.int64(4), "pred_iou_thresh": np.float32(0.5), "stability_score_offset": np.uint8(1)}
    options = AutomaticOptions(**given)
    assert options == AutomaticOptions(points_per_side=4, pred_iou_thresh=0.5)
    assert [type(getattr(options, name)) for name in given] == [int, float, float]
    with pytest.raises(InputError, match="points_per_side is"):
        AutomaticOptions(points_per_side=np.float64(4))
    with pytest.raises(InputError, match="pred_iou_thresh is"):
        AutomaticOptions(pred_iou_thresh=np.True_)
