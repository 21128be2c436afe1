"""Curves: the geometry that outlines are made of, as rings of points."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

Ring = Float[np.ndarray, "n 2"]
Outline = list[Ring]


def polar(radius: Float[np.ndarray, " n"]) -> Ring:
    """The closed curve of a radius given at equally spaced angles."""
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def ripple(
    rng: np.random.Generator, count: int, amplitude: float, decay: float, low: int = 1, high: int = 24
) -> np.ndarray:
    """A periodic random function of `count` samples whose harmonic k has amplitude about `amplitude` × k^-decay."""
    order = np.arange(low, high)
    scale = amplitude * rng.normal(0, 1, len(order)) * order**-decay
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    wave: np.ndarray = np.cos(angle[:, None] * order + rng.uniform(0, 2 * np.pi, len(order))) @ scale
    return wave


def smooth(ring: Ring, rounds: int = 2) -> Ring:
    """Cut the corners of a closed polygon (Chaikin's rule), `rounds` times."""
    for _ in range(rounds):
        following = np.roll(ring, -1, axis=0)
        ring = np.stack([0.75 * ring + 0.25 * following, 0.25 * ring + 0.75 * following], axis=1).reshape(-1, 2)
    return ring


def ribbon(centre: Float[np.ndarray, "n 2"], width: Float[np.ndarray, " n"]) -> Ring:
    """The band of half-width `width` along an open curve."""
    tangent = np.gradient(centre, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    return np.concatenate([centre + normal * width[:, None], (centre - normal * width[:, None])[::-1]])


def bent_line(rng: np.random.Generator, count: int = 32, bend: float = 1.0) -> Float[np.ndarray, "n 2"]:
    """A curve of length about two through the origin whose direction wanders."""
    t = np.linspace(-1, 1, count)
    heading = bend * (rng.normal(0, 0.8) * t + rng.normal(0, 0.4) * np.sin(np.pi * t * rng.uniform(0.5, 2)))
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (2 / count)
    curve = np.cumsum(steps, axis=0)
    middle: Float[np.ndarray, "n 2"] = curve - curve.mean(axis=0)
    return middle


def trace(mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"], blur: float = 1.0) -> Outline:
    """The rings around a mask and its holes, smoothed, centred and scaled to radius about one."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = []
    for contour in found:
        ring = contour[:, 0].astype(np.float32)
        if len(ring) < 12:
            continue
        closed = np.concatenate([ring[-6:], ring, ring[:6]])
        smoothed = np.asarray(cv2.GaussianBlur(closed, (1, 9), sigmaX=blur, sigmaY=blur), np.float64)
        rings.append(smoothed[6:-6:2])
    if not rings:
        return [polar(np.ones(24))]
    points = np.concatenate(rings)
    low, high = points.min(axis=0), points.max(axis=0)
    return [(ring - (low + high) / 2) / (0.5 * float((high - low).max()) + 1e-6) for ring in rings]


def place(outline: Outline, *, scale: float, angle: float, centre: tuple[float, float]) -> Outline:
    """The outline turned by `angle` (radians), scaled and moved: unit coordinates to pixels."""
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.array([[c, -s], [s, c]])
    return [ring @ matrix.T + centre for ring in outline]
