"""Arrangements of many of a kind: heaps, fronts with windows, shelves of books, mosaics."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from anymask.data.synthetic.artefacts import window
from anymask.data.synthetic.divisions import plain
from anymask.data.synthetic.outlines import draw_outline, glyph, perturb
from anymask.data.synthetic.painting import Pose
from anymask.data.synthetic.pieces import Body
from anymask.data.synthetic.plants import fruit
from anymask.data.synthetic.stage import Stage
from anymask.data.synthetic.textures import log_uniform

_MOST = 150


def member(stage: Stage) -> Body:
    """One of a crowd: a simple object with at most two parts."""
    rng = stage.rng
    if rng.random() < 0.25:
        return fruit(rng)
    body = plain(rng, stage.config.cutouts)
    if rng.random() < 0.3:
        body.add(draw_outline(rng), clip=True, shared=0, scale=0.4)
    return body


def heap(stage: Stage) -> None:
    """Many of a kind, touching and overlapping: pellets, pebbles, fruit, mushrooms, leaves, coins."""
    rng, side = stage.rng, stage.side
    spacing = log_uniform(rng, 0.075, 0.32) * side
    motifs = [member(stage) for _ in range(int(rng.choice([1, 2, 4, 8])))]
    cutout = stage.any_cutout() if rng.random() < 0.2 else None
    base = stage.materials.draw(rng)
    crowd, uneven, fickle = rng.uniform(0.4, 0.75), rng.uniform(0.05, 0.45), rng.choice([0.3, 1.0, 2.0])
    alike, upright = rng.random() < 0.4, bool(rng.random() < 0.4)
    for x, y in _spots(rng, side, spacing):
        scale, spot = spacing * crowd * np.exp(rng.normal(0, uneven)), (float(x), float(y))
        if cutout is not None:
            stage.paste(cutout, scale, spot)
            continue
        body = motifs[int(rng.integers(len(motifs)))]
        if not alike:
            body = body.reshaped(perturb(rng, body.pieces[0].outline))
        stage.put(body, stage.pose(scale, spot, upright=upright), base.vary(rng, fickle))


def _spots(rng: np.random.Generator, side: int, spacing: float) -> Float[np.ndarray, "n 2"]:
    """Places for a crowd: a jittered grid, whole, thinned or within a circle, in order or shuffled."""
    axis = np.arange(spacing / 2, side + spacing, spacing)
    spots = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    spots = spots + rng.normal(0, rng.choice([0.08, 0.3]) * spacing, spots.shape)
    kind = rng.random()
    if kind < 0.3:
        spots = spots[rng.random(len(spots)) > 0.4]
    elif kind < 0.55:
        centre = rng.uniform(0.3, 0.7, 2) * side
        spots = spots[np.linalg.norm(spots - centre, axis=1) < rng.uniform(0.25, 0.5) * side]
    if len(spots) > _MOST or rng.random() < 0.7:
        rng.shuffle(spots)
    return spots[:_MOST]


def facade(stage: Stage) -> None:
    """A front with rows of equal windows, doors or tiles, seen straight or in perspective; the front is the whole."""
    rng, side = stage.rng, stage.side
    columns, rows = int(log_uniform(rng, 2, 9)), int(log_uniform(rng, 2, 8))
    half = rng.uniform(0.7, 1.4, 2)
    front = Body([np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half])
    motif = window(rng) if rng.random() < 0.6 else plain(rng, stage.config.cutouts)
    cell = 2 * half / [columns, rows]
    extent = np.abs(np.concatenate(motif.pieces[0].outline)).max(axis=0)
    unit = cell * rng.uniform(0.25, 0.46) / np.maximum(extent, 1e-3)
    unit = np.full(2, unit.min()) if rng.random() < 0.5 else unit
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.08:
                continue
            centre, first = (np.array([column, row]) + 0.5) * cell - half, len(front)
            for piece in motif:
                inner = piece.parent >= 0
                parent = first + piece.parent if inner else 0
                outline = [ring * unit + centre for ring in piece.outline]
                front.add(outline, parent=parent, clip=piece.clip, shared=int(inner))
    tilt = (float(rng.normal(0, 0.22)), float(rng.normal(0, 0.22)))
    scale, angle = rng.uniform(0.3, 0.6) * side, float(rng.normal(0, 0.08))
    stage.put(front, Pose(scale=scale, centre=stage.middle(), angle=angle, tilt=tilt))
    for _ in range(int(rng.integers(0, 4))):
        stage.put_any(log_uniform(rng, 0.04, 0.25) * side, stage.somewhere(), upright=True)


def shelf(stage: Stage) -> None:
    """Rows of upright boxes side by side, with stripes and letters on them: books, files, planks, bars."""
    rng, side = stage.rng, stage.side
    rows = int(rng.integers(1, 4))
    turn = float(rng.choice([0.0, 0.0, np.pi / 2]) + rng.normal(0, 0.05))
    pose = Pose(
        scale=side * float(rng.uniform(0.4, 0.6)),
        centre=(side / 2, side / 2),
        angle=turn,
        tilt=(float(rng.normal(0, 0.1)), float(rng.normal(0, 0.1))),
    )
    common = stage.materials.draw(rng) if rng.random() < 0.3 else None
    for row in range(rows):
        top, bottom = -1.1 + 2.2 * row / rows, -1.1 + 2.2 * (row + 0.92) / rows
        x, mean, sway = -1.2, log_uniform(rng, 0.06, 0.3), rng.choice([0.0, 0.02])
        while x < 1.2:
            width = mean * np.exp(rng.normal(0, 0.35))
            rise = rng.uniform(0, 0.35) * (bottom - top)
            body = _spine(rng, x, x + width, top + rise, bottom, rng.normal(0, sway))
            stage.put(body, pose, common.vary(rng, 1.5) if common is not None else None)
            x += width * (1.0 if rng.random() < 0.8 else rng.uniform(1.0, 2.0))


def _spine(rng: np.random.Generator, x0: float, x1: float, top: float, bottom: float, lean: float) -> Body:
    """A book's spine: a box with bands and, at times, a line of letters."""
    body = Body([np.array([[x0 + lean, top], [x1 + lean, top], [x1 - 0.004, bottom], [x0 + 0.004, bottom]])])
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        low = float(rng.uniform(top, bottom))
        high = low + rng.uniform(0.03, 0.3)
        body.add(np.array([[x0 - 1, low], [x1 + 1, low], [x1 + 1, high], [x0 - 1, high]]), clip=True)
    if rng.random() < 0.3:
        size = min(0.4 * (x1 - x0), 0.08)
        for index in range(int(rng.integers(1, 4))):
            centre = ((x0 + x1) / 2, top + 0.2 * (bottom - top) + 2.2 * size * index)
            body.add(glyph(rng), clip=True, shared=0, scale=size, angle=np.pi / 2, centre=centre)
    return body


