"""Loose arrangements: from one large object to many of all sizes, on grounds, plates and among branches."""

from __future__ import annotations

import numpy as np

from anymask.data.synthetic.creatures import draw_body
from anymask.data.synthetic.divisions import plain
from anymask.data.synthetic.painting import Pose
from anymask.data.synthetic.plants import strand, tree
from anymask.data.synthetic.repetition import member
from anymask.data.synthetic.stage import Stage, ground
from anymask.data.synthetic.textures import log_uniform


def scattered(stage: Stage) -> None:
    """A few to many unrelated objects of all sizes, most often the large ones behind."""
    rng = stage.rng
    count = int(log_uniform(rng, 2, 16))
    limit = 0.5 if count < 8 else 0.3
    sizes = sorted(log_uniform(rng, 0.03, limit) for _ in range(count))
    for size in sizes[::-1] if rng.random() < 0.7 else sizes:
        stage.put_any(size * stage.side, stage.somewhere())


def portrait(stage: Stage) -> None:
    """One large object in the middle, at times cut by the border, with little else."""
    rng, side = stage.rng, stage.side
    for _ in range(int(rng.integers(0, 3))):
        stage.put_any(log_uniform(rng, 0.03, 0.3) * side, stage.somewhere())
    stage.put_any(rng.uniform(0.28, 0.6) * side, stage.middle(0.2), upright=rng.random() < 0.7)
    for _ in range(int(rng.integers(0, 3))):
        stage.put_any(log_uniform(rng, 0.02, 0.12) * side, stage.somewhere())


def standing(stage: Stage) -> None:
    """Upright objects on a ground that recedes: the nearer, the lower and larger."""
    rng, side = stage.rng, stage.side
    horizon = float(rng.uniform(0.1, 0.6))
    if rng.random() < 0.7:
        ground(stage, horizon)
    near = log_uniform(rng, 0.18, 0.55) * side
    for depth in np.sort(rng.random(int(rng.integers(3, 13)))):
        scale = near * (0.15 + 0.85 * depth) * rng.uniform(0.6, 1.3)
        foot = side * (horizon + (1.05 - horizon) * depth)
        stage.put_any(scale, (float(rng.uniform(-0.05, 1.05) * side), float(foot - 0.8 * scale)), upright=True)


def container(stage: Stage) -> None:
    """A large plate, tray, table or sheet with things lying on it."""
    rng = stage.rng
    centre, scale = stage.middle(), rng.uniform(0.3, 0.6) * stage.side
    stage.put(draw_body(rng) if rng.random() < 0.3 else plain(rng), stage.pose(scale, centre))
    small = log_uniform(rng, 0.16, 0.5) * scale
    motif = member(stage) if rng.random() < 0.5 else None
    base = stage.materials.draw(rng)
    for _ in range(int(rng.integers(1, 12))):
        angle, reach = rng.uniform(0, 2 * np.pi), scale * 0.75 * np.sqrt(rng.random())
        spot = (centre[0] + float(np.cos(angle) * reach), centre[1] + float(np.sin(angle) * reach))
        if motif is not None:
            stage.put(motif, stage.pose(small, spot), base.vary(rng, 0.7))
        else:
            stage.put_any(small * rng.uniform(0.5, 1.4), spot)


def thicket(stage: Stage) -> None:
    """Trunks, branches, poles and wires across the picture, with things behind and before them."""
    rng, side = stage.rng, stage.side
    for _ in range(int(rng.integers(0, 5))):
        stage.put_any(log_uniform(rng, 0.05, 0.35) * side, stage.somewhere())
    bark = stage.materials.draw(rng)
    for _ in range(int(rng.integers(2, 9))):
        body = tree(rng) if rng.random() < 0.5 else strand(rng)
        steep = rng.normal(0, 0.2) + (np.pi / 2 if len(body) == 1 else 0.0)
        angle = steep if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
        pose = Pose(scale=log_uniform(rng, 0.3, 1.2) * side, centre=stage.somewhere(), angle=float(angle))
        stage.put(body, pose, bark.vary(rng, 1.0) if rng.random() < 0.5 else None)
    for _ in range(int(rng.integers(0, 3))):
        stage.put_any(log_uniform(rng, 0.03, 0.2) * side, stage.somewhere())


def collage(stage: Stage) -> None:
    """One to nine cut-outs of all sizes, or bodies where there are none."""
    rng = stage.rng
    for size in sorted((log_uniform(rng, 0.04, 0.5) for _ in range(int(rng.integers(1, 10)))), reverse=True):
        cutout = stage.any_cutout()
        if cutout is None:
            stage.put_any(size * stage.side, stage.somewhere(0.0))
        else:
            stage.paste(cutout, size * stage.side, stage.somewhere(0.0))
