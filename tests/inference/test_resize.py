from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from anymask.geometry.frames import Frame
from anymask.inference.resize import mask_to_logits, resize_image, upsample_logits

SIZES = [(60, 100), (1, 1), (1, 7), (37, 1000), (1700, 90), (300, 300), (256, 256), (333, 500)]


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((y + 0.5 - 0.45 * height) / (0.4 * height)) ** 2 + ((x + 0.5 - 0.6 * width) / (0.35 * width)) ** 2 < 1


def up(logits: np.ndarray, frame: Frame) -> np.ndarray:
    low = torch.from_numpy(logits)[None, None]
    full = upsample_logits(low, model_size=frame.model_size, resized=frame.resized, original=frame.original)
    return full[0, 0].numpy() > 0


def test_images_are_resized_by_pillows_bilinear_filter(picture: Callable[..., np.ndarray]) -> None:
    image = picture(90, 70)
    resized = resize_image(image[::-1, :, ::-1], (45, 35))
    expected = Image.fromarray(np.ascontiguousarray(image[::-1, :, ::-1])).resize((35, 45), Image.Resampling.BILINEAR)
    assert_array_equal(resized, np.array(expected))
    assert resized.shape == (45, 35, 3) and resized.dtype == np.uint8


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [2, 4])
def test_a_mask_survives_being_a_prompt(size: tuple[int, int], stride: int) -> None:
    frame = Frame(size, 256)
    for mask in (disc(*size), ~disc(*size), np.ones(size, bool), np.zeros(size, bool)):
        logits = mask_to_logits(mask, frame, 256 // stride)
        assert logits.shape == (256 // stride,) * 2 and logits.dtype == np.float32
        assert np.abs(logits).max() <= 10
        back = up(logits, frame)
        # Only pixels within a low-resolution cell of the edge may change sides.
        reach = int(np.ceil(stride * max(size) / 256)) + 1
        around = np.ones((2 * reach + 1,) * 2, np.uint8)
        inner = cv2.erode(mask.astype(np.uint8), around) > 0
        near = cv2.dilate(mask.astype(np.uint8), around) > 0
        assert_array_equal(back[inner], True)
        assert_array_equal(back[~near], False)
        if mask.all() or not mask.any():
            assert_array_equal(back, mask)


def test_mask_logits_say_how_much_of_a_cell_is_covered() -> None:
    mask = np.zeros((200, 400), bool)
    mask[:, :200] = True
    mask[:8, 200:202] = True
    logits = mask_to_logits(mask, Frame((200, 400), 200), 50)  # 8 × 8 original pixels per cell
    assert_allclose(logits[:25, :25], 10)
    assert_allclose(logits[0, 25], -5, atol=0.1)
    assert_allclose(logits[1:25, 25], -10)
    assert_allclose(logits[:25, 26:], -10)
    assert_allclose(logits[25:], -10)


def test_upsampling_ignores_the_padding() -> None:
    frame = Frame((100, 200), 256)
    logits = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[..., 34:, :] = 99  # the image ends with row 32; bilinear weights reach one row further
    sizes = {"model_size": 256, "resized": frame.resized, "original": frame.original}
    full = upsample_logits(logits, **sizes)
    assert full.shape == (1, 1, 100, 200)
    assert torch.equal(full, upsample_logits(other, **sizes))
