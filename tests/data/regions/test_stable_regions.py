"""Stable regions: what stands out is found to the pixel, what does not is left alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from anymask.data.images import read_image
from anymask.data.regions.hierarchy import build_hierarchy
from anymask.data.regions.stable import RegionConfig, stable_regions
from anymask.errors import InputError
from anymask.geometry.masks import pairwise_iou
from anymask.samples import sample_path


def _disc(size: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int]) -> np.ndarray:
    drawn = np.zeros(size, np.uint8)
    cv2.ellipse(drawn, centre, axes, 20, 0, 360, 1, -1)
    return drawn > 0


def _paint(masks: list[np.ndarray], colours: list[tuple[int, int, int]], noise: float = 6.0) -> np.ndarray:
    """Paint masks over a brownish ground, later ones on top, slightly out of focus and noisy."""
    image = np.full((*masks[0].shape, 3), (150, 130, 110), np.float32)
    for mask, colour in zip(masks, colours, strict=True):
        image[mask] = colour
    image = cv2.GaussianBlur(image, (0, 0), 0.8)
    image += np.random.default_rng(1).normal(0, noise, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def _best(masks: np.ndarray, wanted: np.ndarray) -> float:
    return float(pairwise_iou(masks, wanted[None]).max()) if len(masks) else 0.0


def test_objects_and_their_parts_are_found() -> None:
    size = (240, 320)
    shirt, logo, ball = (
        _disc(size, (110, 120), (70, 55)),
        _disc(size, (110, 120), (20, 14)),
        _disc(size, (250, 90), (28, 28)),
    )
    found = stable_regions(_paint([shirt, logo, ball], [(40, 60, 140), (230, 200, 40), (190, 40, 50)]))
    assert 3 <= len(found) <= 5
    assert all(_best(found, wanted) > 0.93 for wanted in (shirt, logo, ball))


def test_a_patterned_object_is_one_region() -> None:
    size = (240, 320)
    rug = np.zeros(size, bool)
    rug[50:190, 70:250] = True
    image = _paint([rug], [(40, 60, 140)])
    checks = (np.indices(size) // 9).sum(0) % 2 == 0
    image[rug & checks] = cv2.add(image[rug & checks], np.full(((rug & checks).sum(), 3), 32, np.uint8))
    found = stable_regions(image)
    assert _best(found, rug) > 0.93
    assert len(found) <= 2


def test_prints_belong_to_a_shirt_but_not_things_to_a_floor() -> None:
    size = (240, 320)
    shirt, dot = _disc(size, (160, 120), (80, 60)), _disc(size, (160, 120), (12, 12))
    found = stable_regions(_paint([shirt, dot], [(40, 60, 140), (235, 235, 235)]))
    assert found[pairwise_iou(found, shirt[None])[:, 0].argmax()][120, 160]
    floor = np.zeros(size, bool)
    floor[120:] = True
    ball = _disc(size, (160, 190), (20, 20))
    found = stable_regions(_paint([floor, ball], [(60, 110, 60), (200, 40, 40)]))
    assert _best(found, floor & ~ball) > 0.95


def test_nothing_stands_out_of_noise_ramps_and_faint_edges() -> None:
    rng = np.random.default_rng(0)
    assert not len(stable_regions(rng.integers(0, 256, (240, 320, 3), np.uint8)))
    coarse = cv2.resize(rng.integers(90, 160, (60, 80, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    assert not len(stable_regions(coarse))
    ramp = np.broadcast_to(np.linspace(0, 255, 320)[None, :, None], (240, 320, 3))
    assert not len(stable_regions(ramp.astype(np.uint8)))
    assert not len(stable_regions(np.full((240, 320, 3), 127, np.uint8)))
    faint = _disc((240, 320), (160, 120), (70, 55))
    assert not len(stable_regions(_paint([faint], [(158, 138, 118)])))
    soft = cv2.GaussianBlur(_paint([faint], [(40, 60, 140)]), (0, 0), 25)
    assert not len(stable_regions(soft))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 9), (3, 3), (5, 301), (37, 23), (301, 199)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    image[: size[0] // 2, : size[1] // 2] = (250, 10, 10)
    found = stable_regions(image)
    assert found.shape[1:] == size and found.dtype == np.bool_


def test_large_pictures_are_looked_at_smaller_and_answered_at_their_size() -> None:
    size = (900, 1203)
    ball = _disc(size, (500, 420), (260, 200))
    found = stable_regions(_paint([ball], [(40, 60, 140)]))
    assert found.shape[1:] == size
    assert _best(found, ball) > 0.95


def test_limits_hold_on_a_photograph_and_the_answer_is_always_the_same() -> None:
    image = read_image(sample_path("coffee"))
    plan = RegionConfig(max_masks=5, min_area=0.01)
    found = stable_regions(image, plan)
    assert 1 <= len(found) <= 5
    assert (found.mean((1, 2)) >= 0.01).all() and (found.mean((1, 2)) <= 0.6).all()
    overlaps = pairwise_iou(found, found) - np.eye(len(found))
    assert overlaps.max() <= 0.85 + 0.01  # at the size looked at
    assert np.array_equal(found, stable_regions(image.copy(), plan))


def test_the_tree_is_whole() -> None:
    image = cv2.resize(read_image(sample_path("cat")), (160, 120), interpolation=cv2.INTER_AREA)
    tree = build_hierarchy(image, (1.5, 3.0), 8.0)
    leaves = int(tree.leaf_of.max()) + 1
    assert len(tree.area) == 2 * leaves - 1
    assert tree.area[-1] == tree.leaf_of.size and (tree.first[-1], tree.last[-1]) == (0, leaves)
    pixels = np.bincount(tree.leaf_of.ravel())
    sums = np.concatenate([[0], np.cumsum(pixels)])
    assert np.array_equal(sums[tree.last] - sums[tree.first], tree.area)
    assert (tree.birth <= tree.death).all()
    inner = np.arange(len(tree.area) - 1)
    assert (tree.parent[inner] > inner).all() and tree.parent[-1] == -1
    assert np.array_equal(tree.birth[tree.parent[inner]], tree.death[inner])
    across = (tree.leaf_of[:, 1:] != tree.leaf_of[:, :-1]).sum() + (tree.leaf_of[1:] != tree.leaf_of[:-1]).sum()
    assert tree.length.sum() == across
    assert (tree.weak <= tree.length).all()


@pytest.mark.parametrize("wrong", [{"max_side": 3}, {"scales": ()}, {"scales": (0.0, 2.0)}])
def test_senseless_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="max_side"):
        RegionConfig(**wrong)  # type: ignore[arg-type]
