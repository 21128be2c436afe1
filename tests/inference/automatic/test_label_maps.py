"""Label maps: who is on top, where gaps go, and that large maps are filled like small ones."""

from __future__ import annotations

import numpy as np
import pytest

from anymask.errors import InputError
from anymask.geometry import rle
from anymask.inference.automatic import label_maps as module
from anymask.inference.automatic.label_maps import label_map

SIZE = (40, 60)


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def encoded(*masks: np.ndarray) -> list[rle.RLE]:
    return [rle.encode(mask) for mask in masks]


def test_the_smaller_is_on_top() -> None:
    part, whole = box(5, 5, 15, 15), box(0, 0, 30, 40)
    for order in ((part, whole), (whole, part)):
        labels = label_map(encoded(*order), SIZE)
        for index, mask in enumerate(order):
            assert (labels[mask & (part if mask is part else ~part)] == index + 1).all()
    assert (labels[:, 30:] == 0).all() and labels.dtype == np.uint16 and labels.flags.c_contiguous


def test_the_more_confident_is_on_top_where_asked() -> None:
    masks = encoded(box(5, 5, 15, 15), box(0, 0, 30, 40))
    assert set(np.unique(label_map(masks, SIZE, scores=[0.8, 0.9], on_top="confident"))) == {0, 2}
    assert set(np.unique(label_map(masks, SIZE, scores=[0.9, 0.8], on_top="confident"))) == {0, 1, 2}


def test_ties_go_to_the_other_measure_then_to_the_earlier() -> None:
    twins = encoded(box(0, 0, 10, 10), box(5, 0, 15, 10))
    assert label_map(twins, SIZE)[5, 7] == 1
    assert label_map(twins, SIZE, scores=[0.5, 0.6])[5, 7] == 2


def test_a_gap_takes_the_nearest_number() -> None:
    rng = np.random.default_rng(0)
    dots = np.zeros((6, *SIZE), bool)
    for dot, y, x in zip(dots, rng.permutation(40)[:6], rng.permutation(60)[:6], strict=True):
        dot[y, x] = True
    labels = label_map(rle.encode_many(dots), SIZE, cover=True)
    rows, columns = np.mgrid[:40, :60]
    away = np.stack([np.hypot(rows - y, columns - x) for _, y, x in np.argwhere(dots)])
    taken = np.take_along_axis(away, labels[None].astype(int) - 1, 0)[0]
    assert labels.min() == 1
    assert (taken <= away.min(0) * 1.03 + 1e-6).all()  # OpenCV's distance is right to 2 %


def test_cover_leaves_what_was_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = encoded(box(5, 5, 15, 15), box(20, 8, 21, 9))
    plain, covered = (label_map(masks, SIZE, cover=cover) for cover in (False, True))
    monkeypatch.setattr(module, "_EXACT_PIXELS", 40 * 60 // 16)
    reduced = label_map(masks, SIZE, cover=True)  # by four: the mask of one pixel is not lost
    for full in (covered, reduced):
        assert (full > 0).all() and np.array_equal(full[plain > 0], plain[plain > 0])
    assert (covered == reduced).mean() > 0.9  # the border between the two moves by a cell


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1)])
def test_thin_maps(size: tuple[int, int]) -> None:
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    assert (label_map([rle.encode(mask)], size, cover=True) == 1).all()


def test_no_masks() -> None:
    assert not label_map([], SIZE, cover=True).any()
    assert not label_map(encoded(box(0, 0, 0, 0)), SIZE, cover=True).any()


def test_what_does_not_fit_is_refused() -> None:
    masks = encoded(box(0, 0, 1, 1))
    with pytest.raises(InputError, match="size"):
        label_map(masks, (60, 40))
    with pytest.raises(InputError, match="scores are given"):
        label_map(masks, SIZE, on_top="confident")
    with pytest.raises(InputError, match="1 masks need"):
        label_map(masks, SIZE, scores=[1, 2])
