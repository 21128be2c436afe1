from __future__ import annotations

import numpy as np
import pytest
import torch

from anymask.compat.segment_anything import SamAutomaticMaskGenerator
from anymask.errors import InputError
from anymask.geometry import rle
from anymask.inference import AutomaticMasks
from anymask.model import SIZES, Sam, build_sam

FILTERS = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


@pytest.fixture
def sam() -> Sam:
    torch.manual_seed(0)
    return build_sam(SIZES["smoke"]).eval()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)


def test_dictionaries_say_what_our_records_say(sam: Sam, image: np.ndarray) -> None:
    records = AutomaticMasks(sam, **FILTERS).generate(image)
    made = {
        mode: SamAutomaticMaskGenerator(sam, output_mode=mode, **FILTERS).generate(image)
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    }
    assert len(records) > 1
    for index, record in enumerate(records):
        binary, plain, compressed = (made[mode][index] for mode in made)
        assert compressed["segmentation"] == record.rle
        assert rle.checked(plain["segmentation"]) == record.rle
        np.testing.assert_array_equal(binary["segmentation"], rle.decode(record.rle))
        assert binary["area"] == record.area
        x, y, width, height = record.bbox
        assert binary["bbox"] == [x, y, width - 1, height - 1]
        assert binary["point_coords"] == [list(record.point_coords[0])]
        assert binary["crop_box"] == [0, 0, 100, 60]
        assert binary["predicted_iou"] == record.predicted_iou
        assert binary["stability_score"] == record.stability_score


def test_what_cannot_be_used_is_refused(sam: Sam) -> None:
    with pytest.raises(InputError, match="output_mode is 'polygons'; it must be one of binary_mask"):
        SamAutomaticMaskGenerator(sam, output_mode="polygons")
    with pytest.raises(InputError, match="give either points_per_side or point_grids"):
        SamAutomaticMaskGenerator(sam, point_grids=[np.zeros((1, 2))])
