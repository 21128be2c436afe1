"""The plots are looked at by people; here they must hold what they were given."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from anymask.errors import InputError
from anymask.plots import curves

PREDICTED = np.array([0.15, 0.45, 0.85])
COUNTS = np.array([10, 40, 20])


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def _accent_rows(png: bytes) -> np.ndarray:
    blue = np.abs(_pixels(png) - [0x2F, 0x6F, 0xDB]).sum(axis=2) < 30
    return np.flatnonzero(blue.any(axis=1))


def test_a_better_model_is_drawn_higher() -> None:
    low = _accent_rows(curves.calibration(PREDICTED, PREDICTED * 0.5, COUNTS))
    high = _accent_rows(curves.calibration(PREDICTED, np.minimum(PREDICTED * 1.1, 1), COUNTS))
    assert low.size and high.size
    assert high.mean() < low.mean()  # rows count downwards


def test_the_same_figures_make_the_same_file() -> None:
    first = curves.calibration(PREDICTED, PREDICTED, COUNTS, title="val")
    assert first == curves.calibration(PREDICTED, PREDICTED, COUNTS, title="val")


def test_lengths_must_match() -> None:
    with pytest.raises(InputError, match="3 predicted, 2 true values and 3 counts do not match"):
        curves.calibration(PREDICTED, PREDICTED[:2], COUNTS)


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install 'anymask\[plots\]'"):
        curves.calibration(PREDICTED, PREDICTED, COUNTS)
