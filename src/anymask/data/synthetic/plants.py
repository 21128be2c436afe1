"""Growing things: flowers, trees, bunches of leaves, fruit, and long thin strands."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from anymask.data.synthetic.curves import bent_line, ribbon
from anymask.data.synthetic.outlines import banana, blob, draw_outline, ellipse, leaf, perturb, superellipse
from anymask.data.synthetic.pieces import Body, Cutouts


def _direction(angle: float) -> Float[np.ndarray, " 2"]:
    return np.array([np.cos(angle), np.sin(angle)])


def flower(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A head of petals around a disc, most often on a stem with leaves."""
    body = Body()
    line = bent_line(rng, 30, 0.5) @ np.array([[0.0, -1], [1, 0]]) * 0.8
    if rng.random() < 0.7:
        body.add(ribbon(line, np.full(30, rng.uniform(0.015, 0.05))), shared=0)
        for index in rng.integers(3, 24, int(rng.integers(0, 6))):
            angle, size = rng.choice([-1, 1]) * rng.uniform(0.3, 1.3) - np.pi / 2, rng.uniform(0.12, 0.35)
            body.add(leaf(rng), shared=1, scale=size, angle=angle, centre=line[index] + size * _direction(angle))
    top, count, size = line[int(np.argmin(line[:, 1]))], int(rng.integers(4, 13)), rng.uniform(0.15, 0.45)
    head = body.add([])
    petal = leaf(rng) if rng.random() < 0.6 else superellipse(rng)
    for angle in np.arange(count) * 2 * np.pi / count + rng.normal(0, 0.06, count):
        body.add(petal, parent=head, shared=2, scale=size, angle=angle, centre=top + size * _direction(angle))
    body.add(ellipse(rng), parent=head, finish="other", scale=size * rng.uniform(0.3, 0.7), centre=top)
    return body


def bunch(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """Leaves on stalks around one root: seedlings, rosettes, lettuce."""
    body = Body()
    count, upright = int(rng.integers(2, 10)), rng.random() < 0.5
    for angle in rng.uniform(-2.8, -0.3, count) if upright else rng.uniform(0, 2 * np.pi, count):
        reach, size = rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.5)
        if reach > 0.25:
            body.add(ribbon(np.stack([np.zeros(2), reach * _direction(angle)]), np.full(2, 0.02)), shared=1)
        shape = leaf(rng) if rng.random() < 0.7 else blob(rng)
        blade = body.add(shape, shared=0, scale=size, angle=angle, centre=(reach + 0.8 * size) * _direction(angle))
        if rng.random() < 0.25:
            vein = ribbon(np.stack([reach, reach + 1.5 * size] * _direction(angle)[:, None], axis=1), np.full(2, 0.015))
            body.add(vein, parent=blade, clip=True)
    return body


def tree(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A forking trunk, bare or with crowns of foliage."""
    body = Body()
    trunk = body.add([])
    tips: list[Float[np.ndarray, " 2"]] = []
    stack = [
        (np.array([0.0, 0.95]), -np.pi / 2, rng.uniform(0.5, 0.8), rng.uniform(0.05, 0.12), int(rng.integers(2, 5)))
    ]
    t = np.linspace(0, 1, 10)
    while stack:
        start, angle, length, width, forks = stack.pop()
        heading = angle + rng.normal(0, 0.3) * t
        line = start + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / 10), axis=0)
        body.add(ribbon(line, width * (1 - 0.4 * t)), parent=trunk, shared=0, finish="same")
        if forks == 0:
            tips.append(line[-1])
        for turn in rng.normal(0, 0.6, int(rng.integers(2, 4))) if forks else ():
            stack.append((line[-1], angle + float(turn), length * rng.uniform(0.5, 0.8), width * 0.6, forks - 1))
    if rng.random() < 0.6:
        crown = draw_outline(rng) if rng.random() < 0.3 else blob(rng)
        for tip in tips[: int(rng.integers(1, 7))]:
            angle = rng.uniform(0, 2 * np.pi)
            body.add(crown, shared=1, finish="other", scale=rng.uniform(0.15, 0.5), angle=angle, centre=tip)
    return body


def strand(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A long thin thing: wire, pole, rope, stalk, crack."""
    t = np.linspace(0, 1, 40)
    width = rng.uniform(0.006, 0.05) * (1 + rng.uniform(0, 0.5) * np.sin(t * rng.uniform(1, 9)))
    return Body([ribbon(bent_line(rng, 40, rng.choice([0.0, 0.3, 1.5])), width)])


def fruit(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A rounded thing, at times with a stalk or a calyx."""
    shape = blob(rng) if rng.random() < 0.3 else superellipse(rng) if rng.random() < 0.5 else banana(rng)
    body = Body(perturb(rng, shape))
    if rng.random() < 0.5:
        body.add(leaf(rng), finish="other", scale=rng.uniform(0.15, 0.4), angle=-np.pi / 2, centre=(0.0, -0.7))
    return body
