"""Objects without a theme: any outline, left whole, cut into parts, covered with details, nested or grown together."""

from __future__ import annotations

import cv2
import numpy as np

from anymask.data.synthetic.curves import Ring, ripple
from anymask.data.synthetic.outlines import draw_outline, simple
from anymask.data.synthetic.pieces import EVERYWHERE, Body, Cutouts


def plain(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """One outline of any kind, without parts."""
    return Body(draw_outline(rng, cutouts))


def _far_side(rng: np.random.Generator, offset: float, angle: float, wave: float) -> Ring:
    """All that lies beyond a wavy line across the plane."""
    x = np.linspace(-3, 3, 40)
    y = offset + ripple(rng, 80, wave, 1.2, high=12)[:40]
    ring = np.concatenate([np.stack([x, y], axis=1), [[3.0, 9.0], [-3.0, 9.0]]])
    c, s = np.cos(angle), np.sin(angle)
    turned: Ring = ring @ np.array([[c, s], [-s, c]])
    return turned


def banded(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An outline divided into two to five bands by straight or wavy cuts."""
    body = plain(rng, cutouts)
    body.add(EVERYWHERE, clip=True, finish="same")
    angle, wave = rng.uniform(0, 2 * np.pi), rng.choice([0.0, 0.03, 0.12])
    striped = rng.random() < 0.3
    for index, offset in enumerate(np.sort(rng.uniform(-0.7, 0.7, int(rng.integers(1, 5))))):
        ring = _far_side(rng, float(offset), angle + rng.normal(0, 0.1), wave)
        body.add(ring, clip=True, finish="related" if not striped else "same" if index % 2 else "other")
    return body


def cracked(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An outline divided into the Voronoi cells of two to six points."""
    body = plain(rng, cutouts)
    division = cv2.Subdiv2D((-4, -4, 8, 8))
    for x, y in rng.uniform(-0.8, 0.8, (int(rng.integers(2, 7)), 2)):
        division.insert((float(x), float(y)))
    for facet in division.getVoronoiFacetList([])[0]:
        body.add(np.asarray(facet, float), clip=True)
    return body


def detailed(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An outline with a few details on it (buttons, eyes, patches), each perhaps with one of its own."""
    body = plain(rng, cutouts)
    alike = rng.random() < 0.5
    motif, size = draw_outline(rng, cutouts), rng.uniform(0.14, 0.45)
    for _ in range(int(rng.integers(1, 7))):
        outline = motif if alike else draw_outline(rng, cutouts)
        scale = size * rng.uniform(0.8, 1.2) if alike else rng.uniform(0.12, 0.55)
        centre, angle = rng.uniform(-0.7, 0.7, 2), rng.uniform(0, 2 * np.pi)
        clip, shared = bool(rng.random() < 0.7), 0 if alike else -1
        detail = body.add(outline, clip=clip, shared=shared, scale=scale, angle=angle, centre=centre)
        if rng.random() < 0.4:
            inner = scale * rng.uniform(0.3, 0.7)
            body.add(
                simple(rng),
                parent=detail,
                clip=True,
                shared=1 if alike else -1,
                scale=inner,
                angle=angle,
                centre=centre,
            )
    return body


def nested(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """The same outline inside itself, two to four deep: eyes, targets, frames, plates."""
    outline = simple(rng) if rng.random() < 0.7 else draw_outline(rng, cutouts)
    body = Body(outline)
    scale, centre = 1.0, np.zeros(2)
    for depth in range(int(rng.integers(1, 4))):
        shrink = float(rng.uniform(0.4, 0.88))
        centre = centre + rng.normal(0, 0.12, 2) * scale * (1 - shrink)
        scale *= shrink
        body.add(outline, parent=depth, clip=True, scale=scale, centre=centre)
    return body


def joined(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """Two to five overlapping shapes grown together; each is a part."""
    body = Body()
    here = np.zeros(2)
    for _ in range(int(rng.integers(2, 6))):
        scale = rng.uniform(0.2, 0.7)
        part = body.add(draw_outline(rng, cutouts), scale=scale, angle=rng.uniform(0, 2 * np.pi), centre=here)
        if rng.random() < 0.3:
            body.add(simple(rng), parent=part, clip=True, scale=scale * 0.4, centre=here)
        angle = rng.uniform(0, 2 * np.pi)
        here = here + scale * np.array([np.cos(angle), np.sin(angle)])
    return body
