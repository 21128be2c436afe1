"""Masks against shapes whose visible pixels are known: occlusion, unions, limits; and painting against geometry."""

import numpy as np
import pytest

from anymask.data.synthetic.canvas import Canvas, Layer
from anymask.data.synthetic.light import Light, draw_light, draw_surface
from anymask.data.synthetic.materials import Materials
from anymask.data.synthetic.painting import Pose, coverage, fringe, paint
from anymask.data.synthetic.pasting import blend, false_seam
from anymask.data.synthetic.pieces import Body

SQUARE = [np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])]


def flat(top: int, left: int, label: np.ndarray, parents: tuple[int, ...], shade: float) -> Layer:
    """A layer over the whole of `label`, coloured by node so that all outlines show."""
    colour = np.repeat((shade + 25.0 * label)[:, :, None], 3, axis=2).astype(np.float32)
    alpha = (label >= 0).astype(np.float32)
    return Layer(top=top, left=left, colour=colour, alpha=alpha, label=label.astype(np.int16), parents=parents)


def test_an_occluder_takes_its_pixels_from_wholes_and_parts() -> None:
    canvas = Canvas(np.zeros((40, 40, 3), np.float32))
    label = np.zeros((20, 20), int)
    label[:, 10:] = 1
    label[5:10, 12:18] = 2
    canvas.add(flat(4, 4, label, (-1, 0, 1), 60))
    canvas.add(flat(14, 0, np.zeros((26, 40), int), (-1,), 200))
    masks, levels, parents = canvas.masks(min_area=4, most=10)
    assert levels.tolist() == [0, 1, 2, 0]
    assert parents.tolist() == [-1, 0, 1, -1]
    whole, part, subpart, front = (np.zeros((40, 40), bool) for _ in range(4))
    whole[4:14, 4:24], part[4:14, 14:24], subpart[9:14, 16:22], front[14:, :] = True, True, True, True
    assert all(
        np.array_equal(found, wanted) for found, wanted in zip(masks, (whole, part, subpart, front), strict=True)
    )


def test_small_hidden_and_equal_masks_are_left_out() -> None:
    canvas = Canvas(np.zeros((40, 40, 3), np.float32))
    canvas.add(flat(0, 0, np.zeros((3, 3), int), (-1,), 90))
    canvas.add(flat(10, 0, np.full((10, 20), 1), (-1, 0), 40))
    canvas.add(flat(20, 0, np.zeros((20, 40), int), (-1,), 60))
    canvas.add(flat(21, 0, np.zeros((19, 40), int), (-1,), 120))
    masks, levels, parents = canvas.masks(min_area=10, most=10)
    assert masks.sum(axis=(1, 2)).tolist() == [200, 19 * 40]
    assert levels.tolist() == [0, 0] and parents.tolist() == [-1, -1]
    largest, _, _ = canvas.masks(min_area=1, most=1)
    assert largest.sum() == 19 * 40


def test_a_mask_whose_outline_does_not_show_is_left_out() -> None:
    canvas = Canvas(np.full((40, 40, 3), 100, np.float32))
    canvas.add(flat(5, 5, np.zeros((10, 10), int), (-1,), 101))
    canvas.add(flat(20, 20, np.zeros((10, 10), int), (-1,), 140))
    masks, _, _ = canvas.masks(min_area=1, most=10)
    assert len(masks) == 1 and masks[0, 25, 25]


def test_children_of_a_node_left_out_belong_to_its_parent() -> None:
    canvas = Canvas(np.zeros((40, 40, 3), np.float32))
    label = np.full((20, 20), 1)
    label[2:12, 2:12] = 2
    canvas.add(flat(5, 5, label, (-1, 0, 1), 60))
    masks, levels, parents = canvas.masks(min_area=4, most=10)
    assert masks.sum(axis=(1, 2)).tolist() == [400, 100]
    assert levels.tolist() == [0, 1] and parents.tolist() == [-1, 0]


def test_coverage_is_right_to_a_pixel_with_soft_edges_and_holes() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    disc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    plane = coverage([disc * 20 + 32.3, disc * 10 + 32.3], 0, 0, 64, 64) / 255
    assert np.pi * (400 - 100) < plane.sum() < np.pi * (20.8**2 - 9.2**2)
    assert ((plane[32] > 0) & (plane[32] < 1)).sum() >= 4
    assert plane[32, 32] == 0


def painted(body: Body, seed: int) -> Layer:
    rng = np.random.default_rng(seed)
    materials = Materials(rng, 64, [], count=3)
    surface = draw_surface(rng, draw_light(rng, 64))
    layer = paint(rng, body, Pose(scale=20, centre=(30, 34)), materials, surface, (64, 64))
    assert layer is not None
    return layer


@pytest.mark.parametrize("seed", range(8))
def test_clipped_pieces_stay_inside_and_colours_are_finite(seed: int) -> None:
    body = Body(SQUARE)
    band = body.add(np.array([[-5.0, 0], [5, 0], [5, 5], [-5, 5]]), clip=True)
    body.add(np.array([[0.0, -5], [5, -5], [5, 5], [0, 5]]), parent=band, clip=True)
    layer = painted(body, seed)
    assert np.isfinite(layer.colour).all()
    solid, label = layer.alpha >= 0.5, layer.label
    y, x = np.mgrid[layer.top : layer.top + len(label), layer.left : layer.left + label.shape[1]]
    inside = (np.abs(x - 30) < 19) & (np.abs(y - 34) < 19)
    assert (label[solid & inside & (y < 33)] == 0).all()
    assert (label[inside & solid & (y > 35) & (x < 29)] == band).all()
    assert (label[inside & solid & (y > 35) & (x > 31)] == band + 1).all()
    assert not solid[(np.abs(x - 30) > 21) | (np.abs(y - 34) > 21)].any()


def test_what_lies_outside_is_not_painted() -> None:
    rng = np.random.default_rng(0)
    materials, surface = Materials(rng, 64, [], count=1), draw_surface(rng, draw_light(rng, 64))
    assert paint(rng, Body(SQUARE), Pose(scale=9, centre=(-50, 30)), materials, surface, (64, 64)) is None


@pytest.mark.parametrize("seed", range(12))
def test_no_kind_of_seam_moves_the_mask(seed: int) -> None:
    layer = painted(Body(SQUARE), 3)
    rng = np.random.default_rng(seed)
    canvas = Canvas(rng.uniform(0, 255, (64, 64, 3)).astype(np.float32))
    light = Light(direction=(1, 0), modelling=0.5, shadow=0.6, shadow_reach=5, shadow_blur=1.5, gloss=0)
    blend(rng, canvas, layer, light)
    false_seam(rng, canvas, [])
    assert np.isfinite(canvas.image).all()
    wanted = np.zeros((64, 64), bool)
    wanted[layer.region] = layer.alpha >= 0.5
    assert np.array_equal(canvas.owner == 0, wanted)


def test_a_fringe_only_takes_away_and_only_near_the_edge() -> None:
    alpha = coverage([SQUARE[0] * 25 + 32], 0, 0, 64, 64).astype(np.float32) / 255
    for seed in range(5):
        frayed = fringe(np.random.default_rng(seed), alpha)
        assert (frayed <= alpha).all()
        assert (frayed < alpha).any()
        assert (frayed[29:36, 29:36] >= 0.5).all()
