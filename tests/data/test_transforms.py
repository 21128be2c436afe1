"""Image and masks stay one picture under every variation; what cannot be learned from is dropped."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymask.data.sample import Sample
from anymask.data.transforms import TransformConfig, VariedSample, transform
from anymask.geometry.frames import resized_size
from anymask.inference.resize import resize_image

S, G = 128, 64
PLAIN = TransformConfig()
WILD = TransformConfig(scale=(0.4, 2.5), aspect=0.5, flip=True, turn=0.6)


def shape_sample(height: int, width: int, seed: int = 0) -> Sample:
    """White shapes on black, an L and a disc: neither looks the same turned or mirrored about its place."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    side = min(height, width)
    cy, cx = rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width
    bar = (np.abs(x - cx) < 0.1 * side) & (np.abs(y - cy) < 0.28 * side)
    foot = (np.abs(x - cx - 0.15 * side) < 0.25 * side) & (np.abs(y - cy - 0.2 * side) < 0.08 * side)
    mask = bar | foot
    image = np.repeat((mask * np.uint8(255))[:, :, None], 3, axis=2)
    return Sample(key="shape", image=image, masks=mask[None])


def seen_on_grid(item: VariedSample) -> np.ndarray:
    """The white of the image, on the grid of the masks."""
    return item.image[..., 0].reshape(G, S // G, G, S // G).mean((1, 3)) > 127


def vary(sample: Sample, config: TransformConfig, seed: int = 0) -> VariedSample | None:
    return transform(sample, config, image_size=S, mask_size=G, rng=np.random.default_rng(seed))


@settings(deadline=None, max_examples=150)
@given(st.integers(40, 400), st.integers(40, 400), st.integers(0, 2**31))
def test_masks_lie_where_the_image_shows_them(height: int, width: int, seed: int) -> None:
    item = vary(shape_sample(height, width, seed), WILD, seed)
    if item is None:
        return
    (mask,), seen = item.masks, seen_on_grid(item)
    # They may differ in cells that an outline crosses, and there in one cell's width at most.
    inside, around = np.pad(mask, 1, mode="edge"), np.zeros_like(mask)
    for dy in range(3):
        for dx in range(3):
            around |= inside[dy : dy + G, dx : dx + G] != mask
    assert not ((seen != mask) & ~around & item.valid).any()


@pytest.mark.parametrize("size", [(90, 160), (160, 90), (300, 300), (128, 128), (31, 47), (1000, 300)])
def test_without_jitter_the_image_is_that_of_inference(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (8, 8, 3)).astype(np.float32)
    rows, columns = (np.linspace(0, 6.99, side) for side in size)
    y, x = rows.astype(int)[:, None], columns.astype(int)[None]
    fy, fx = (rows % 1)[:, None, None], (columns % 1)[None, :, None]
    smooth = (1 - fy) * ((1 - fx) * coarse[y, x] + fx * coarse[y, x + 1]) + fy * (
        (1 - fx) * coarse[y + 1, x] + fx * coarse[y + 1, x + 1]
    )
    image = smooth.round().astype(np.uint8)
    item = vary(
        Sample(key="", image=image, masks=np.ones((1, *size), bool) & (x < size[1] * 3)), replace(PLAIN, max_share=1.0)
    )
    assert item is not None
    assert item.size == resized_size(size, S)
    wanted = resize_image(image, item.size)
    got = item.image[: item.size[0], : item.size[1]].astype(int)
    assert np.abs(got - wanted).mean() < 1.5
    assert np.abs(got - wanted)[2:-2, 2:-2].max(initial=0) <= 12


def test_padding_is_zero_and_marked() -> None:
    sample = shape_sample(80, 160)
    item = vary(replace(sample, image=np.maximum(sample.image, 9)), PLAIN)
    assert item is not None
    assert item.size == (64, 128)
    assert (item.image[:64] > 0).all() and not item.image[64:].any()
    assert item.valid[:32].all() and not item.valid[32:].any()
    assert not item.masks[:, 32:].any()


def test_small_images_are_scaled_up_and_zoomed_out_ones_padded() -> None:
    grown = vary(shape_sample(40, 40), PLAIN)
    assert grown is not None and grown.size == (S, S)
    shrunk = vary(shape_sample(400, 400), replace(PLAIN, scale=(0.5, 0.5)))
    assert shrunk is not None and shrunk.size == (S // 2, S // 2)
    zoomed = vary(shape_sample(400, 400), replace(PLAIN, scale=(1.5, 1.5)))
    assert zoomed is not None and zoomed.size == (S, S) and zoomed.masks.sum() > 3.5 * shrunk.masks.sum()


def test_masks_too_small_or_too_large_are_dropped() -> None:
    masks = np.zeros((4, S, S), bool)
    masks[0, :4, :4] = True  # 4 cells
    masks[1, 10:16, 10:16] = True  # 9 cells
    masks[2, :112] = True  # 87.5 %
    masks[3, :122] = True  # 95 %
    sample = Sample(key="", image=np.zeros((S, S, 3), np.uint8), masks=masks)
    item = vary(sample, replace(PLAIN, min_cells=8))
    assert item is not None
    assert item.masks.sum((1, 2)).tolist() == [9, 56 * 64]
    assert vary(replace(sample, masks=masks[[0, 3]]), PLAIN) is None


def test_share_is_of_the_visible_image_not_of_the_padding() -> None:
    masks = np.zeros((1, 64, 128), bool)
    masks[0, :60] = True
    assert vary(Sample(key="", image=np.zeros((64, 128, 3), np.uint8), masks=masks), PLAIN) is None


def test_masks_reach_the_borders_of_the_image() -> None:
    masks = np.zeros((1, 50, 70), bool)
    masks[0, 20:, 30:] = True
    item = vary(Sample(key="", image=np.zeros((50, 70, 3), np.uint8), masks=masks), PLAIN)
    assert item is not None
    rows, columns = item.valid.any(1).sum(), item.valid.any(0).sum()
    assert item.masks[0, rows - 1, columns - 1] and item.masks[0].any(0)[columns - 1] and item.masks[0].any(1)[rows - 1]


@pytest.mark.parametrize("quarters", range(4))
def test_turns_are_those_of_numpy(quarters: int) -> None:
    """A square image, turned before or in the transform, comes out the same."""
    sample = shape_sample(S, S, 3)
    found = set()
    for seed in range(40):
        item = vary(sample, replace(PLAIN, turn=1.0), seed)
        assert item is not None
        found |= {k for k in range(4) if np.array_equal(np.rot90(sample.image, k), item.image)}
    assert found == {1, 2, 3}
    turned = Sample(
        key="", image=np.rot90(sample.image, quarters).copy(), masks=np.rot90(sample.masks, quarters, (1, 2)).copy()
    )
    item, plain = vary(turned, PLAIN), vary(sample, PLAIN)
    assert item is not None and plain is not None
    assert np.array_equal(item.masks, np.rot90(plain.masks, quarters, (1, 2)))


def test_flips_mirror_image_and_masks() -> None:
    sample = shape_sample(S, S, 3)
    items = [vary(sample, replace(PLAIN, flip=True), seed) for seed in range(20)]
    kinds = set()
    for item in items:
        assert item is not None
        is_mirrored = np.array_equal(item.image, sample.image[:, ::-1])
        assert is_mirrored or np.array_equal(item.image, sample.image)
        assert np.array_equal(seen_on_grid(item), item.masks[0])
        kinds.add(is_mirrored)
    assert kinds == {True, False}


def test_the_generator_decides_everything() -> None:
    sample = shape_sample(200, 150)
    config = replace(WILD, color=1.0, gray=0.3, blur=0.5)
    for seed in range(10):
        first, second = vary(sample, config, seed), vary(sample, config, seed)
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert np.array_equal(first.image, second.image) and np.array_equal(first.masks, second.masks)
    images = [item.image.tobytes() for seed in range(10) if (item := vary(sample, config, seed)) is not None]
    assert len(set(images)) == len(images) > 3


def test_color_leaves_shapes_alone_and_gray_leaves_no_color() -> None:
    rng = np.random.default_rng(5)
    sample = Sample(key="", image=rng.integers(0, 255, (S, S, 3)).astype(np.uint8), masks=np.eye(S, dtype=bool)[None])
    plain = vary(sample, replace(PLAIN, min_cells=1))
    colored = vary(sample, replace(PLAIN, min_cells=1, color=1.0))
    gray = vary(sample, replace(PLAIN, min_cells=1, gray=1.0))
    assert plain is not None and colored is not None and gray is not None
    assert np.array_equal(plain.masks, colored.masks)
    assert not np.array_equal(plain.image, colored.image)
    assert (gray.image == gray.image[..., :1]).all()


@pytest.mark.parametrize("wrong", [{"scale": (2.0, 1.0)}, {"scale": (0.0, 1.0)}, {"turn": 1.5}, {"min_cells": 0}])
def test_senseless_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TransformConfig(**wrong)  # type: ignore[arg-type]
