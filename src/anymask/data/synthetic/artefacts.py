"""Made things: tools, vehicles, boxes, bottles, windows and signs."""

from __future__ import annotations

import numpy as np

from anymask.data.synthetic.curves import bent_line, ribbon
from anymask.data.synthetic.outlines import draw_outline, ellipse, glyph, rectangle, simple, superellipse, vase
from anymask.data.synthetic.pieces import Body, Cutouts


def tool(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A handle with a head at one end or both, perhaps a grip with grooves."""
    t = np.linspace(0, 1, 30)
    width = rng.uniform(0.04, 0.14) * (1 + 0.3 * np.sin(rng.uniform(2, 12) * t + rng.uniform(0, 6)))
    line = bent_line(rng, 30, rng.choice([0.0, 0.1, 0.6]))
    body = Body()
    body.add(ribbon(line, width))
    for end in line[[-1]] if rng.random() < 0.7 else line[[0, -1]]:
        body.add(draw_outline(rng, cutouts), scale=rng.uniform(0.15, 0.5), angle=rng.choice([0, np.pi / 2]), centre=end)
    if rng.random() < 0.6:
        cut = int(rng.integers(8, 20))
        grip = body.add(ribbon(line[:cut], width[:cut] * rng.uniform(1.0, 1.5)))
        for index in range(2, cut - 2, 3) if rng.random() < 0.5 else ():
            groove = ribbon(line[index : index + 2], width[index : index + 2])
            body.add(groove, parent=grip, clip=True, shared=0)
    return body


def vehicle(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A hull with a cabin, windows and wheels with hubs."""
    high = rng.uniform(0.18, 0.4)
    body = Body()
    corners = np.array([[-0.6, -high * 0.7], [-0.4, -high - 0.4], [0.3, -high - 0.4], [0.55, -high * 0.7]])
    cabin = body.add(corners + rng.normal(0, 0.08, (4, 2)), shared=0)
    for x in np.linspace(-0.35, 0.3, int(rng.integers(1, 5))):
        size = rng.uniform(0.08, 0.16)
        body.add(rectangle(rng), parent=cabin, clip=True, shared=1, scale=size, centre=(x, -high - 0.18))
    hull = superellipse(rng)[0]
    body.add(hull / np.abs(hull).max(axis=0) * [1.0, high], shared=0)
    radius, disc = rng.uniform(0.14, 0.26), ellipse(rng, round_share=1.0)
    for x in np.linspace(-0.65, 0.65, int(rng.integers(2, 4))):
        wheel = body.add(disc, shared=2, finish="other", scale=radius, centre=(x, high))
        body.add(disc, parent=wheel, shared=3, scale=radius * 0.5, centre=(x, high))
    return body


def cuboid(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A box seen from a corner: three faces, perhaps with labels."""
    w, h, depth = rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.9), rng.uniform(0.15, 0.7)
    skew = rng.uniform(-0.4, 0.4)
    a, b, c, d = np.array([[-w, -h], [w, -h + skew * 0.3], [w, h + skew * 0.1], [-w, h]])
    back = np.array([depth * rng.choice([-1, 1]), -depth * rng.uniform(0.3, 1)])
    near, far = (b, c) if back[0] > 0 else (a, d)
    body = Body()
    front = body.add(np.array([a, b, c, d]))
    body.add(np.array([a, b, b + back, a + back]))
    body.add(np.array([near, near + back, far + back, far]))
    for _ in range(int(rng.integers(0, 4))):
        centre = rng.uniform(-0.6, 0.6, 2) * [w, h]
        body.add(draw_outline(rng, cutouts), parent=front, clip=True, scale=rng.uniform(0.1, 0.4), centre=centre)
    return body


def bottle(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A turned body with a cap, and a label with something on it."""
    body = Body(vase(rng))
    low, high = np.sort(rng.uniform(-1, 1, 2))
    label = body.add(np.array([[-2.0, low], [2, low + rng.normal(0, 0.05)], [2, high], [-2, high]]), clip=True)
    if rng.random() < 0.6:
        motif = glyph(rng) if rng.random() < 0.5 else draw_outline(rng, cutouts)
        centre = (0.0, (low + high) / 2)
        body.add(motif, parent=label, clip=True, finish="other", scale=rng.uniform(0.1, 0.3), centre=centre)
    if rng.random() < 0.6:
        cap = -1 + rng.uniform(0.1, 0.35)
        body.add(np.array([[-2.0, -2], [2, -2], [2, cap], [-2, cap]]), clip=True)
    return body


def window(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A frame with panes behind bars, or a door with panels."""
    aspect, gap = rng.uniform(0.4, 1.6), rng.uniform(0.05, 0.18)
    body = Body([np.array([[-1, -aspect], [1, -aspect], [1, aspect], [-1, aspect]])])
    xs = np.linspace(-1 + gap, 1, int(rng.integers(2, 5)))
    ys = np.linspace(-aspect + gap, aspect, int(rng.integers(2, 5)))
    for x0, x1 in zip(xs[:-1], xs[1:] - gap, strict=True):
        for y0, y1 in zip(ys[:-1], ys[1:] - gap, strict=True):
            body.add(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), clip=True, shared=0)
    return body


def sign(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A board with a border and a symbol or a word, at times on a pole."""
    body = Body()
    if rng.random() < 0.6:
        body.add(ribbon(np.array([[0.0, 0.0], [0.0, 2.5]]), np.full(2, rng.uniform(0.03, 0.08))))
    outline = simple(rng)
    board = body.add(outline, scale=0.8)
    field = body.add(outline, parent=board, clip=True, scale=0.8 * rng.uniform(0.7, 0.95))
    count = int(rng.choice([1, 1, 3, 5]))
    size = 0.5 if count == 1 else 0.9 / count
    for x in np.linspace(-0.45, 0.45, count) if count > 1 else (0.0,):
        symbol = draw_outline(rng, cutouts) if count == 1 and rng.random() < 0.5 else glyph(rng)
        body.add(symbol, parent=field, clip=True, finish="other", shared=0, scale=size, centre=(x, 0.0))
    return body
