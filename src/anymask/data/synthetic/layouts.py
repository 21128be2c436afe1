"""Where things are in a scene: backgrounds, and arrangements of objects from a lone figure to a heap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from anymask.data.synthetic.bodies import Body, Piece, draw_body, fruit, plain, strand, tree, window
from anymask.data.synthetic.canvas import Canvas, Layer, Pose, coverage, paint
from anymask.data.synthetic.config import SceneConfig
from anymask.data.synthetic.light import Light
from anymask.data.synthetic.materials import Material, Materials
from anymask.data.synthetic.outlines import draw_outline, glyph, perturb, place, ripple
from anymask.data.synthetic.pasting import blend, cutout_layer
from anymask.data.synthetic.textures import log_uniform, photographic


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a layout works with: the randomness, the canvas it fills, and the materials and light it shares."""

    rng: np.random.Generator
    config: SceneConfig
    canvas: Canvas
    materials: Materials
    light: Light

    def put(self, body: Body, pose: Pose, base: Material | None = None) -> None:
        """Paint an object on top of what is there."""
        side = self.config.size
        layer = paint(self.rng, body, pose, self.materials, self.light, (side, side), base=base)
        if layer is not None:
            blend(self.rng, self.canvas, layer, self.light)

    def put_cutout(self, scale: float, centre: tuple[float, float]) -> None:
        """Paste a random cut-out on top of what is there; a procedural object when there are none."""
        side, cutouts = self.config.size, self.config.cutouts
        if not cutouts:
            self.put(draw_body(self.rng), Pose(scale=scale, centre=centre))
            return
        cutout = cutouts[int(self.rng.integers(len(cutouts)))]
        layer = cutout_layer(self.rng, cutout, (side, side), scale=scale, centre=centre)
        if layer is not None:
            blend(self.rng, self.canvas, layer, self.light)

    def somewhere(self, margin: float = -0.08) -> tuple[float, float]:
        """A random point of the canvas; a negative margin (share of the side) also allows points outside."""
        x, y = self.rng.uniform(margin, 1 - margin, 2) * self.config.size
        return float(x), float(y)

    def pose(self, scale: float, centre: tuple[float, float], *, upright: bool = False) -> Pose:
        """A pose of random turn and perspective."""
        rng = self.rng
        angle = rng.normal(0, 0.15) if upright else rng.uniform(0, 2 * np.pi)
        tilt = (float(rng.normal(0, 0.15)), float(rng.normal(0, 0.15))) if rng.random() < 0.5 else (0.0, 0.0)
        return Pose(scale=scale, centre=centre, angle=float(angle), tilt=tilt)


def background(scene: Scene) -> None:
    """Fill the canvas: a photograph (unlabelled), one texture (unlabelled), or planes and regions (labelled)."""
    rng, side = scene.rng, scene.config.size
    photographs = scene.config.photographs
    kind = rng.random()
    if photographs and kind < 0.3:
        scene.canvas.image[:] = photographic(
            rng, (side, side), photographs[int(rng.integers(len(photographs)))], least=0.3
        )
    else:
        scene.canvas.image[:] = scene.materials.draw(rng).sample(rng, side, side)
    if kind > 0.62:
        _regions(scene)


def _regions(scene: Scene) -> None:
    """Divide the canvas by wavy or straight horizons, walls or roads, each a labelled region of its own."""
    rng, side = scene.rng, scene.config.size
    angle = rng.choice([0.0, 0.0, 0.0, np.pi / 2, rng.uniform(0, 6.3)])
    x = np.linspace(-2, 2, 80)
    alphas = []
    for offset in np.sort(rng.uniform(-0.8, 0.8, int(rng.integers(1, 4)))):
        wave = ripple(rng, 160, float(rng.choice([0.0, 0.02, 0.1])), float(rng.uniform(0.8, 1.6)), high=30)[:80]
        slope = rng.normal(0, rng.choice([0.0, 0.3]))
        ring = np.concatenate([np.stack([x, offset + slope * x + wave], axis=1), [[2.0, 4.0], [-2.0, 4.0]]])
        outline = Pose(scale=side / 2, centre=(side / 2, side / 2), angle=float(angle)).apply([ring])
        alphas.append(coverage(outline, 0, 0, side, side) * np.float32(1 / 255))
    first = np.ones((side, side), np.float32)
    label = np.zeros((side, side), np.int16)
    scene.canvas.add(Layer(top=0, left=0, colour=scene.canvas.image.copy(), alpha=first, label=label, parents=(-1,)))
    for alpha in alphas:
        colour = scene.materials.draw(rng).sample(rng, side, side)
        scene.canvas.add(Layer(top=0, left=0, colour=colour, alpha=alpha, label=label, parents=(-1,)))


