"""The plots of evaluations: drawn for one model and for several, and for extremes, without a warning."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from anymask.plots import curves


@pytest.mark.parametrize("names", [("one",), ("one", "two"), tuple("abcdefgh")])
def test_plots_are_pictures_of_any_number_of_models(names: tuple[str, ...]) -> None:
    drawn = [
        curves.iou_by_clicks({name: {1: 0.3, 2: 0.5, 9: 1.0} for name in names}),
        curves.iou_histograms({name: [0] * 19 + [7] for name in names}, title="IoU"),
        curves.bars_by_set(["x", "y"], {name: [0.2, 0.1] for name in names}, label="mIoU"),
    ]
    for png in drawn:
        with Image.open(io.BytesIO(png)) as picture:
            assert np.asarray(picture.convert("L")).std() > 1


def test_histograms_of_no_masks_are_flat() -> None:
    assert curves.iou_histograms({"none": [0, 0]})
