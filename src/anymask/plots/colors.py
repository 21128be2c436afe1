"""Colours that are equally light and equally strong to the eye, as many as are asked for.

Source: the OKLab colour space (B. Ottosson, 2020), in its polar form: lightness 0 to 1, chroma, hue in degrees.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

_LIGHTNESS = 0.70
_CHROMA = 0.17
_FIRST_HUE = 258.0
"""Blue: the hue that is rarest in photographs, so the first object stands out."""
_GOLDEN_ANGLE = 180.0 * (3.0 - 5.0**0.5)
_HALVINGS = 12

_LAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def palette(num_colors: int, *, lightness: float = _LIGHTNESS, chroma: float = _CHROMA) -> UInt8[np.ndarray, "n 3"]:
    """Return RGB colours whose hues are a golden angle apart, so that any first few of them are far apart.

    A colour depends on its place alone, not on `num_colors`.
    """
    hues = _FIRST_HUE + _GOLDEN_ANGLE * np.arange(num_colors)
    return oklch_to_rgb(np.full(num_colors, lightness), np.full(num_colors, chroma), hues)


def oklch_to_rgb(
    lightness: Float[np.ndarray, " n"], chroma: Float[np.ndarray, " n"], hue: Float[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n 3"]:
    """Convert to sRGB; what a screen cannot show loses chroma until it can, and keeps lightness and hue."""
    low, high = np.zeros_like(chroma), chroma
    shown = _is_shown(_linear_rgb(lightness, chroma, hue))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = _is_shown(_linear_rgb(lightness, middle, hue))
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    linear = _linear_rgb(lightness, np.where(shown, chroma, low), hue).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray((encoded * 255).round(), np.uint8)


def _linear_rgb(
    lightness: Float[np.ndarray, " n"], chroma: Float[np.ndarray, " n"], hue: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 3"]:
    angle = np.deg2rad(hue)
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=1)
    return np.asarray((lab @ _LAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T)


def _is_shown(linear: Float[np.ndarray, "n 3"]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray(((linear >= -1e-4) & (linear <= 1 + 1e-4)).all(axis=1))
