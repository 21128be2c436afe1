"""Colours: drawn from photographs or at random, related within a scene so that things overlap in colour."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

Palette = Float32[np.ndarray, "k 3"]


def hsv_colours(hsv: Float32[np.ndarray, "k 3"]) -> Palette:
    """RGB colours in 0..255 of hue (turns, wraps), saturation and value in 0..1."""
    scaled = np.stack([hsv[:, 0] % 1.0 * 360.0, hsv[:, 1].clip(0, 1), hsv[:, 2].clip(0, 1)], axis=1)
    rgb: Palette = cv2.cvtColor(scaled[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0] * 255.0
    return rgb


def from_photograph(rng: np.random.Generator, photograph: UInt8[np.ndarray, "h w 3"], count: int) -> Palette:
    """Colours of pixels of one photograph, picked near one another half of the time."""
    height, width = photograph.shape[:2]
    ys, xs = rng.random(count), rng.random(count)
    if rng.random() < 0.5:
        ys, xs = 0.15 * ys + 0.85 * rng.random(), 0.15 * xs + 0.85 * rng.random()
    return np.asarray(photograph[(ys * height).astype(int), (xs * width).astype(int)], np.float32)


def random_palette(rng: np.random.Generator, count: int) -> Palette:
    """Colours of one mood: any hue, one hue and its neighbours, earthy, or nearly grey."""
    mood = rng.choice(4, p=[0.25, 0.35, 0.25, 0.15])
    value = rng.beta(1.6, 1.4, count)
    hue = rng.random(count)
    saturation = rng.beta(1.5, 1.8, count)
    if mood == 1:
        hue = rng.random() + rng.normal(0, 0.05, count)
    elif mood == 2:
        hue, saturation = rng.uniform(0.02, 0.4) + rng.normal(0, 0.04, count), saturation * 0.6
    elif mood == 3:
        saturation = saturation * 0.15
    return hsv_colours(np.stack([hue, saturation, value], axis=1).astype(np.float32))


def draw_palette(
    rng: np.random.Generator, photographs: Sequence[UInt8[np.ndarray, "h w 3"]], count: int = 8
) -> Palette:
    """A scene's colours: from a photograph two times in three where there are any, else at random."""
    if photographs and rng.random() < 0.66:
        return from_photograph(rng, photographs[int(rng.integers(len(photographs)))], count)
    return random_palette(rng, count)


def ramp(rng: np.random.Generator, palette: Palette) -> UInt8[np.ndarray, "256 1 3"]:
    """A colour table for a scalar field: two to five stops of the palette, smooth or in steps, of any contrast."""
    stops = palette[rng.integers(0, len(palette), int(rng.integers(2, 6)))]
    contrast = rng.beta(1.3, 1.5)
    anchor = stops[0] if rng.random() < 0.5 else stops.mean(axis=0)
    stops = anchor + (stops - anchor) * max(0.08, contrast) + rng.normal(0, 4, stops.shape)
    if rng.random() < 0.35:
        stops = stops * np.linspace(rng.uniform(0.5, 1), rng.uniform(1, 1.4), len(stops))[:, None]
    places = np.sort(rng.random(len(stops)))
    grid = np.linspace(0, 1, 256)
    if rng.random() < 0.25:
        table = stops[np.searchsorted(places[1:], grid)]
    else:
        table = np.stack([np.interp(grid, places, stops[:, channel]) for channel in range(3)], axis=1)
    return np.asarray(table.clip(0, 255)[:, None], np.uint8)
