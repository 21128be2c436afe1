"""The materials of one scene: a few textures shared by all its objects, so that things are alike and differ subtly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from anymask.data.synthetic.palettes import Palette, draw_palette
from anymask.data.synthetic.textures import Texture, draw_texture, log_uniform

Colour = Float32[np.ndarray, "h w 3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A way to colour a surface: a texture, its scale, and a gain, an offset and a flattening of its colours."""

    texture: Texture
    scale: float
    gain: tuple[float, float, float]
    offset: tuple[float, float, float]
    contrast: float

    @classmethod
    def of(cls, texture: Texture, scale: float = 1.0) -> Material:
        """A texture as it is."""
        return cls(texture=texture, scale=scale, gain=(1.0, 1.0, 1.0), offset=(0.0, 0.0, 0.0), contrast=1.0)

    def sample(self, rng: np.random.Generator, height: int, width: int) -> Colour:
        """A patch of `height` × `width` pixels from a random place, as float RGB around 0..255."""
        limit_y, limit_x = self.texture.shape[:2]
        tall, wide = min(limit_y, int(height / self.scale) + 1), min(limit_x, int(width / self.scale) + 1)
        top, left = int(rng.integers(0, limit_y - tall + 1)), int(rng.integers(0, limit_x - wide + 1))
        patch = self.texture[top : top + tall, left : left + wide]
        if (tall, wide) != (height, width):
            patch = cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
        gain, offset = np.array(self.gain, np.float32), np.array(self.offset, np.float32)
        if self.contrast < 1.0:
            mean = np.array(cv2.mean(patch)[:3], np.float32)
            offset, gain = offset + mean * gain * np.float32(1 - self.contrast), gain * np.float32(self.contrast)
        table = np.arange(256, dtype=np.float32)[None, :, None] * gain + offset
        return np.asarray(cv2.LUT(patch, table), np.float32)

    def vary(self, rng: np.random.Generator, strength: float) -> Material:
        """The same texture in slightly other colours; `strength` 1 is clearly visible."""
        shade = float(np.exp(rng.normal(0, 0.12 * strength)))
        gains = np.array(self.gain) * shade * np.exp(rng.normal(0, 0.06 * strength, 3))
        offsets = np.array(self.offset) + rng.normal(0, 8 * strength, 3)
        return replace(self, gain=_triple(gains), offset=_triple(offsets))


def _triple(values: Float[np.ndarray, " 3"]) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


class Materials:
    """The textures of one scene and the draw of materials from them."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: int,
        photographs: Sequence[UInt8[np.ndarray, "h w 3"]],
        *,
        count: int,
    ) -> None:
        """Make `count` textures of `size` pixels square; they share a palette or have their own."""
        self.size = size
        self.photographs = photographs
        self.palettes: list[Palette] = [draw_palette(rng, photographs) for _ in range(int(rng.integers(1, 4)))]
        self.textures = [
            draw_texture(rng, (size, size), self.palettes[int(rng.integers(len(self.palettes)))], photographs)
            for _ in range(count)
        ]

    def draw(self, rng: np.random.Generator) -> Material:
        """A material: usually recoloured, sometimes almost flat."""
        texture = self.textures[int(rng.integers(len(self.textures)))]
        material = Material.of(texture, log_uniform(rng, 0.5, 2.0))
        kind = rng.random()
        if kind < 0.3:
            return material
        if kind < 0.55:
            return material.vary(rng, 2.0)
        target = self.palettes[int(rng.integers(len(self.palettes)))]
        wanted = target[int(rng.integers(len(target)))]
        contrast = float(rng.uniform(0.1, 1.0))
        shift = (wanted - np.array(cv2.mean(texture)[:3], np.float32)) * np.float32(rng.uniform(0.5, 1))
        return replace(material, contrast=contrast, offset=_triple(shift))

    def related(self, rng: np.random.Generator, material: Material) -> Material:
        """The material of a part: nearly the same as its whole's, clearly varied, or another one."""
        kind = rng.random()
        if kind < 0.25:
            return material.vary(rng, 0.8)
        if kind < 0.5:
            return material.vary(rng, 2.5)
        return self.draw(rng)