def mosaic(stage: Stage) -> None:
    """The whole picture divided into cells that differ by texture alone or by colour, with few things on it."""
    rng, side = stage.rng, stage.side
    division = cv2.Subdiv2D((-side, -side, 3 * side, 3 * side))
    for x, y in rng.uniform(0, side, (int(rng.integers(3, 20)), 2)):
        division.insert((float(x), float(y)))
    wave, pitch, phase = rng.choice([0.0, 0.02, 0.06]) * side, rng.uniform(2, 14) / side, rng.uniform(0, 6.3, 2)
    base = stage.materials.draw(rng) if rng.random() < 0.4 else None
    steps = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
    for facet in division.getVoronoiFacetList([])[0]:
        ring = np.asarray(facet, float)
        dense = (ring[:, None] * (1 - steps) + np.roll(ring, -1, axis=0)[:, None] * steps).reshape(-1, 2)
        dense = dense + wave * np.sin(dense[:, ::-1] * pitch + phase)
        material = base.vary(rng, 2.0) if base is not None else None
        stage.put(Body([dense]), Pose(scale=1.0, centre=(0.0, 0.0)), material)
    for _ in range(int(rng.integers(0, 4))):
        stage.put_any(log_uniform(rng, 0.03, 0.3) * side, stage.somewhere())
