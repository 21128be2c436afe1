"""Pasting: an object's seam in many kinds, so that none gives it away, and seams that belong to no object."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from anymask.data.synthetic.canvas import Canvas, Layer
from anymask.data.synthetic.light import Light
from anymask.data.synthetic.textures import log_uniform, noise, photographic


def blend(rng: np.random.Generator, canvas: Canvas, layer: Layer, light: Light) -> None:
    """Lay an object on the canvas with its shadow and one of several kinds of seam; its mask is the same with all."""
    if rng.random() < 0.8:
        canvas.cast(layer, light)
    kind = rng.random()
    large = min(layer.alpha.shape) > 12
    if kind < 0.2 and large:
        _feather(rng, canvas, layer)
    elif kind < 0.35:
        canvas.add(layer, layer.alpha, _match(rng, canvas, layer))
    elif kind < 0.4 and large:
        _glaze(rng, canvas, layer)
    elif kind < 0.55:
        canvas.add(layer)
        _soften(canvas, layer)
    else:
        canvas.add(layer)


def _feather(rng: np.random.Generator, canvas: Canvas, layer: Layer) -> None:
    """Paint with a softer alpha, the colours carried outwards over the edge."""
    side = int(rng.choice([3, 3, 5]))
    inside = (layer.alpha > 0).astype(np.float32)
    weight = cv2.blur(inside, (side, side))
    spread = (
        cv2.blur(layer.colour * inside[:, :, None], (side, side)) / np.maximum(weight, np.float32(1e-3))[:, :, None]
    )
    colour = np.where(inside[:, :, None] > 0, layer.colour, spread)
    canvas.add(layer, cv2.GaussianBlur(layer.alpha, (side, side), 0), colour)


def _match(rng: np.random.Generator, canvas: Canvas, layer: Layer) -> Float32[np.ndarray, "h w 3"]:
    """The layer's colours moved towards the mean of what is behind it: camouflage."""
    solid = (layer.alpha >= 0.5).astype(np.uint8)
    behind = np.array(cv2.mean(canvas.image[layer.region])[:3], np.float32)
    shift = behind - np.array(cv2.mean(layer.colour, solid)[:3], np.float32)
    matched: Float32[np.ndarray, "h w 3"] = layer.colour + shift * np.float32(rng.uniform(0.4, 1.0))
    return matched


def _glaze(rng: np.random.Generator, canvas: Canvas, layer: Layer) -> None:
    """Paint half transparently, what is behind shifted a little as by glass or film."""
    behind = canvas.image[layer.region]
    shift = rng.uniform(-6, 6, 2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    size = (behind.shape[1], behind.shape[0])
    refracted = cv2.warpAffine(behind, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    share = np.float32(rng.uniform(0.3, 0.7))
    canvas.add(layer, layer.alpha, layer.colour * share + refracted * (1 - share))


def _soften(canvas: Canvas, layer: Layer) -> None:
    """Blur the canvas in a narrow band along the layer's seam."""
    solid = (layer.alpha >= 0.5).astype(np.float32)
    band = 1 - np.abs(cv2.blur(solid, (5, 5)) * 2 - 1)
    region = layer.region
    canvas.image[region] = cv2.blendLinear(cv2.blur(canvas.image[region], (3, 3)), canvas.image[region], band, 1 - band)


def false_seam(rng: np.random.Generator, canvas: Canvas, photographs: Sequence[UInt8[np.ndarray, "h w 3"]]) -> None:
    """Paste a tint or a piece of a photograph that is no object, with a soft unlabelled seam.

    It changes the paint under everything alike, so that a seam by itself never means a mask.
    """
    height, width = canvas.owner.shape
    side = log_uniform(rng, 0.1, 0.7) * min(height, width)
    tall, wide = (min(limit, max(8, int(side * rng.uniform(0.6, 1.6)))) for limit in (height, width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    region = np.s_[top : top + tall, left : left + wide]
    soft = noise(rng, (tall, wide), cell=max(tall, wide) / 3, octaves=2)
    fade_y, fade_x = (np.sin(np.linspace(0, 3.14, n, dtype=np.float32)) for n in (tall, wide))
    share = np.clip(soft * np.sqrt(fade_y[:, None] * fade_x[None, :]) * np.float32(2), 0, 1)
    patch = canvas.image[region]
    if rng.random() < 0.5 or not photographs:
        patch = patch * np.float32(rng.uniform(0.55, 1.35)) + rng.normal(0, 8, 3).astype(np.float32)
    else:
        other = photographic(rng, (tall, wide), photographs[int(rng.integers(len(photographs)))], least=0.1)
        tone = np.array(cv2.mean(patch)[:3], np.float32) - np.array(cv2.mean(other)[:3], np.float32)
        patch = patch * np.float32(0.6) + (other.astype(np.float32) + tone) * np.float32(0.4)
    canvas.image[region] = cv2.blendLinear(patch, canvas.image[region], share, 1 - share)
