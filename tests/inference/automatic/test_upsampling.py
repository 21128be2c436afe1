from __future__ import annotations

import numpy as np
import pytest
import torch

from anymask.geometry import boxes
from anymask.geometry.frames import Frame
from anymask.inference.automatic.upsampling import (
    LogitWindow,
    column_bands,
    cut_window,
    inner_box,
    num_samples,
    outer_box,
)
from anymask.inference.resize import upsample_logits

SIZES = [(60, 100), (1, 1), (1, 7), (7, 1), (37, 1000), (1700, 90), (256, 256), (333, 500), (900, 1350), (1, 3000)]
SIDES = [(256, 128), (1024, 256), (128, 64)]


def whole(logits: torch.Tensor, frame: Frame) -> torch.Tensor:
    sizes = {"model_size": frame.model_size, "resized": frame.resized, "original": frame.original}
    return upsample_logits(logits[None, None], **sizes)[0, 0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("model_size", "mask_size"), SIDES)
def test_a_window_is_a_part_of_the_whole(size: tuple[int, int], model_size: int, mask_size: int) -> None:
    frame, generator = Frame(size, model_size), np.random.default_rng(model_size)
    logits = 5 * torch.randn(mask_size, mask_size, generator=torch.Generator().manual_seed(0))
    expected = whole(logits, frame)
    for _ in range(5):
        (x0, x1), (y0, y1) = (np.sort(generator.choice(side + 1, 2, replace=False)).tolist() for side in size[::-1])
        window = LogitWindow(logits=logits, origin=(0, 0), box=(x0, y0, x1, y1))
        bands = [band for _, band in column_bands(window, frame, mask_size, (x1 - x0) * size[0])]
        found = torch.cat(bands, 1) if bands else logits.new_zeros(y1 - y0, 0)
        assert found.shape == (y1 - y0, x1 - x0) and found.dtype == torch.float32
        torch.testing.assert_close(found, expected[y0:y1, x0:x1], rtol=0, atol=5e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("model_size", "mask_size"), SIDES)
def test_a_cut_window_holds_all_that_exceeds_the_threshold(
    size: tuple[int, int], model_size: int, mask_size: int
) -> None:
    frame, generator = Frame(size, model_size), np.random.default_rng(mask_size)
    rows, columns = num_samples(frame, mask_size)
    for _ in range(5):
        logits = torch.from_numpy(generator.normal(-9, 1, (mask_size, mask_size)).astype(np.float32))
        y, x = generator.integers(rows), generator.integers(columns)
        logits[y : y + generator.integers(1, 20), x : x + generator.integers(1, 20)] += 14
        above = logits[:rows, :columns] > -1
        x0, y0, x1, y1 = boxes.from_masks_torch(above).tolist()
        window = cut_window(logits, (x0, y0, x1, y1), frame)
        expected, found = whole(logits, frame) > -1, torch.zeros(size, dtype=torch.bool)
        for start, band in column_bands(window, frame, mask_size, max_pixels=500):
            found[window.box[1] : window.box[3], start : start + band.shape[1]] = band > -1
        assert torch.equal(found, expected)
        if not expected.any():
            continue
        true_box = boxes.from_masks_torch(expected).numpy()
        outer = outer_box((x0, y0, x1, y1), frame, mask_size)
        assert (true_box[:2] >= outer[:2]).all() and (true_box[2:] <= outer[2:]).all()
        seen_rows, seen_columns = (max(round(side * mask_size / model_size), 1) for side in frame.resized)
        above = above[:seen_rows, :seen_columns]
        blocks = boxes.from_masks_torch(above[1:, 1:] & above[:-1, 1:] & above[1:, :-1] & above[:-1, :-1]).tolist()
        inner = inner_box(tuple(blocks), frame, mask_size)
        if blocks[2] and inner[0] < inner[2] and inner[1] < inner[3]:
            assert (true_box[:2] <= inner[:2]).all() and (true_box[2:] >= inner[2:]).all()


def test_a_window_costs_no_more_than_itself() -> None:
    frame = Frame((30_000, 40_000), 1024)
    logits = torch.zeros(256, 256)
    logits[100:104, 50:60] = 1
    window = cut_window(logits, (50, 100, 60, 104), frame)
    assert window.logits.shape == (10, 16)
    x0, y0, x1, y1 = window.box
    assert (x1 - x0) * (y1 - y0) < 0.005 * 30_000 * 40_000
    bands = list(column_bands(window, frame, 256, max_pixels=100_000))
    assert max(band.numel() for _, band in bands) <= 100_000
    assert sum(band.shape[1] for _, band in bands) == x1 - x0
