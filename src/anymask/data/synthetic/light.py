"""Light of one scene: shading from a height map, highlights, cast shadows, vignettes and coloured lamps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A distant lamp: the image direction it shines towards, and how strongly it models, casts shadows and glints."""

    direction: tuple[float, float]
    modelling: float
    shadow: float
    shadow_reach: float
    shadow_blur: float
    gloss: float


def draw_light(rng: np.random.Generator, size: int) -> Light:
    """A light from any side; overcast (no shadows) one time in three."""
    angle = rng.uniform(0, 2 * np.pi)
    sunny = rng.random() < 0.66
    return Light(
        direction=(float(np.cos(angle)), float(np.sin(angle))),
        modelling=float(rng.beta(1.5, 1.5) * 1.1),
        shadow=float(rng.uniform(0.15, 0.75)) if sunny else 0.0,
        shadow_reach=float(rng.uniform(0.005, 0.07) * size),
        shadow_blur=float(rng.choice([0.6, 1.5, 4.0])),
        gloss=float(rng.choice([0.0, 0.0, 0.3, 0.8])),
    )


def shading(
    rng: np.random.Generator, light: Light, alpha: UInt8[np.ndarray, "h w"]
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"] | None]:
    """The factor by which a rounded body of this silhouette is lit, and its highlight (added, 0..1), if it is glossy.

    The height map is a dome over the distance to the silhouette's edge; where it is narrow, the top is flat.
    """
    distance = cv2.distanceTransform((alpha >= 128).astype(np.uint8), cv2.DIST_L2, 3)
    # A silhouette without any edge in sight has no distance: OpenCV answers with the largest float.
    distance = np.minimum(distance, np.float32(max(alpha.shape)))
    radius = max(1.0, float(distance.max()) * float(rng.choice([0.3, 0.7, 1.0, 1.3])))
    rest = 1.0 - np.minimum(distance * np.float32(1 / radius), np.float32(1))
    height = np.sqrt(np.maximum(1.0 - rest * rest, 0)) * np.float32(radius * 0.8)
    height = cv2.blur(height, (3, 3)) if radius < 12 else cv2.blur(height, (7, 7))
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    facing = slope_x * np.float32(light.direction[0]) + slope_y * np.float32(light.direction[1])
    norm = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    lit = (np.float32(0.8) - facing * np.float32(0.6)) * norm
    gain = np.maximum(1.0 + np.float32(light.modelling) * (lit - np.float32(0.75)), np.float32(0.12))
    if light.gloss <= 0 or rng.random() < 0.4:
        return gain, None
    glint = np.maximum((lit - np.float32(0.8)) * np.float32(5), 0)
    return gain, glint * glint * np.float32(light.gloss)


def vignette(rng: np.random.Generator, size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """A smooth factor over the image: a slope, a pool of light or dark corners."""
    coarse = rng.normal(1.0, 0.18, (3, 3)).astype(np.float32)
    if rng.random() < 0.4:
        coarse[1, 1] += np.float32(rng.uniform(0, 0.6))
    field = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.maximum(field, np.float32(0.2))


def lamp(rng: np.random.Generator) -> Float32[np.ndarray, " 3"]:
    """The colour of the light as gains: mostly near white, at times warm, cold or a saturated grow lamp."""
    kind = rng.random()
    if kind < 0.6:
        gains = np.exp(rng.normal(0, 0.06, 3))
    elif kind < 0.93:
        warmth = rng.normal(0, 0.22)
        gains = np.exp([warmth, 0.2 * rng.normal(0, 0.2), -warmth])
    else:
        gains = np.array([1.1, 1.1, 1.1])
        gains[int(rng.integers(3))] = rng.uniform(0.25, 0.7)
    return gains.astype(np.float32)
