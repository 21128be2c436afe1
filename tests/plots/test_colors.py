from __future__ import annotations

import numpy as np
import pytest

from anymask.plots import oklch_to_rgb, palette


def _oklab(rgb: np.ndarray) -> np.ndarray:
    """The way back, from the space's definition: sRGB to linear, to cone responses, to (lightness, a, b)."""
    encoded = rgb / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.array(to_lms).T) @ np.array(to_lab).T


def test_conversion_agrees_with_known_colors() -> None:
    lightness, chroma = np.array([0.0, 1.0, 0.627955]), np.array([0.0, 0.0, 0.257683])
    assert oklch_to_rgb(lightness, chroma, np.array([0.0, 0.0, 29.234])).tolist() == [
        [0, 0, 0],
        [255, 255, 255],
        [255, 0, 0],
    ]


def test_colors_are_equally_light_and_keep_their_hue_where_the_screen_ends() -> None:
    lab = _oklab(palette(64))
    assert np.ptp(lab[:, 0]) < 0.01
    hue = np.rad2deg(np.arctan2(lab[:, 2], lab[:, 1]))
    wanted = 258.0 + 180 * (3 - 5**0.5) * np.arange(64)
    assert np.abs((hue - wanted + 180) % 360 - 180).max() < 2


def test_few_colors_are_far_apart_and_do_not_depend_on_how_many_there_are() -> None:
    lab = _oklab(palette(8))
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + np.eye(8)
    assert distance.min() > 0.05
    assert (palette(8) == palette(100)[:8]).all()


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one(count: int) -> None:
    assert palette(count).shape == (count, 3)
