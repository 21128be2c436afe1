"""Closed outlines: rings of points around the origin, radius about one, to be filled by the even-odd rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from anymask.data.synthetic.curves import Outline, bent_line, polar, ribbon, ripple, smooth, trace

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabdefghkmnqrstuwyz234567890&?#@%"


def blob(rng: np.random.Generator) -> Outline:
    """A Fourier blob of a random spectrum, from nearly round to ragged."""
    return [polar(np.exp(ripple(rng, 96, rng.uniform(0.08, 0.5), rng.uniform(0.7, 2.2))))]


def superellipse(rng: np.random.Generator) -> Outline:
    """From diamond over ellipse to rounded rectangle, of random aspect."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    power = 2 / np.exp(rng.uniform(np.log(0.9), np.log(9)))
    c, s = np.cos(angle), np.sin(angle)
    ring = np.stack([np.sign(c) * np.abs(c) ** power, rng.uniform(0.35, 1) * np.sign(s) * np.abs(s) ** power], axis=1)
    return [ring * (1 + ripple(rng, 72, rng.choice([0.0, 0.04, 0.12]), 1.5)[:, None])]


def ellipse(rng: np.random.Generator, round_share: float = 0.4) -> Outline:
    """A plain ellipse, a circle with chance `round_share`."""
    return [polar(np.ones(48)) * [1, 1 if rng.random() < round_share else rng.uniform(0.3, 1)]]


def polygon(rng: np.random.Generator) -> Outline:
    """Three to ten corners at any angle and radius, sharp or rounded."""
    count = int(rng.integers(3, 11))
    angle = np.sort(rng.uniform(0, 2 * np.pi, count)) if rng.random() < 0.5 else np.arange(count) * 2 * np.pi / count
    radius = rng.uniform(rng.uniform(0.25, 0.9), 1.1, count)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return [smooth(ring, int(rng.integers(1, 4))) if rng.random() < 0.5 else ring]


def star(rng: np.random.Generator) -> Outline:
    """A star, gear or many-lobed flower."""
    tips = int(rng.integers(3, 14))
    radius = np.ones(2 * tips) * rng.uniform(0.85, 1.1, 2 * tips)
    radius[::2] *= rng.uniform(0.25, 0.85)
    ring = polar(radius)
    return [smooth(ring, int(rng.integers(1, 4))) if rng.random() < 0.6 else ring]


def rectangle(rng: np.random.Generator) -> Outline:
    """A box, often skewed into a quadrilateral."""
    ring = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float) * [1, rng.uniform(0.15, 1)]
    if rng.random() < 0.6:
        ring = ring + rng.normal(0, rng.choice([0.03, 0.12, 0.25]), (4, 2))
    return [ring]


def leaf(rng: np.random.Generator) -> Outline:
    """A leaf or petal: pointed at the tip, at times serrated or lobed."""
    t = np.linspace(0, 1, 48)
    width = np.sin(np.pi * t ** rng.uniform(0.5, 1.6)) ** rng.uniform(0.6, 1.6) * rng.uniform(0.15, 0.6)
    if rng.random() < 0.5:
        width = width * (1 + rng.uniform(0.05, 0.45) * np.abs(np.sin(np.pi * t * rng.integers(3, 14))))
    return [ribbon(bent_line(rng, 48, rng.uniform(0, 1)), width)]


def banana(rng: np.random.Generator) -> Outline:
    """A bent band of smoothly changing width: bananas, worms, sausages, crescents."""
    t = np.linspace(0, 1, 40)
    ends = 1 - np.abs(2 * t - 1) ** rng.uniform(2, 12)
    width = np.sqrt(np.maximum(ends, 0)) * rng.uniform(0.08, 0.45) * (1 + rng.uniform(-0.6, 0.6) * (t - 0.5))
    return [ribbon(bent_line(rng, 40, rng.uniform(0, 2.2)), width)]


def vase(rng: np.random.Generator) -> Outline:
    """The silhouette of a turned body: bottles, vases, lamps, chessmen, glasses."""
    knots = np.exp(rng.normal(-1.0, 0.5, int(rng.integers(3, 9)))).clip(0.08, 0.9)
    t = np.linspace(0, 1, 56)
    places = np.linspace(0, 1, len(knots))
    if rng.random() < 0.3:
        width = knots[np.searchsorted(places[1:], t)]
    else:
        width = np.interp(t, places, knots)
        width = np.convolve(np.pad(width, 4, mode="edge"), np.ones(9) / 9, "valid")
    return [ribbon(np.stack([np.zeros(56), 2 * t - 1], axis=1), width)]


def annulus(rng: np.random.Generator) -> Outline:
    """Any shape with a hole of its own or another form."""
    outer = simple(rng)
    inner = outer[0] if rng.random() < 0.5 else simple(rng)[0]
    return [outer[0], inner * rng.uniform(0.3, 0.8) + rng.normal(0, 0.05, 2)]


