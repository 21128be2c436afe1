"""Objects as trees of pieces: a whole, its parts and their subparts, in coordinates of radius about one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from anymask.data.synthetic.outlines import (
    Outline,
    Ring,
    banana,
    bent_line,
    blob,
    draw_outline,
    ellipse,
    glyph,
    leaf,
    perturb,
    place,
    rectangle,
    ribbon,
    ripple,
    simple,
    superellipse,
    vase,
)

Cutouts = Sequence[UInt8[np.ndarray, "h w 4"]]

SAME, RELATED, OTHER = "same", "related", "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One node of an object: what is painted and to whom it belongs.

    `parent` is the index of an earlier piece, -1 for the whole. An empty outline paints nothing: such a node is the
    union of its children. `clip` keeps the paint inside the parent's own; `finish` says how its material relates to
    the parent's; `shared` numbers pieces of one material (buttons, wheels, petals), -1 for a material of its own.
    """

    outline: Outline
    parent: int = -1
    clip: bool = False
    finish: str = RELATED
    shared: int = -1


Body = list[Piece]

_ALL: Outline = [np.array([[-9.0, -9], [9, -9], [9, 9], [-9, 9]])]


def plain(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """One outline of any kind, without parts."""
    return [Piece(outline=draw_outline(rng, cutouts))]


def _cut(rng: np.random.Generator, offset: float, angle: float, wave: float) -> Ring:
    """The far side of a wavy line across the plane."""
    x = np.linspace(-3, 3, 40)
    y = offset + ripple(rng, 80, wave, 1.2, high=12)[:40]
    ring = np.concatenate([np.stack([x, y], axis=1), [[3.0, 9.0], [-3.0, 9.0]]])
    c, s = np.cos(angle), np.sin(angle)
    cut: Ring = ring @ np.array([[c, s], [-s, c]])
    return cut


def banded(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An outline divided into two to five bands by straight or wavy cuts."""
    body = plain(rng, cutouts)
    body.append(Piece(outline=_ALL, parent=0, clip=True, finish=SAME))
    angle = rng.uniform(0, 2 * np.pi)
    wave = rng.choice([0.0, 0.03, 0.12])
    striped = rng.random() < 0.3
    for index, offset in enumerate(np.sort(rng.uniform(-0.7, 0.7, int(rng.integers(1, 5))))):
        finish = (OTHER, SAME)[index % 2] if striped else RELATED
        ring = _cut(rng, float(offset), angle + rng.normal(0, 0.1), wave)
        body.append(Piece(outline=[ring], parent=0, clip=True, finish=finish))
    return body


def cracked(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An outline divided into the Voronoi cells of three to seven points."""
    body = plain(rng, cutouts)
    division = cv2.Subdiv2D((-4, -4, 8, 8))
    for point in rng.uniform(-0.8, 0.8, (int(rng.integers(2, 7)), 2)):
        division.insert((float(point[0]), float(point[1])))
    for facet in division.getVoronoiFacetList([])[0]:
        body.append(Piece(outline=[np.asarray(facet, float)], parent=0, clip=True, finish=RELATED))
    return body


def detailed(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An outline with a few details on it (buttons, eyes, patches), each perhaps with one of its own."""
    body = plain(rng, cutouts)
    alike = rng.random() < 0.5
    motif = draw_outline(rng, cutouts)
    size = rng.uniform(0.1, 0.4)
    for _ in range(int(rng.integers(1, 7))):
        outline = motif if alike else draw_outline(rng, cutouts)
        scale = size * rng.uniform(0.8, 1.2) if alike else rng.uniform(0.08, 0.5)
        centre = (float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.7, 0.7)))
        angle = rng.uniform(0, 2 * np.pi)
        index = len(body)
        clip = bool(rng.random() < 0.7)
        body.append(
            Piece(
                outline=place(outline, scale=scale, angle=angle, centre=centre),
                parent=0,
                clip=clip,
                shared=0 if alike else -1,
            )
        )
        if rng.random() < 0.4:
            inner = place(simple(rng), scale=scale * rng.uniform(0.3, 0.7), angle=angle, centre=centre)
            body.append(Piece(outline=inner, parent=index, clip=True, shared=1 if alike else -1))
    return body


def nested(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """The same outline inside itself, two to four deep: eyes, targets, frames, plates."""
    outline = simple(rng) if rng.random() < 0.7 else draw_outline(rng, cutouts)
    body = [Piece(outline=outline)]
    scale, centre = 1.0, np.zeros(2)
    for depth in range(int(rng.integers(1, 4))):
        shrink = float(rng.uniform(0.4, 0.88))
        centre = centre + rng.normal(0, 0.12, 2) * scale * (1 - shrink)
        scale *= shrink
        body.append(
            Piece(
                outline=place(outline, scale=scale, angle=0.0, centre=(float(centre[0]), float(centre[1]))),
                parent=depth,
                clip=True,
            )
        )
    return body


def _limb(
    rng: np.random.Generator, start: np.ndarray, angle: float, length: float, width: float
) -> tuple[Ring, np.ndarray]:
    """A tapering band from `start`, bent at a joint, and where it ends."""
    t = np.linspace(0, 1, 16)
    heading = angle + np.where(t < 0.5, 0.0, rng.normal(0, 0.6)) + rng.normal(0, 0.15) * t
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / 16)
    line = start + np.cumsum(steps, axis=0)
    taper = np.sqrt(np.clip(1 - np.abs(2 * t - 1) ** 8, 0, 1)) * width * (1 - rng.uniform(0, 0.6) * t)
    return ribbon(line, taper), line[-1]


def figure(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A standing body with thick limbs: torso, legs with shoes, arms with hands, head with hair."""
    body = [Piece(outline=[])]
    torso_w, torso_h = rng.uniform(0.16, 0.32), rng.uniform(0.3, 0.42)
    for side in (-1, 1):
        start = np.array([side * torso_w * 0.5, torso_h * 0.8])
        ring, end = _limb(
            rng, start, np.pi / 2 - side * rng.normal(0.1, 0.2), rng.uniform(0.6, 0.85), rng.uniform(0.09, 0.15)
        )
        leg = len(body)
        body.append(Piece(outline=[ring], parent=0, shared=0))
        shoe = place(superellipse(rng), scale=0.13, angle=0.0, centre=(float(end[0]) + side * 0.05, float(end[1])))
        body.append(Piece(outline=shoe, parent=leg, shared=1))
    trunk = polygon_torso(rng, torso_w, torso_h)
    body.append(Piece(outline=trunk, parent=0))
    for side in (-1, 1):
        start = np.array([side * torso_w * 0.95, -torso_h * 0.75])
        angle = np.pi / 2 - side * rng.uniform(-0.1, 1.8)
        ring, end = _limb(rng, start, angle, rng.uniform(0.5, 0.7), rng.uniform(0.06, 0.1))
        arm = len(body)
        body.append(Piece(outline=[ring], parent=0, shared=2 if rng.random() < 0.7 else -1))
        hand = place(blob(rng), scale=0.08, angle=0.0, centre=(float(end[0]), float(end[1])))
        body.append(Piece(outline=hand, parent=arm, shared=3))
    radius = rng.uniform(0.13, 0.22)
    centre = (float(rng.normal(0, 0.05)), float(-torso_h - radius * 0.9))
    head = len(body)
    body.append(Piece(outline=place(ellipse(rng), scale=radius, angle=np.pi / 2, centre=centre), parent=0, shared=3))
    if rng.random() < 0.7:
        hair = place(blob(rng), scale=radius, angle=0.0, centre=(centre[0], centre[1] - radius * 0.6))
        body.append(Piece(outline=hair, parent=head, finish=OTHER))
    return body


def polygon_torso(rng: np.random.Generator, width: float, height: float) -> Outline:
    """A trunk that widens or narrows from the shoulders to the hips."""
    hips = width * rng.uniform(0.6, 1.4)
    t = np.linspace(0, 1, 20)
    profile = (width + (hips - width) * t) * np.sqrt(np.clip(1 - np.abs(2 * t - 1) ** 10, 0, 1))
    return [ribbon(np.stack([rng.normal(0, 0.02) * np.sin(np.pi * t), (2 * t - 1) * height], axis=1), profile)]


def beast(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A four-legged or many-legged body with neck, head, ears and tail."""
    body = [Piece(outline=[])]
    thick = rng.uniform(0.2, 0.42)
    legs = int(rng.choice([2, 4, 4, 4, 6]))
    for index in range(legs):
        x = -0.55 + 1.1 * index / max(1, legs - 1) + rng.normal(0, 0.06)
        ring, end = _limb(
            rng,
            np.array([x, thick * 0.5]),
            np.pi / 2 + rng.normal(0, 0.25),
            rng.uniform(0.4, 0.8),
            rng.uniform(0.05, 0.12),
        )
        body.append(Piece(outline=[ring], parent=0, shared=0, finish=SAME if rng.random() < 0.6 else RELATED))
    ring, _ = _limb(
        rng, np.array([-0.65, -0.1]), np.pi + rng.normal(0, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.03, 0.12)
    )
    body.append(Piece(outline=[ring], parent=0, finish=SAME))
    t = np.linspace(0, 1, 30)
    hull = (
        np.sqrt(np.clip(1 - np.abs(2 * t - 1) ** 3, 0, 1))
        * thick
        * (1 + rng.uniform(-0.35, 0.35) * np.sin(2 * np.pi * t))
    )
    trunk = len(body)
    body.append(Piece(outline=[ribbon(bent_line(rng, 30, 0.5) * 0.85, hull)], parent=0, finish=SAME))
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 5))):
            spot = place(
                blob(rng),
                scale=rng.uniform(0.06, 0.2),
                angle=0.0,
                centre=(float(rng.uniform(-0.6, 0.6)), float(rng.normal(0, 0.15))),
            )
            body.append(Piece(outline=spot, parent=trunk, clip=True, shared=4))
    ring, end = _limb(
        rng, np.array([0.6, -thick * 0.3]), -rng.uniform(0, 1.4), rng.uniform(0.3, 0.7), rng.uniform(0.08, 0.2)
    )
    body.append(Piece(outline=[ring], parent=0, finish=SAME))
    size, x, y = rng.uniform(0.15, 0.3), float(end[0]), float(end[1])
    for side in (-1, 1):
        ear = place(
            leaf(rng), scale=size * 0.6, angle=-np.pi / 2 + side * 0.4, centre=(x + side * size * 0.4, y - size * 0.8)
        )
        body.append(Piece(outline=ear, parent=0, shared=2))
    head = len(body)
    body.append(
        Piece(
            outline=place(superellipse(rng), scale=size, angle=rng.normal(0.2, 0.3), centre=(x, y)),
            parent=0,
            finish=SAME,
        )
    )
    eye = place(ellipse(rng), scale=size * rng.uniform(0.12, 0.25), angle=0.0, centre=(x + size * 0.2, y - size * 0.15))
    body.append(Piece(outline=eye, parent=head, clip=True, finish=OTHER))
    return body


def tool(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A handle with a head at one end, perhaps a grip and a hole."""
    t = np.linspace(0, 1, 30)
    width = rng.uniform(0.04, 0.14) * (1 + 0.3 * np.sin(rng.uniform(2, 12) * t + rng.uniform(0, 6)))
    line = bent_line(rng, 30, rng.choice([0.0, 0.1, 0.6]))
    body = [Piece(outline=[]), Piece(outline=[ribbon(line, width)], parent=0)]
    for end in line[[-1]] if rng.random() < 0.7 else line[[0, -1]]:
        head = draw_outline(rng, cutouts)
        outline = place(
            head, scale=rng.uniform(0.15, 0.5), angle=rng.choice([0, np.pi / 2]), centre=(float(end[0]), float(end[1]))
        )
        body.append(Piece(outline=outline, parent=0))
    if rng.random() < 0.6:
        cut = int(rng.integers(8, 20))
        body.append(Piece(outline=[ribbon(line[:cut], width[:cut] * rng.uniform(1.0, 1.5))], parent=0))
        if rng.random() < 0.5:
            for index in range(2, cut - 2, 3):
                body.append(
                    Piece(
                        outline=[ribbon(line[index : index + 2], width[index : index + 2])],
                        parent=len(body) - 1 if index == 2 else body[-1].parent,
                        clip=True,
                        shared=5,
                    )
                )
    return body


def flower(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A stem with leaves under a head of petals around a disc."""
    body = [Piece(outline=[])]
    line = bent_line(rng, 30, 0.5) @ np.array([[0.0, -1], [1, 0]]) * 0.8
    if rng.random() < 0.7:
        body.append(Piece(outline=[ribbon(line, np.full(30, rng.uniform(0.015, 0.05)))], parent=0, shared=0))
        for index in rng.integers(3, 24, int(rng.integers(0, 6))):
            angle = rng.choice([-1, 1]) * rng.uniform(0.3, 1.3) - np.pi / 2
            size = rng.uniform(0.12, 0.35)
            centre = line[index] + size * np.array([np.cos(angle), np.sin(angle)])
            body.append(
                Piece(
                    outline=place(leaf(rng), scale=size, angle=angle, centre=(float(centre[0]), float(centre[1]))),
                    parent=0,
                    shared=1,
                )
            )
    top = line[int(np.argmin(line[:, 1]))]
    head, count, size = len(body), int(rng.integers(4, 13)), rng.uniform(0.15, 0.45)
    body.append(Piece(outline=[], parent=0))
    petal = leaf(rng) if rng.random() < 0.6 else superellipse(rng)
    for angle in np.arange(count) * 2 * np.pi / count + rng.normal(0, 0.06, count):
        centre = top + size * np.array([np.cos(angle), np.sin(angle)])
        body.append(
            Piece(
                outline=place(petal, scale=size, angle=angle, centre=(float(centre[0]), float(centre[1]))),
                parent=head,
                shared=2,
            )
        )
    disc = place(ellipse(rng), scale=size * rng.uniform(0.3, 0.7), angle=0.0, centre=(float(top[0]), float(top[1])))
    body.append(Piece(outline=disc, parent=head, finish=OTHER))
    return body


def tree(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A forking trunk, bare or with crowns of foliage."""
    body = [Piece(outline=[]), Piece(outline=[], parent=0)]
    tips: list[np.ndarray] = []
    grow(
        rng,
        body,
        np.array([0.0, 0.95]),
        -np.pi / 2,
        rng.uniform(0.5, 0.8),
        rng.uniform(0.05, 0.12),
        int(rng.integers(2, 5)),
        tips,
    )
    if rng.random() < 0.6:
        crown = draw_outline(rng) if rng.random() < 0.3 else blob(rng)
        for tip in tips[: int(rng.integers(1, 7))]:
            outline = place(
                crown, scale=rng.uniform(0.15, 0.5), angle=rng.uniform(0, 6), centre=(float(tip[0]), float(tip[1]))
            )
            body.append(Piece(outline=outline, parent=0, shared=1, finish=OTHER))
    return body


def grow(
    rng: np.random.Generator,
    body: Body,
    start: np.ndarray,
    angle: float,
    length: float,
    width: float,
    depth: int,
    tips: list[np.ndarray],
) -> None:
    """Add a branch and its forks to `body`, and the ends of its twigs to `tips`."""
    t = np.linspace(0, 1, 10)
    heading = angle + rng.normal(0, 0.3) * t
    line = start + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / 10), axis=0)
    body.append(Piece(outline=[ribbon(line, width * (1 - 0.4 * t))], parent=1, shared=0, finish=SAME))
    if depth <= 0:
        tips.append(line[-1])
        return
    for turn in rng.normal(0, 0.6, int(rng.integers(2, 4))):
        grow(rng, body, line[-1], angle + float(turn), length * rng.uniform(0.5, 0.8), width * 0.6, depth - 1, tips)


def vehicle(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A hull with a cabin, windows and wheels with hubs."""
    long, high = 1.0, rng.uniform(0.18, 0.4)
    body = [Piece(outline=[])]
    cabin = np.array([[-0.6, -high * 0.7], [-0.4, -high - 0.4], [0.3, -high - 0.4], [0.55, -high * 0.7]]) * [
        1,
        1,
    ] + rng.normal(0, 0.08, (4, 2))
    cabin_index = len(body)
    body.append(Piece(outline=[cabin], parent=0, shared=0))
    for x in np.linspace(-0.35, 0.3, int(rng.integers(1, 5))):
        pane = place(rectangle(rng), scale=rng.uniform(0.08, 0.16), angle=0.0, centre=(float(x), -high - 0.18))
        body.append(Piece(outline=pane, parent=cabin_index, clip=True, shared=1))
    hull = superellipse(rng)[0]
    body.append(Piece(outline=[hull / np.abs(hull).max(axis=0) * [long, high]], parent=0, shared=0))
    radius = rng.uniform(0.14, 0.26)
    for x in np.linspace(-0.65, 0.65, int(rng.integers(2, 4))):
        wheel = len(body)
        body.append(
            Piece(
                outline=place(ellipse_of(1.0), scale=radius, angle=0.0, centre=(float(x), high)),
                parent=0,
                shared=2,
                finish=OTHER,
            )
        )
        body.append(
            Piece(
                outline=place(ellipse_of(1.0), scale=radius * 0.5, angle=0.0, centre=(float(x), high)),
                parent=wheel,
                shared=3,
            )
        )
    return body


def ellipse_of(aspect: float) -> Outline:
    """An ellipse of half-axes 1 and `aspect`."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return [np.stack([np.cos(angle), aspect * np.sin(angle)], axis=1)]


def cuboid(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A box seen from a corner: two or three faces, perhaps with a label or a tape."""
    w, h, skew, depth = rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.9), rng.uniform(-0.4, 0.4), rng.uniform(0.15, 0.7)
    a, b, c, d = np.array([-w, -h]), np.array([w, -h + skew * 0.3]), np.array([w, h + skew * 0.1]), np.array([-w, h])
    back = np.array([depth * rng.choice([-1, 1]), -depth * rng.uniform(0.3, 1)])
    side = [b, b + back, c + back, c] if back[0] > 0 else [a, a + back, d + back, d]
    body = [
        Piece(outline=[]),
        Piece(outline=[np.array([a, b, c, d])], parent=0),
        Piece(outline=[np.array([a, b, b + back, a + back])], parent=0, finish=SAME),
        Piece(outline=[np.array(side)], parent=0, finish=SAME),
    ]
    for _ in range(int(rng.integers(0, 4))):
        label = place(
            draw_outline(rng, cutouts),
            scale=rng.uniform(0.1, 0.4),
            angle=0.0,
            centre=(float(rng.uniform(-w, w) * 0.6), float(rng.uniform(-h, h) * 0.6)),
        )
        body.append(Piece(outline=label, parent=1, clip=True))
    return body


def bottle(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A turned body with bands, a cap, and a label with something on it."""
    body = [Piece(outline=vase(rng))]
    low, high = np.sort(rng.uniform(-1, 1, 2))
    wide: Outline = [np.array([[-2.0, low], [2, low + rng.normal(0, 0.05)], [2, high], [-2, high]])]
    label = len(body)
    body.append(Piece(outline=wide, parent=0, clip=True))
    if rng.random() < 0.6:
        motif = place(
            glyph(rng) if rng.random() < 0.5 else draw_outline(rng, cutouts),
            scale=rng.uniform(0.1, 0.3),
            angle=0.0,
            centre=(0.0, float(low + high) / 2),
        )
        body.append(Piece(outline=motif, parent=label, clip=True, finish=OTHER))
    if rng.random() < 0.6:
        cap = -1 + rng.uniform(0.1, 0.35)
        body.append(Piece(outline=[np.array([[-2.0, -2], [2, -2], [2, cap], [-2, cap]])], parent=0, clip=True))
    return body


def window(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A frame with panes behind bars, or a door with panels."""
    aspect = rng.uniform(0.4, 1.6)
    body = [Piece(outline=[np.array([[-1, -aspect], [1, -aspect], [1, aspect], [-1, aspect]])])]
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    gap = rng.uniform(0.05, 0.18)
    xs, ys = np.linspace(-1 + gap, 1, columns + 1), np.linspace(-aspect + gap, aspect, rows + 1)
    for i in range(columns):
        for j in range(rows):
            x0, x1, y0, y1 = xs[i], xs[i + 1] - gap, ys[j], ys[j + 1] - gap
            body.append(
                Piece(outline=[np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])], parent=0, clip=True, shared=0)
            )
    return body


def joined(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """Two to five overlapping shapes grown together; each is a part."""
    body = [Piece(outline=[])]
    here = np.zeros(2)
    for _ in range(int(rng.integers(2, 6))):
        scale = rng.uniform(0.2, 0.7)
        outline = place(
            draw_outline(rng, cutouts), scale=scale, angle=rng.uniform(0, 6.3), centre=(float(here[0]), float(here[1]))
        )
        index = len(body)
        body.append(Piece(outline=outline, parent=0))
        if rng.random() < 0.3:
            inner = place(simple(rng), scale=scale * 0.4, angle=0.0, centre=(float(here[0]), float(here[1])))
            body.append(Piece(outline=inner, parent=index, clip=True))
        angle = rng.uniform(0, 2 * np.pi)
        here = here + scale * np.array([np.cos(angle), np.sin(angle)])
    return body


def strand(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A long thin thing: wire, pole, rope, stalk, crack."""
    t = np.linspace(0, 1, 40)
    width = rng.uniform(0.006, 0.05) * (1 + rng.uniform(0, 0.5) * np.sin(t * rng.uniform(1, 9)))
    return [Piece(outline=[ribbon(bent_line(rng, 40, rng.choice([0.0, 0.3, 1.5])), width)])]


def fruit(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """A rounded thing with a stalk or a calyx."""
    shape = blob(rng) if rng.random() < 0.3 else superellipse(rng) if rng.random() < 0.5 else banana(rng)
    body = [Piece(outline=perturb(rng, shape))]
    if rng.random() < 0.5:
        stalk = place(leaf(rng), scale=rng.uniform(0.15, 0.4), angle=-np.pi / 2, centre=(0.0, -0.7))
        body.append(Piece(outline=stalk, parent=0, finish=OTHER))
    return body


Maker = Callable[[np.random.Generator, Cutouts], Body]

MAKERS: tuple[tuple[Maker, float], ...] = (
    (plain, 4.0),
    (banded, 1.6),
    (cracked, 0.8),
    (detailed, 2.0),
    (nested, 1.0),
    (joined, 1.6),
    (figure, 1.2),
    (beast, 1.2),
    (tool, 1.3),
    (flower, 0.8),
    (tree, 0.5),
    (vehicle, 0.7),
    (cuboid, 1.2),
    (bottle, 1.2),
    (window, 0.4),
    (strand, 0.7),
    (fruit, 1.0),
)
_CHANCES = np.array([weight for _, weight in MAKERS]) / sum(weight for _, weight in MAKERS)


def draw_body(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An object of any kind."""
    return MAKERS[int(rng.choice(len(MAKERS), p=_CHANCES))][0](rng, cutouts)
