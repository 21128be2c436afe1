from __future__ import annotations

import numpy as np
import pytest

from anymask.errors import ImageError
from anymask.plots import contact_sheet


def _plain(height: int, width: int, value: int = 0) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_images_keep_their_pixels_and_lie_row_by_row() -> None:
    images = [_plain(20, 30, value) for value in (10, 20, 30)]
    sheet = contact_sheet(images, 2, gap=4)
    assert sheet.shape == (4 + 2 * 24, 4 + 2 * 34, 3)
    for index, value in enumerate((10, 20, 30)):
        top, left = 4 + index // 2 * 24, 4 + index % 2 * 34
        assert (sheet[top : top + 20, left : left + 30] == value).all()


def test_captions_are_written_below_and_cut_where_they_are_too_long() -> None:
    short = contact_sheet([_plain(40, 200)], 1, ["cat"])
    assert (short[50:] < 100).any()
    words = contact_sheet([_plain(40, 200)], 1, ["cat " * 100])
    assert words.shape == short.shape
    assert (words[:, -6:] > 200).all()


def test_cells_scale_images_and_keep_their_shape() -> None:
    sheet = contact_sheet([_plain(10, 20), _plain(400, 100)], 2, cell=100, gap=0)
    dark = (sheet == 0).all(axis=-1)
    assert dark[:, :100].sum() == pytest.approx(50 * 100, rel=0.05)
    assert dark[:, 100:].sum() == pytest.approx(100 * 25, rel=0.05)


def test_more_columns_than_images_leave_no_empty_ones() -> None:
    assert contact_sheet([_plain(10, 10)], 8, gap=2).shape == (14, 14, 3)


def test_bad_input() -> None:
    with pytest.raises(ImageError, match="0 images"):
        contact_sheet([], 3)
    with pytest.raises(ImageError, match="0 columns"):
        contact_sheet([_plain(1, 1)], 0)
    with pytest.raises(ImageError, match="2 captions"):
        contact_sheet([_plain(1, 1)], 1, ["a", "b"])
