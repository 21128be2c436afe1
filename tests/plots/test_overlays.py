from __future__ import annotations

import numpy as np
import pytest

from anymask.geometry import rle
from anymask.plots import draw_answer, draw_boxes, draw_everything, draw_masks, draw_points, palette

GREY = np.full((200, 300, 3), 128, np.uint8)


def _disc(radius: int, shape: tuple[int, int] = (200, 300)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x - shape[1] // 2) ** 2 + (y - shape[0] // 2) ** 2 <= radius**2


def test_a_mask_tints_its_inside_outlines_its_edge_and_leaves_the_rest() -> None:
    mask = _disc(60)
    drawn = draw_masks(GREY, mask[None])
    expected = 128 + 0.45 * (palette(1)[0].astype(float) - 128)
    assert np.abs(drawn[100, 150] - expected).max() <= 1
    near_edge = _disc(64) & ~_disc(56)
    assert (drawn[~_disc(66)] == 128).all()
    assert drawn[near_edge].max() > drawn[100, 150].max() + 20
    assert (GREY == 128).all()


def test_small_masks_are_drawn_over_large_ones_in_whatever_order() -> None:
    large, small = np.ones((200, 300), bool), _disc(30)
    colors = palette(2)
    one = draw_masks(GREY, np.stack([large, small]), colors=colors)
    other = draw_masks(GREY, np.stack([small, large]), colors=colors[::-1])
    assert (one == other).all()
    assert (one[100, 150] != one[10, 10]).any()


@pytest.mark.parametrize("mask", [np.zeros((7, 5), bool), np.ones((7, 5), bool), np.eye(7, 5) > 0])
def test_odd_masks(mask: np.ndarray) -> None:
    image = np.full((7, 5, 3), 128, np.uint8)
    drawn = draw_masks(image, mask[None])
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (drawn != image).any() == mask.any()


def test_one_pixel_is_seen() -> None:
    image, mask = np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 1), bool)
    assert draw_masks(image, mask).max() > 50


def test_no_masks_and_no_prompts_change_nothing() -> None:
    assert (draw_answer(GREY, np.zeros((0, 200, 300), bool)) == GREY).all()


def test_points_are_green_or_red_in_a_white_ring_where_they_were_clicked() -> None:
    drawn = draw_points(GREY, np.array([[40, 50], [250.5, 120]]), np.array([1, 0]))
    red, green = drawn[120, 250].astype(int), drawn[50, 40].astype(int)
    assert green[1] > green[0] + 80 and red[0] > red[1] + 80
    assert (drawn[50, 30:51] == 255).all(axis=-1).any()
    assert (drawn[50, 40:60] == 128).all(axis=-1)[-8:].all()


def test_points_and_boxes_may_touch_the_border() -> None:
    drawn = draw_points(GREY, np.array([[0, 0], [300, 200]]), np.array([1, 1]))
    assert (drawn[0, 0] != 128).any() and (drawn[-1, -1] != 128).any()
    assert (draw_boxes(GREY, np.array([[0, 0, 300, 200]]))[100, 0] != 128).any()


def test_a_box_is_an_outline_on_its_edges() -> None:
    drawn = draw_boxes(GREY, np.array([[50, 40, 250, 160]]))
    changed = (drawn != 128).any(axis=-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert abs(rows[0] - 40) <= 4 and abs(rows[-1] - 159) <= 4
    assert abs(columns[0] - 50) <= 4 and abs(columns[-1] - 249) <= 4
    assert not changed[60:140, 70:230].any()


def test_lines_grow_with_the_image() -> None:
    def outline(scale: int) -> float:
        size = (1000 * scale, 1000 * scale)
        image = np.zeros((*size, 3), np.uint8)
        mask = np.zeros(size, bool)
        mask[:, 500 * scale :] = True
        row = draw_masks(image, mask[None], opacity=0.0)[500 * scale, :, 1]
        return float((row > 100).sum())

    assert outline(3) == pytest.approx(3 * outline(1), abs=2)


def test_a_stored_mask_is_drawn_like_another() -> None:
    image = np.random.default_rng(0).integers(0, 255, (80, 120, 3), np.uint8)
    masks = np.zeros((2, 80, 120), bool)
    masks[0, 10:70, 5:118] = True  # the other is empty
    drawn, other = draw_everything(image, rle.encode_many(masks)), draw_masks(image, masks)
    assert np.abs(drawn[14:66, 9:114].astype(int) - other[14:66, 9:114]).max() <= 1
    assert np.abs(drawn.astype(int) - other).mean() < 2  # the tint of one is soft at the edge
    assert np.array_equal(draw_everything(image, []), image)


def test_masks_upon_masks_do_not_hide_the_photograph() -> None:
    radii = range(20, 90, 10)
    masks = np.stack([_disc(radius) for radius in radii])
    drawn = draw_everything(GREY, rle.encode_many(masks))
    expected = 128 + 0.45 * (palette(1)[0].astype(float) - 128)  # the smallest is the first
    assert np.abs(drawn[100, 150] - expected).max() <= 1
    for radius in radii:
        assert drawn[100, 150 + radius].max() > 200  # each has its outline


def test_a_large_image_is_drawn_small() -> None:
    image = np.zeros((300, 900, 3), np.uint8)
    masks = np.zeros((2, 300, 900), bool)
    masks[0, :, 450:] = True
    masks[1, 7, 7] = True  # between the pixels that are shown
    drawn = draw_everything(image, rle.encode_many(masks), max_side=90)
    assert drawn.shape == (30, 90, 3)
    assert not drawn[:, :40].any() and drawn[:, 50:].any(2).all()
    assert draw_everything(image[:1], [rle.encode(masks[0, :1])], max_side=9).shape == (1, 9, 3)


def test_a_mask_drawn_band_by_band_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (300, 400, 3), np.uint8)
    masks = np.stack([np.kron(rng.random((10, 10)) > 0.5, np.ones((30, 40), bool)), np.ones((300, 400), bool)])
    for stroke in (1.5, 9.0):
        monkeypatch.setattr("anymask.plots.overlays.stroke_width", lambda size, stroke=stroke: stroke)
        whole = draw_masks(image, masks)
        with monkeypatch.context() as patch:
            patch.setattr("anymask.plots.overlays._PIXELS_TOGETHER", 400 * 7)
            np.testing.assert_array_equal(draw_masks(image, masks), whole)
