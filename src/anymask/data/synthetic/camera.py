"""The camera: exposure, white balance, blur, resampling, noise and JPEG, which move no edge."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from anymask.data.synthetic.light import lamp, vignette


def expose(rng: np.random.Generator, image: Float32[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A photograph of the painted scene: light and colour cast, lens, sensor noise, tone curve and compression."""
    image = image * lamp(rng)
    if rng.random() < 0.85:
        brightness = max(float(image.mean()), 4.0)
        image *= np.float32((rng.uniform(75, 170) / brightness) ** rng.uniform(0.6, 1.0))
    if rng.random() < 0.5:
        image *= vignette(rng, (image.shape[0], image.shape[1]))[:, :, None]
    image = _lens(rng, image)
    if rng.random() < 0.7:
        image = _sensor(rng, image)
    picture = _tone(rng, image)
    if rng.random() < 0.08:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _compress(rng, picture)


def _lens(rng: np.random.Generator, image: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Defocus, motion, or a loss of resolution; sharp two times in five."""
    kind = rng.random()
    height, width = image.shape[:2]
    if kind < 0.3:
        return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.3)))
    if kind < 0.36:
        length = int(rng.integers(2, 6))
        kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        a, b = (length - reach).round().astype(int), (length + reach).round().astype(int)
        cv2.line(kernel, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 1.0)
        return cv2.filter2D(image, -1, kernel / kernel.sum())
    if kind < 0.55:
        factor = float(rng.uniform(0.5, 0.9))
        small = cv2.resize(image, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if kind < 0.63:
        soft = cv2.GaussianBlur(image, (0, 0), 1.2)
        return cv2.addWeighted(image, 1.8, soft, -0.8, 0)
    return image


def _sensor(rng: np.random.Generator, image: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Read noise and shot noise; at times coarse-grained, as after denoising."""
    height, width = image.shape[:2]
    read, shot = rng.exponential(2.5), rng.exponential(0.25)
    # Four summed bytes are normal enough and four times faster than true normals.
    grain = np.frombuffer(rng.bytes(12 * height * width), np.uint8).reshape(4, height, width, 3)
    grain = (grain.sum(axis=0, dtype=np.uint16).astype(np.float32) - 510) * np.float32(1 / 147.8)
    if rng.random() < 0.3:
        grain = cv2.blur(grain, (2, 2)) * np.float32(1.7)
    level = np.sqrt(np.maximum(image, 0)) * np.float32(shot) + np.float32(read)
    return np.asarray(image + grain * level, np.float32)


def _tone(rng: np.random.Generator, image: Float32[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Gamma, contrast and brightness by a lookup table; over- and underexposure included."""
    gamma, contrast, lift = np.exp(rng.normal(0, 0.22)), np.exp(rng.normal(0, 0.15)), rng.normal(0, 10)
    levels = np.arange(256) / 255
    curve = ((levels**gamma - 0.5) * contrast + 0.5) * 255 + lift
    exposed, table = np.clip(image, 0, 255).astype(np.uint8), np.clip(curve, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(exposed, table), np.uint8)


def _compress(rng: np.random.Generator, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A JPEG round trip two times in three."""
    if rng.random() > 0.66:
        return picture
    quality = int(rng.integers(30, 96))
    # Channels stay in their order: what OpenCV takes for blue is red, which JPEG treats nearly alike.
    _, stored = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)