def scattered(scene: Scene) -> None:
    """A few to many unrelated objects of all sizes."""
    rng, side = scene.rng, scene.config.size
    count = int(log_uniform(rng, 2, 16))
    limit = 0.42 if count < 8 else 0.25
    for size in sorted(log_uniform(rng, 0.02, limit) for _ in range(count))[:: -1 if rng.random() < 0.7 else 1]:
        _one(scene, size * side, scene.somewhere())


def _one(scene: Scene, scale: float, centre: tuple[float, float], *, upright: bool = False) -> None:
    """A random object: a cut-out one time in four, else procedural."""
    rng = scene.rng
    if scene.config.cutouts and rng.random() < 0.25:
        scene.put_cutout(scale, centre)
    else:
        scene.put(draw_body(rng, scene.config.cutouts), scene.pose(scale, centre, upright=upright))


def portrait(scene: Scene) -> None:
    """One large object in the middle, at times cut by the border, with little else."""
    rng, side = scene.rng, scene.config.size
    for _ in range(int(rng.integers(0, 3))):
        _one(scene, log_uniform(rng, 0.03, 0.3) * side, scene.somewhere())
    centre = (float(rng.uniform(0.3, 0.7) * side), float(rng.uniform(0.3, 0.7) * side))
    _one(scene, rng.uniform(0.28, 0.6) * side, centre, upright=rng.random() < 0.7)
    for _ in range(int(rng.integers(0, 3))):
        _one(scene, log_uniform(rng, 0.02, 0.12) * side, scene.somewhere())


def standing(scene: Scene) -> None:
    """Upright objects on a ground that recedes: the nearer, the lower and larger."""
    rng, side = scene.rng, scene.config.size
    horizon = rng.uniform(0.15, 0.6) * side
    near = log_uniform(rng, 0.12, 0.5) * side
    for depth in np.sort(rng.random(int(rng.integers(3, 13)))):
        scale = near * (0.15 + 0.85 * depth) * rng.uniform(0.6, 1.3)
        foot = horizon + (side * 1.05 - horizon) * depth
        centre = (float(rng.uniform(-0.05, 1.05) * side), float(foot - 0.8 * scale))
        _one(scene, scale, centre, upright=True)


def heap(scene: Scene) -> None:
    """Many of a kind, touching and overlapping: pellets, pebbles, fruit, mushrooms, leaves, coins."""
    rng, side, cutouts = scene.rng, scene.config.size, scene.config.cutouts
    spacing = log_uniform(rng, 0.06, 0.25) * side
    motifs = [_member(scene) for _ in range(int(rng.choice([1, 2, 4, 8])))]
    base = scene.materials.draw(rng)
    picture = cutouts[int(rng.integers(len(cutouts)))] if cutouts and rng.random() < 0.2 else None
    crowd, uneven, thinning = rng.uniform(0.4, 0.75), rng.uniform(0.05, 0.4), rng.choice([0.0, 0.0, 0.4])
    xs, ys = np.meshgrid(
        np.arange(spacing / 2, side + spacing, spacing), np.arange(spacing / 2, side + spacing, spacing)
    )
    spots = np.stack([xs.ravel(), ys.ravel()], axis=1)
    spots = spots + rng.normal(0, rng.choice([0.08, 0.3]) * spacing, spots.shape)
    if len(spots) > 150 or rng.random() < 0.7:
        rng.shuffle(spots)
    upright = bool(rng.random() < 0.4)
    for x, y in spots[:150]:
        if rng.random() < thinning:
            continue
        scale = spacing * crowd * np.exp(rng.normal(0, uneven))
        if picture is not None:
            layer = cutout_layer(rng, picture, (side, side), scale=scale, centre=(float(x), float(y)))
            if layer is not None:
                blend(rng, scene.canvas, layer, scene.light)
            continue
        body = motifs[int(rng.integers(len(motifs)))]
        body = [*body] if rng.random() < 0.5 else [_wobbled(rng, body[0]), *body[1:]]
        scene.put(
            body, scene.pose(scale, (float(x), float(y)), upright=upright), base.vary(rng, rng.choice([0.3, 1.0, 2.0]))
        )


def _member(scene: Scene) -> Body:
    rng = scene.rng
    if rng.random() < 0.25:
        return fruit(rng)
    body = plain(rng, scene.config.cutouts)
    if rng.random() < 0.3:
        body.append(
            Piece(
                outline=place(draw_outline(rng), scale=0.4, angle=0.0, centre=(0.0, 0.0)), parent=0, clip=True, shared=0
            )
        )
    return body


