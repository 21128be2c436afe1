"""Articulated objects: people, beasts and hands, put together from tapering limbs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from anymask.data.synthetic.artefacts import bottle, cuboid, sign, tool, vehicle, window
from anymask.data.synthetic.curves import Outline, Ring, bent_line, ribbon
from anymask.data.synthetic.divisions import banded, cracked, detailed, joined, nested, plain
from anymask.data.synthetic.outlines import blob, ellipse, leaf, superellipse
from anymask.data.synthetic.pieces import Body, Cutouts
from anymask.data.synthetic.plants import bunch, flower, fruit, strand, tree

_DOWN, _UP = np.pi / 2, -np.pi / 2


def _limb(
    rng: np.random.Generator,
    start: Float[np.ndarray, " 2"],
    angle: float,
    length: float,
    width: float,
    *,
    bend: float = 0.6,
) -> tuple[Ring, Float[np.ndarray, " 2"]]:
    """A tapering band from `start`, bent at a joint, and where it ends."""
    t = np.linspace(0, 1, 16)
    heading = angle + np.where(t < 0.5, 0.0, rng.normal(0, bend)) + rng.normal(0, 0.15) * t
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / 16)
    line = start + np.cumsum(steps, axis=0)
    taper = np.sqrt(np.clip(1 - np.abs(2 * t - 1) ** 8, 0, 1)) * width * (1 - rng.uniform(0, 0.6) * t)
    return ribbon(line, taper), line[-1]


def _torso(rng: np.random.Generator, width: float, height: float) -> Outline:
    """A trunk that widens or narrows from the shoulders to the hips."""
    hips = width * rng.uniform(0.6, 1.4)
    t = np.linspace(0, 1, 20)
    profile = (width + (hips - width) * t) * np.sqrt(np.clip(1 - np.abs(2 * t - 1) ** 10, 0, 1))
    spine = np.stack([rng.normal(0, 0.02) * np.sin(np.pi * t), (2 * t - 1) * height], axis=1)
    return [ribbon(spine, profile)]


def figure(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A standing body: torso, legs with shoes, arms with hands, head with hair."""
    body = Body()
    wide, tall = rng.uniform(0.16, 0.32), rng.uniform(0.3, 0.42)
    for side in (-1, 1):
        hip, angle = np.array([side * wide * 0.5, tall * 0.8]), _DOWN - side * rng.normal(0.1, 0.2)
        ring, foot = _limb(rng, hip, angle, rng.uniform(0.6, 0.85), rng.uniform(0.09, 0.15))
        leg = body.add(ring, shared=0)
        body.add(superellipse(rng), parent=leg, shared=1, scale=0.13, centre=(foot[0] + side * 0.05, foot[1]))
    body.add(_torso(rng, wide, tall))
    for side in (-1, 1):
        shoulder, angle = np.array([side * wide * 0.95, -tall * 0.75]), _DOWN - side * rng.uniform(-0.1, 1.8)
        ring, wrist = _limb(rng, shoulder, angle, rng.uniform(0.5, 0.7), rng.uniform(0.06, 0.1))
        arm = body.add(ring, shared=2 if rng.random() < 0.7 else -1)
        body.add(blob(rng), parent=arm, shared=3, scale=0.08, centre=wrist)
    radius = rng.uniform(0.13, 0.22)
    centre = np.array([rng.normal(0, 0.05), -tall - radius * 0.9])
    head = body.add(ellipse(rng), shared=3, scale=radius, angle=_DOWN, centre=centre)
    if rng.random() < 0.7:
        body.add(blob(rng), parent=head, finish="other", scale=radius, centre=centre - [0, radius * 0.6])
    return body


