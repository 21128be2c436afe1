"""Light of one scene: the modelling of surfaces, highlights, cast and dappled shadows, vignettes, coloured lamps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from anymask.data.synthetic.textures import log_uniform, noise, unit


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """How one object takes the light: its roundness, its bumps and how it reflects.

    `bevel` is the share of the body's half-width over which it is rounded (above 1 it never gets flat), `relief` the
    height of bumps relative to it, `grain` their size in pixels. `response` maps 256 levels of light to gains: a line
    for matt things, a wild curve for metal. A `sunken` surface is a hollow instead of a hill.
    """

    light: Light
    bevel: float
    relief: float
    grain: float
    gloss: float
    sunken: bool
    response: Float32[np.ndarray, " 256"]

    def shade(
        self, rng: np.random.Generator, colour: Float32[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"]
    ) -> None:
        """Light a patch of colour in place as a body of this coverage; the height map is a dome over its silhouette."""
        distance = cv2.distanceTransform((alpha >= 128).astype(np.uint8), cv2.DIST_L2, 3)
        # A silhouette without any edge in sight has no distance: OpenCV answers with the largest float.
        distance = np.minimum(distance, np.float32(max(alpha.shape)))
        radius = max(1.0, float(distance.max()) * self.bevel)
        rest = 1.0 - np.minimum(distance * np.float32(1 / radius), np.float32(1))
        height = np.sqrt(np.maximum(1.0 - rest * rest, 0)) * np.float32(radius * (-0.8 if self.sunken else 0.8))
        blur = 3 if radius < 12 else 7
        height = cv2.blur(height, (blur, blur))
        if self.relief > 0 and radius > 4:
            bumps = noise(rng, alpha.shape, cell=min(self.grain, 2 * radius), octaves=4, gain=0.55)
            height += np.abs(bumps - np.float32(0.5)) * np.float32(self.relief * min(self.grain, 2 * radius))
        slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
        slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
        facing = slope_x * np.float32(self.light.direction[0]) + slope_y * np.float32(self.light.direction[1])
        lit = (np.float32(0.8) - facing * np.float32(0.6)) / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
        lit = np.clip(lit, 0, 1)
        gain = cv2.LUT((lit * np.float32(255)).astype(np.uint8), self.response)
        cv2.multiply(colour, cv2.merge([gain, gain, gain]), dst=colour)
        if self.gloss > 0:
            glint = np.maximum(lit - np.float32(0.8), 0) * np.float32(5)
            colour += (glint * glint * np.float32(self.gloss * 255))[:, :, None]


def draw_surface(rng: np.random.Generator, light: Light, *, sunken: bool = False) -> Surface:
    """The surface of one object: mostly matt and smooth, at times bumpy or crumpled, glossy, or metal."""
    level = np.linspace(0, 1, 256, dtype=np.float32)
    response = np.maximum(1 + light.modelling * (level - 0.75), 0.12)
    if rng.random() < 0.12:
        knots = int(rng.integers(4, 10))
        response = np.interp(level, np.linspace(0, 1, knots), rng.uniform(0.35, 1.6, knots))
    bumpy = rng.random() < 0.35
    return Surface(
        light=light,
        bevel=float(rng.choice([0.3, 0.7, 1.0, 1.3])),
        relief=log_uniform(rng, 0.2, 2.0) if bumpy else 0.0,
        grain=log_uniform(rng, 4, 60),
        gloss=light.gloss if rng.random() < 0.6 else 0.0,
        sunken=sunken,
        response=response.astype(np.float32),
    )


def dapple(rng: np.random.Generator, size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """Shadows of things out of sight, as factors: leaves, a straight edge, bars."""
    depth = np.float32(rng.uniform(0.25, 0.75))
    kind = rng.random()
    if kind < 0.6:
        field = noise(rng, size, cell=log_uniform(rng, 15, 120), octaves=4, gain=0.6)
    else:
        angle = rng.uniform(0, 2 * np.pi)
        x, y = np.cos(angle) * np.arange(size[1]), np.sin(angle) * np.arange(size[0])
        field = unit((y[:, None] + x[None, :]).astype(np.float32))
        if kind > 0.8:
            field = np.abs((field * np.float32(rng.integers(2, 9))) % 1.0 - np.float32(0.5)) * 2
    threshold, sharpness = rng.uniform(0.35, 0.65), log_uniform(rng, 6, 60)
    shade = np.clip((field - np.float32(threshold)) * np.float32(sharpness) + np.float32(0.5), 0, 1)
    return np.asarray(1 - depth * shade, np.float32)


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
    elif kind < 0.95:
        warmth = rng.normal(0, 0.2)
        gains = np.exp([warmth, 0.2 * rng.normal(0, 0.2), -warmth])
    else:
        gains = np.array([1.1, 1.1, 1.1])
        gains[int(rng.integers(3))] = rng.uniform(0.2, 0.7)
    return gains.astype(np.float32)
