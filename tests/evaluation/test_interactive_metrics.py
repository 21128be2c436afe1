"""Each metric against a slow, plain reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from anymask.errors import InputError
from anymask.evaluation.metrics import (
    boundary_iou,
    calibration,
    calibration_error,
    correlation,
    iou_with,
    number_of_clicks,
)

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, threshold=st.sampled_from([0.0, 0.5, 0.85, 0.9, 1.0]))
def test_number_of_clicks_matches_counting_by_hand(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    ious = rng.choice([0.0, 0.3, 0.5, 0.85, 0.9, 1.0], (rng.integers(1, 6), rng.integers(1, 8)))
    expected = []
    for row in ious:
        clicks = len(row)
        for index, iou in enumerate(row):
            if iou >= threshold:
                clicks = index + 1
                break
        expected.append(clicks)
    assert number_of_clicks(ious, threshold).tolist() == expected


def test_number_of_clicks_needs_a_click() -> None:
    with pytest.raises(InputError, match="at least one click"):
        number_of_clicks(np.zeros((3, 0)), 0.9)


def plain_band(mask: np.ndarray, width: int) -> np.ndarray:
    """A mask's pixels near one that is outside, looked for one by one."""
    height, breadth = mask.shape
    band = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        reach = [(y + i, x + j) for i in range(-width, width + 1) for j in range(-width, width + 1)]
        inside = [0 <= row < height and 0 <= column < breadth and mask[row, column] for row, column in reach]
        band[y, x] = not all(inside)
    return band


@given(seed=seeds, share=st.sampled_from([0.02, 0.1, 0.2]))
def test_boundary_iou_matches_bands_looked_for_one_by_one(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 20, 2))
    a, b = (np.zeros(size, bool) for _ in range(2))
    for mask in (a, b):
        for _ in range(2):
            y, x = rng.integers(0, size)
            mask[y : y + rng.integers(0, 15), x : x + rng.integers(0, 15)] = True
    width = max(1, round(share * float(np.hypot(*size))))
    one, other = plain_band(a, width), plain_band(b, width)
    expected = (one & other).sum() / max((one | other).sum(), 1)
    assert boundary_iou(a, b, share) == pytest.approx(expected)


@given(seed=seeds)
def test_iou_matches_sets_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates, truth = rng.random((3, 4, 5)) < 0.4, rng.random((4, 5)) < 0.4
    inside = set(zip(*np.nonzero(truth), strict=True))
    for candidate, iou in zip(candidates, iou_with(candidates, truth), strict=True):
        found = set(zip(*np.nonzero(candidate), strict=True))
        assert iou == (len(found & inside) / len(found | inside) if found | inside else 0)


@given(seed=seeds)
def test_correlation_is_pearsons(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = rng.random(50).astype(np.float32)
    true = 0.3 * predicted + rng.random(50)
    assert correlation(predicted, true) == pytest.approx(pearsonr(predicted, true).statistic, abs=1e-6)
    assert correlation(predicted, -2 * predicted + 5) == pytest.approx(-1)


def test_correlation_with_a_constant_is_none() -> None:
    assert correlation(np.full(9, 0.7), np.linspace(0, 1, 9)) == 0
    assert correlation(np.zeros(0), np.zeros(0)) == 0
    with pytest.raises(InputError, match="as many"):
        correlation(np.zeros(3), np.zeros(2))


@given(seed=seeds, num_bins=st.integers(1, 12))
def test_calibration_matches_bins_filled_by_hand(seed: int, num_bins: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = rng.uniform(-0.1, 1.1, 40), rng.random(40)
    filled: dict[int, list[tuple[float, float]]] = {}
    for p, t in zip(predicted, true, strict=True):
        filled.setdefault(min(max(int(np.floor(p * num_bins)), 0), num_bins - 1), []).append((p, t))
    bins = calibration(predicted, true, num_bins)
    assert [round(b.low * num_bins) for b in bins] == sorted(filled)
    assert sum(b.count for b in bins) == 40
    gap = 0.0
    for found, index in zip(bins, sorted(filled), strict=True):
        pairs = np.array(filled[index])
        assert (found.predicted, found.true) == pytest.approx(tuple(pairs.mean(axis=0)))
        gap += len(pairs) * abs(pairs[:, 0].mean() - pairs[:, 1].mean())
    assert calibration_error(bins) == pytest.approx(gap / 40)


def test_honest_predictions_have_no_calibration_error() -> None:
    values = np.linspace(0, 1, 33)
    assert calibration_error(calibration(values, values)) == pytest.approx(0)
    assert calibration_error(()) == 0
    with pytest.raises(InputError, match="0 bins"):
        calibration(values, values, 0)