def crescent(rng: np.random.Generator) -> Outline:
    """A disc with a bite."""
    half = rng.uniform(0.6, 1.4)
    outer = np.linspace(-np.pi + half, np.pi - half, 48)
    far = np.array([-np.cos(half), np.sin(half)])
    inner = np.linspace(1, -1, 32)
    depth = rng.uniform(-0.2, 0.9) * (1 - inner**2)
    bite = np.stack([far[0] + depth * far[1], inner * far[1]], axis=1)
    return [np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), bite])]


def glyph(rng: np.random.Generator) -> Outline:
    """A letter, digit or sign, of any weight."""
    mask = np.zeros((96, 96), np.uint8)
    letter = _LETTERS[int(rng.integers(len(_LETTERS)))]
    font, weight = _FONTS[int(rng.integers(len(_FONTS)))], int(rng.integers(4, 16))
    cv2.putText(mask, letter, (22, 72), font, 2.0, 1, weight, cv2.LINE_8)
    return trace(mask)


def cloud(rng: np.random.Generator) -> Outline:
    """A level set of noise: stains, puddles, clouds, islands, camouflage patches."""
    broad, fine = (cv2.resize(rng.random((n, n)), (64, 64), interpolation=cv2.INTER_CUBIC) for n in (9, 20))
    axis = np.linspace(-1, 1, 64)
    field = broad + 0.4 * fine - 0.9 * (axis[:, None] ** 2 + axis[None, :] ** 2)
    mask = (field > np.quantile(field, rng.uniform(0.5, 0.8))).astype(np.uint8)
    mask[:2], mask[-2:], mask[:, :2], mask[:, -2:] = 0, 0, 0, 0
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if len(stats) < 2:
        return blob(rng)
    return trace(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def silhouette(rng: np.random.Generator, cutouts: Sequence[UInt8[np.ndarray, "h w 4"]]) -> Outline:
    """The outline of a random cut-out's alpha channel; a blob when there are none."""
    if not cutouts:
        return blob(rng)
    alpha = cutouts[int(rng.integers(len(cutouts)))][:, :, 3]
    scale = 96 / max(alpha.shape)
    small = cv2.resize(alpha, shrunk_size(alpha, scale), interpolation=cv2.INTER_AREA) if scale < 1 else alpha
    return trace(np.pad(small >= 128, 2))


def shrunk_size(image: UInt8[np.ndarray, "h w *c"], scale: float) -> tuple[int, int]:
    """Width and height of `image` at `scale`, as OpenCV takes them: never 0, however thin it is."""
    height, width = image.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


_SIMPLE: tuple[Callable[[np.random.Generator], Outline], ...] = (blob, superellipse, ellipse, polygon, star, rectangle)
_ANY: tuple[tuple[Callable[[np.random.Generator], Outline], float], ...] = (
    (blob, 2.5),
    (superellipse, 1.5),
    (ellipse, 1.0),
    (polygon, 1.5),
    (star, 1.0),
    (rectangle, 1.3),
    (leaf, 1.0),
    (banana, 1.2),
    (vase, 1.3),
    (annulus, 0.5),
    (crescent, 0.3),
    (glyph, 0.5),
    (cloud, 1.8),
)
_WEIGHTS = np.array([weight for _, weight in _ANY]) / sum(weight for _, weight in _ANY)


def simple(rng: np.random.Generator) -> Outline:
    """One closed curve without holes."""
    return _SIMPLE[int(rng.integers(len(_SIMPLE)))](rng)


def draw_outline(rng: np.random.Generator, cutouts: Sequence[UInt8[np.ndarray, "h w 4"]] = ()) -> Outline:
    """An outline of any kind, then bent and roughened; silhouettes of cut-outs one time in four."""
    if cutouts and rng.random() < 0.25:
        outline = silhouette(rng, cutouts)
    else:
        outline = _ANY[int(rng.choice(len(_ANY), p=_WEIGHTS))][0](rng)
    return perturb(rng, outline)


def perturb(rng: np.random.Generator, outline: Outline) -> Outline:
    """The outline under a random mirror, stretch, shear, wavy bend and, at times, jitter of its points."""
    if rng.random() < 0.5:
        outline = [ring * [-1, 1] for ring in outline]
    stretch = np.exp(rng.normal(0, 0.22))
    shear = rng.normal(0, 0.15)
    matrix = np.array([[stretch, shear], [0, 1 / stretch]])
    outline = [ring @ matrix.T for ring in outline]
    if rng.random() < 0.4:
        size, pitch, phase = rng.uniform(0.03, 0.2), rng.uniform(1, 5), rng.uniform(0, 6.3, 2)
        outline = [ring + size * np.sin(ring[:, ::-1] * pitch + phase) for ring in outline]
    if rng.random() < 0.15:
        rough = rng.uniform(0.005, 0.03)
        outline = [ring + rng.normal(0, rough, ring.shape) for ring in outline]
    return outline
