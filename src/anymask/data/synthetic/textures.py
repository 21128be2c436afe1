"""Procedural textures: a scalar field of many kinds, coloured by a ramp; or a patch of a photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from anymask.data.synthetic.palettes import Palette, ramp

Field = Float32[np.ndarray, "h w"]
Texture = UInt8[np.ndarray, "h w 3"]


def noise(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    cell: float,
    octaves: int = 4,
    gain: float = 0.5,
    stretch: float = 1.0,
) -> Field:
    """Multi-octave value noise in 0..1; `cell` is the coarsest feature in pixels, `stretch` elongates it along x."""
    height, width = size
    total = np.zeros(size, np.float32)
    weight = 1.0
    for _ in range(octaves):
        layer: Field = rng.random((int(height / cell) + 2, int(width / (cell * stretch)) + 2), dtype=np.float32)
        if cell > 8:
            # Smooth where it shows and linear for the rest: a fifth of the time of one cubic step.
            between = (min(width, int(6 * width / (cell * stretch)) + 4), min(height, int(6 * height / cell) + 4))
            layer = np.asarray(cv2.resize(layer, between, interpolation=cv2.INTER_CUBIC), np.float32)
        total += np.float32(weight) * cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR)
        weight, cell = weight * gain, cell / 2
        if cell < 1.0:
            break
    return unit(total)


def unit(field: Field) -> Field:
    """The field stretched to 0..1."""
    low, high = float(field.min()), float(field.max())
    return (field - np.float32(low)) * np.float32(1.0 / max(high - low, 1e-6))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def along(rng: np.random.Generator, size: tuple[int, int], angle: float | None = None) -> Field:
    """The coordinate, in pixels, along a direction (random unless given)."""
    angle = float(rng.uniform(0, 2 * np.pi)) if angle is None else angle
    x = np.arange(size[1], dtype=np.float32) * np.float32(np.cos(angle))
    y = np.arange(size[0], dtype=np.float32) * np.float32(np.sin(angle))
    return y[:, None] + x[None, :]


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    cell = log_uniform(rng, 3, 120)
    return noise(rng, size, cell=cell, octaves=int(rng.integers(2, 7)), gain=rng.uniform(0.35, 0.85))


def _fibres(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    side = int(1.45 * max(size))
    field = noise(rng, (side, side), cell=log_uniform(rng, 2, 10), octaves=3, gain=0.7, stretch=log_uniform(rng, 4, 25))
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.uniform(0, 180)), 1.0)
    turn[:, 2] -= np.array([(side - size[1]) / 2, (side - size[0]) / 2])
    return cv2.warpAffine(field, turn, (size[1], size[0]))


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    period = log_uniform(rng, 4, 70)
    phase = along(rng, size) * np.float32(2 * np.pi / period)
    if rng.random() < 0.6:
        phase += noise(rng, size, cell=log_uniform(rng, 20, 120), octaves=2) * np.float32(rng.uniform(0, 12))
    wave = np.sin(phase)
    if rng.random() < 0.5:
        wave = np.clip(wave * np.float32(log_uniform(rng, 1, 12)) + np.float32(rng.uniform(-1, 1)), -1, 1)
    return wave * np.float32(0.5) + np.float32(0.5)


def _checks(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    angle = float(rng.uniform(0, np.pi))
    a, b = (along(rng, size, angle + turn) / np.float32(log_uniform(rng, 4, 40)) for turn in (0, np.pi / 2))
    if rng.random() < 0.4:
        warp = noise(rng, size, cell=60, octaves=2) * np.float32(rng.uniform(0.5, 4))
        a, b = a + warp, b - warp
    if rng.random() < 0.5:
        return ((np.floor(a) + np.floor(b)) % 2).astype(np.float32)
    return unit((a % 1.0 < 0.5).astype(np.float32) + (b % 1.0 < 0.5))


def _bricks(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    high, wide = log_uniform(rng, 5, 30), log_uniform(rng, 8, 70)
    angle = float(rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]))
    v = along(rng, size, angle + np.pi / 2) / np.float32(high)
    row = np.floor(v)
    u = along(rng, size, angle) / np.float32(wide) + row * np.float32(0.5)
    column = np.floor(u)
    joint = (v - row < 1.5 / high + 0.04) | (u - column < 1.5 / wide + 0.02)
    shade = ((row * 37.3 + column * 91.7) * 0.618) % 1.0
    return np.where(joint, np.float32(0), 0.3 + 0.7 * shade).astype(np.float32)


def _seeds(rng: np.random.Generator, size: tuple[int, int], count: int) -> tuple[Field, np.ndarray]:
    """Distance to the nearest of `count` random seeds, in pixels, and the number of that seed."""
    empty = np.full(size, 255, np.uint8)
    empty[rng.integers(0, size[0], count), rng.integers(0, size[1], count)] = 0
    return cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)


def _cells(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    spacing = log_uniform(rng, 4, 45)
    distance, labels = _seeds(rng, size, max(3, int(size[0] * size[1] / spacing**2)))
    if rng.random() < 0.5:
        return np.minimum(distance * np.float32(1.2 / spacing), np.float32(1))
    shades = rng.random(int(labels.max()) + 1, dtype=np.float32)
    field = shades[labels]
    if rng.random() < 0.5:
        field *= 1 - 0.5 * np.minimum(distance * np.float32(1.2 / spacing), np.float32(1))
    return np.asarray(field, np.float32)


def _spots(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    spacing = log_uniform(rng, 7, 60)
    distance, _ = _seeds(rng, size, max(3, int(size[0] * size[1] / spacing**2)))
    ripple = noise(rng, size, cell=spacing, octaves=2)
    edge = (np.float32(spacing * rng.uniform(0.15, 0.5)) * (ripple + np.float32(0.4)) - distance) * np.float32(
        log_uniform(rng, 0.15, 1)
    )
    return np.asarray(np.clip(edge * np.float32(0.5) + np.float32(0.5), 0, 1), np.float32)


def _veins(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    field = noise(rng, size, cell=log_uniform(rng, 12, 120), octaves=5, gain=0.6)
    ridge = np.abs(field - np.float32(0.5)) * np.float32(2)
    return np.sqrt(ridge) if rng.random() < 0.5 else unit(np.sin(ridge * np.float32(log_uniform(rng, 4, 30))))


def _wood(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    grain = along(rng, size) / np.float32(log_uniform(rng, 12, 60))
    rings = grain + noise(rng, size, cell=log_uniform(rng, 40, 150), octaves=3) * np.float32(rng.uniform(1, 6))
    fine = noise(rng, size, cell=3, octaves=1, stretch=float(rng.choice([1, 6])))
    return (rings % 1.0) * np.float32(0.8) + fine * np.float32(0.2)


def _gradient(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    field = unit(along(rng, size))
    return field + noise(rng, size, cell=60, octaves=3) * np.float32(rng.uniform(0, 0.3))


def _leaves(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    """Overlapping discs of power-law sizes, the dead-leaves model of natural images."""
    canvas = np.full(size, 128, np.uint8)
    limit = log_uniform(rng, 8, 50)
    count = int(min(260, 3.0 * size[0] * size[1] / limit**2)) + 20
    radii = np.minimum(limit, 2.0 * rng.random(count) ** -0.6)
    xs, ys = rng.integers(0, size[1], count), rng.integers(0, size[0], count)
    shades, turns, flats = rng.integers(0, 256, count), rng.uniform(0, 180, count), rng.uniform(0.3, 1, count)
    for x, y, r, shade, turn, flat in zip(xs, ys, radii, shades, turns, flats, strict=True):
        axes = (int(r) + 1, int(r * flat) + 1)
        cv2.ellipse(canvas, (int(x), int(y)), axes, float(turn), 0, 360, int(shade), -1, cv2.LINE_8)
    return canvas.astype(np.float32) * np.float32(1 / 255)


def _print(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    """Lines of random letters."""
    canvas = np.zeros(size, np.uint8)
    scale = log_uniform(rng, 0.3, 1.2)
    weight = int(rng.integers(1, 4))
    for y in range(int(25 * scale), size[0] + 20, int(rng.uniform(28, 50) * scale)):
        line = "".join(map(chr, rng.integers(48, 123, 40).tolist()))
        cv2.putText(canvas, line, (int(rng.integers(-20, 30)), y), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, weight)
    return canvas.astype(np.float32) * np.float32(1 / 255)


FIELDS: dict[Callable[[np.random.Generator, tuple[int, int]], Field], float] = {
    _clouds: 4.0,
    _fibres: 1.5,
    _stripes: 1.3,
    _checks: 0.7,
    _bricks: 0.8,
    _cells: 1.5,
    _spots: 1.2,
    _veins: 1.2,
    _wood: 1.2,
    _gradient: 1.5,
    _leaves: 1.2,
    _print: 0.4,
}
_KINDS = list(FIELDS)
_CHANCES = np.array(list(FIELDS.values())) / sum(FIELDS.values())


def procedural(rng: np.random.Generator, size: tuple[int, int], palette: Palette) -> Texture:
    """One coloured field, often modulated by a second one."""
    field = _KINDS[rng.choice(len(_KINDS), p=_CHANCES)](rng, size)
    if rng.random() < 0.35:
        other = _KINDS[rng.choice(len(_KINDS), p=_CHANCES)](rng, size)
        share = np.float32(rng.uniform(0.15, 0.6))
        field = field * (1 - share) + other * share
    elif rng.random() < 0.5:
        share = np.float32(rng.uniform(0.05, 0.5))
        field = field * (1 - share) + share * noise(rng, size, cell=log_uniform(rng, 3, 60), octaves=4, gain=0.7)
    levels = np.clip(field * np.float32(255), 0, 255).astype(np.uint8)
    table = ramp(rng, palette)
    return cv2.applyColorMap(levels, table)


def photographic(
    rng: np.random.Generator, size: tuple[int, int], photograph: UInt8[np.ndarray, "h w 3"], *, least: float = 0.25
) -> Texture:
    """A crop of a photograph, at least the share `least` of its shorter side wide, stretched to `size` and flipped."""
    height, width = photograph.shape[:2]
    side = float(rng.uniform(least, 1.0)) * min(height, width)
    tall, wide = (int(min(limit, max(8, side * rng.uniform(0.75, 1.3)))) for limit in (height, width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    crop = photograph[top : top + tall, left : left + wide]
    method = cv2.INTER_AREA if tall > size[0] and wide > size[1] else cv2.INTER_CUBIC
    texture = cv2.resize(crop, (size[1], size[0]), interpolation=method)
    return cv2.flip(texture, 1) if rng.random() < 0.5 else texture


def draw_texture(
    rng: np.random.Generator,
    size: tuple[int, int],
    palette: Palette,
    photographs: Sequence[UInt8[np.ndarray, "h w 3"]],
) -> Texture:
    """A texture of any kind: procedural, or a small piece of a photograph."""
    if photographs and rng.random() < 0.3:
        photograph = photographs[int(rng.integers(len(photographs)))]
        return photographic(rng, size, photograph, least=0.1)
    return procedural(rng, size, palette)