def beast(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A body on two to six legs, with neck, head, ears, tail and perhaps spots."""
    body = Body()
    thick = rng.uniform(0.2, 0.42)
    for x in np.linspace(-0.55, 0.55, int(rng.choice([2, 4, 4, 4, 6]))) + rng.normal(0, 0.06):
        hip, angle = np.array([x, thick * 0.5]), _DOWN + rng.normal(0, 0.25)
        ring, _ = _limb(rng, hip, angle, rng.uniform(0.4, 0.8), rng.uniform(0.05, 0.12))
        body.add(ring, shared=0, finish="same" if rng.random() < 0.6 else "related")
    rump = np.array([-0.65, -0.1])
    body.add(
        _limb(rng, rump, np.pi + rng.normal(0, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.03, 0.12))[0], finish="same"
    )
    t = np.linspace(0, 1, 30)
    hull = np.sqrt(np.clip(1 - np.abs(2 * t - 1) ** 3, 0, 1)) * thick
    hull = hull * (1 + rng.uniform(-0.35, 0.35) * np.sin(2 * np.pi * t))
    trunk = body.add(ribbon(bent_line(rng, 30, 0.5) * 0.85, hull), finish="same")
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 5))):
            spot = (rng.uniform(-0.6, 0.6), rng.normal(0, 0.15))
            body.add(blob(rng), parent=trunk, clip=True, shared=1, scale=rng.uniform(0.06, 0.2), centre=spot)
    withers = np.array([0.6, -thick * 0.3])
    neck, crown = _limb(rng, withers, -rng.uniform(0, 1.4), rng.uniform(0.3, 0.7), rng.uniform(0.08, 0.2))
    body.add(neck, finish="same")
    size = rng.uniform(0.15, 0.3)
    for side in (-1, 1):
        ear = crown + size * np.array([side * 0.4, -0.8])
        body.add(leaf(rng), shared=2, scale=size * 0.6, angle=_UP + side * 0.4, centre=ear)
    head = body.add(superellipse(rng), finish="same", scale=size, angle=rng.normal(0.2, 0.3), centre=crown)
    eye = crown + size * np.array([0.2, -0.15])
    body.add(ellipse(rng), parent=head, clip=True, finish="other", scale=size * rng.uniform(0.12, 0.25), centre=eye)
    return body


def hand(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A forearm and a palm with two to six fingers, spread or closed, with nails, claws or rings."""
    body = Body()
    arm, _ = _limb(rng, np.array([0.0, 0.1]), _DOWN + rng.normal(0, 0.3), 1.1, rng.uniform(0.2, 0.32), bend=0.2)
    body.add(arm, finish="same")
    count, spread = int(rng.integers(2, 7)), rng.uniform(0.25, 1.1)
    width = rng.uniform(0.07, 0.12)
    nailed = rng.random() < 0.8
    for place_of in np.linspace(-1, 1, count):
        root, angle = np.array([place_of * 0.3, -0.05]), _UP + place_of * spread + rng.normal(0, 0.08)
        ring, tip = _limb(rng, root, angle, rng.uniform(0.6, 0.95), width * rng.uniform(0.85, 1.2), bend=0.15)
        finger = body.add(ring, finish="same")
        if nailed:
            back = tip - 0.7 * width * np.array([np.cos(angle), np.sin(angle)])
            body.add(superellipse(rng), parent=finger, shared=1, scale=width * 0.7, angle=angle, centre=back)
    body.add(blob(rng), finish="same", scale=0.36, centre=(0.0, 0.05))
    return body


Maker = Callable[[np.random.Generator, Cutouts], Body]

MAKERS: tuple[tuple[Maker, float], ...] = (
    (plain, 4.5),
    (banded, 1.6),
    (cracked, 0.8),
    (detailed, 2.0),
    (nested, 1.0),
    (joined, 1.6),
    (figure, 1.2),
    (beast, 1.3),
    (hand, 0.7),
    (tool, 1.4),
    (vehicle, 0.7),
    (cuboid, 1.2),
    (bottle, 1.1),
    (window, 0.4),
    (sign, 0.6),
    (flower, 0.7),
    (bunch, 0.8),
    (tree, 0.5),
    (strand, 0.7),
    (fruit, 1.0),
)
_CHANCES = np.array([weight for _, weight in MAKERS]) / sum(weight for _, weight in MAKERS)


def draw_body(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An object of any kind; cut-outs lend their silhouettes."""
    return MAKERS[int(rng.choice(len(MAKERS), p=_CHANCES))][0](rng, cutouts)