def _wobbled(rng: np.random.Generator, piece: Piece) -> Piece:
    """The same piece in a slightly other form."""
    return Piece(
        outline=perturb(rng, piece.outline),
        parent=piece.parent,
        clip=piece.clip,
        finish=piece.finish,
        shared=piece.shared,
    )


def facade(scene: Scene) -> None:
    """A front with rows of equal windows, doors or tiles, seen straight or in perspective; the front is the whole."""
    rng, side, cutouts = scene.rng, scene.config.size, scene.config.cutouts
    columns, rows = int(rng.integers(2, 9)), int(rng.integers(2, 8))
    motif = window(rng) if rng.random() < 0.6 else plain(rng, cutouts)
    fill = rng.uniform(0.25, 0.46)
    low, high = rng.uniform(0.7, 1.4, 2)
    front: Body = [Piece(outline=[np.array([[-low, -high], [low, -high], [low, high], [-low, high]])])]
    aspect = np.array([2 * low / columns, 2 * high / rows])
    box = np.abs(np.concatenate(motif[0].outline)).max(axis=0)
    unit = aspect * fill / np.maximum(box, 1e-3)
    if rng.random() < 0.5:
        unit = np.full(2, unit.min())
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.08:
                continue
            centre = (np.array([column, row]) + 0.5) * aspect - [low, high]
            first = len(front)
            for piece in motif:
                outline = [ring * unit + centre for ring in piece.outline]
                parent = 0 if piece.parent < 0 else first + piece.parent
                front.append(
                    Piece(
                        outline=outline,
                        parent=parent,
                        clip=piece.clip or rng.random() < 0.5,
                        shared=10 + (piece.parent >= 0),
                    )
                )
    tilt = (float(rng.normal(0, 0.22)), float(rng.normal(0, 0.22)))
    centre_px = (float(rng.uniform(0.35, 0.65) * side), float(rng.uniform(0.35, 0.65) * side))
    scene.put(
        front, Pose(scale=rng.uniform(0.3, 0.6) * side, centre=centre_px, angle=float(rng.normal(0, 0.08)), tilt=tilt)
    )
    for _ in range(int(rng.integers(0, 4))):
        _one(scene, log_uniform(rng, 0.04, 0.25) * side, scene.somewhere(), upright=True)


def shelf(scene: Scene) -> None:
    """Rows of upright boxes side by side, with stripes and letters on them: books, files, planks, bars."""
    rng, side = scene.rng, scene.config.size
    rows = int(rng.integers(1, 4))
    turn = float(rng.choice([0.0, 0.0, np.pi / 2]) + rng.normal(0, 0.05))
    tilt = (float(rng.normal(0, 0.1)), float(rng.normal(0, 0.1)))
    common = scene.materials.draw(rng) if rng.random() < 0.3 else None
    for row in range(rows):
        top, bottom = -1.1 + 2.2 * row / rows, -1.1 + 2.2 * (row + 0.92) / rows
        x, mean = -1.2, log_uniform(rng, 0.05, 0.25)
        while x < 1.2:
            width = mean * np.exp(rng.normal(0, 0.35))
            rise = rng.uniform(0, 0.35) * (bottom - top)
            lean = rng.normal(0, rng.choice([0.0, 0.02]))
            body = _spine(rng, x, x + width, top + rise, bottom, lean)
            base = common.vary(rng, 1.5) if common is not None else None
            scene.put(body, Pose(scale=side * 0.5, centre=(side / 2, side / 2), angle=turn, tilt=tilt), base)
            x += width * (1.0 if rng.random() < 0.8 else rng.uniform(1.0, 2.0))


def _spine(rng: np.random.Generator, x0: float, x1: float, top: float, bottom: float, lean: float) -> Body:
    """A book's spine: a box with bands and, at times, a line of letters."""
    body = [Piece(outline=[np.array([[x0 + lean, top], [x1 + lean, top], [x1 - 0.004, bottom], [x0 + 0.004, bottom]])])]
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        a = float(rng.uniform(top, bottom))
        b = a + rng.uniform(0.03, 0.3)
        body.append(
            Piece(outline=[np.array([[x0 - 1, a], [x1 + 1, a], [x1 + 1, b], [x0 - 1, b]])], parent=0, clip=True)
        )
    if rng.random() < 0.5:
        size = min(0.35 * (x1 - x0), 0.08)
        for index in range(int(rng.integers(1, 5))):
            centre = ((x0 + x1) / 2, top + 0.2 * (bottom - top) + 2.2 * size * index)
            body.append(
                Piece(
                    outline=place(glyph(rng), scale=size, angle=np.pi / 2, centre=centre), parent=0, clip=True, shared=0
                )
            )
    return body


def container(scene: Scene) -> None:
    """A large plate, tray, table or sheet with things lying on it."""
    rng, side = scene.rng, scene.config.size
    centre = (float(rng.uniform(0.35, 0.65) * side), float(rng.uniform(0.35, 0.65) * side))
    scale = rng.uniform(0.3, 0.6) * side
    scene.put(draw_body(rng) if rng.random() < 0.3 else plain(rng), scene.pose(scale, centre))
    small = log_uniform(rng, 0.12, 0.5) * scale
    motif = _member(scene) if rng.random() < 0.5 else None
    base = scene.materials.draw(rng)
    for _ in range(int(rng.integers(1, 12))):
        angle, reach = rng.uniform(0, 6.3), scale * 0.75 * np.sqrt(rng.random())
        spot = (centre[0] + float(np.cos(angle) * reach), centre[1] + float(np.sin(angle) * reach))
        if motif is not None:
            scene.put(motif, scene.pose(small, spot), base.vary(rng, 0.7))
        else:
            _one(scene, small * rng.uniform(0.5, 1.4), spot)


def thicket(scene: Scene) -> None:
    """Trunks, branches, poles and wires across the picture, with things behind and before them."""
    rng, side = scene.rng, scene.config.size
    for _ in range(int(rng.integers(0, 5))):
        _one(scene, log_uniform(rng, 0.05, 0.35) * side, scene.somewhere())
    bark = scene.materials.draw(rng)
    for _ in range(int(rng.integers(2, 9))):
        body = tree(rng) if rng.random() < 0.5 else strand(rng)
        angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, 6.3)]) if len(body) == 1 else rng.normal(0, 0.2)
        pose = Pose(scale=log_uniform(rng, 0.3, 1.2) * side, centre=scene.somewhere(), angle=float(angle))
        scene.put(body, pose, bark.vary(rng, 1.0) if rng.random() < 0.5 else None)
    for _ in range(int(rng.integers(0, 3))):
        _one(scene, log_uniform(rng, 0.03, 0.2) * side, scene.somewhere())


def mosaic(scene: Scene) -> None:
    """The whole picture divided into cells that differ by texture alone or by colour."""
    rng, side = scene.rng, scene.config.size
    division = cv2.Subdiv2D((-side, -side, 3 * side, 3 * side))
    for x, y in rng.uniform(0, side, (int(rng.integers(3, 20)), 2)):
        division.insert((float(x), float(y)))
    wave, pitch, phase = rng.choice([0.0, 0.02, 0.06]) * side, rng.uniform(2, 14) / side, rng.uniform(0, 6.3, 2)
    base = scene.materials.draw(rng) if rng.random() < 0.4 else None
    for facet in division.getVoronoiFacetList([])[0]:
        ring = np.asarray(facet, float)
        steps = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
        dense = (ring[:, None] * (1 - steps) + np.roll(ring, -1, axis=0)[:, None] * steps).reshape(-1, 2)
        dense = dense + wave * np.sin(dense[:, ::-1] * pitch + phase)
        body = [Piece(outline=[dense])]
        scene.put(body, Pose(scale=1.0, centre=(0.0, 0.0)), base.vary(rng, 2.0) if base is not None else None)
    for _ in range(int(rng.integers(0, 4))):
        _one(scene, log_uniform(rng, 0.03, 0.3) * side, scene.somewhere())


def cutouts_only(scene: Scene) -> None:
    """One to nine cut-outs of all sizes."""
    rng, side = scene.rng, scene.config.size
    for size in sorted(log_uniform(rng, 0.03, 0.5) for _ in range(int(rng.integers(1, 10))))[::-1]:
        scene.put_cutout(size * side, scene.somewhere(0.0))


LAYOUTS: tuple[tuple[Callable[[Scene], None], float], ...] = (
    (scattered, 3.0),
    (portrait, 2.5),
    (standing, 1.5),
    (heap, 2.0),
    (facade, 1.0),
    (shelf, 0.8),
    (container, 1.2),
    (thicket, 0.8),
    (mosaic, 0.6),
    (cutouts_only, 1.5),
)
_CHANCES = np.array([weight for _, weight in LAYOUTS]) / sum(weight for _, weight in LAYOUTS)


def draw_layout(rng: np.random.Generator) -> Callable[[Scene], None]:
    """A random arrangement."""
    return LAYOUTS[int(rng.choice(len(LAYOUTS), p=_CHANCES))][0]
