"""The stage: what every layout works with, what it is made from, and the backgrounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from anymask.data.synthetic.canvas import Canvas, Layer
from anymask.data.synthetic.creatures import draw_body
from anymask.data.synthetic.curves import ripple
from anymask.data.synthetic.cutouts import RGBA, cutout_layer
from anymask.data.synthetic.divisions import plain
from anymask.data.synthetic.light import Light, draw_surface
from anymask.data.synthetic.materials import Material, Materials
from anymask.data.synthetic.painting import Pose, coverage, paint
from anymask.data.synthetic.pasting import blend
from anymask.data.synthetic.pieces import Body
from anymask.data.synthetic.textures import photographic
from anymask.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """The randomness, the canvas that a layout fills, and the materials and the light that its objects share."""

    rng: np.random.Generator
    config: SceneConfig
    canvas: Canvas
    materials: Materials
    light: Light

    @property
    def side(self) -> int:
        """The side of the square canvas in pixels."""
        return self.config.size

    def put(self, body: Body, pose: Pose, base: Material | None = None, *, sunken: bool = False) -> None:
        """Paint an object on top of what is there; `sunken` makes it a hollow without a shadow."""
        surface = draw_surface(self.rng, self.light, sunken=sunken)
        layer = paint(self.rng, body, pose, self.materials, surface, (self.side, self.side), base=base)
        if layer is None:
            return
        if sunken:
            self.canvas.add(layer)
        else:
            blend(self.rng, self.canvas, layer, self.light)

    def paste(self, cutout: RGBA, scale: float, centre: tuple[float, float]) -> None:
        """Paste a cut-out on top of what is there; `scale` is half its longer side in pixels."""
        size = (self.side, self.side)
        layer = cutout_layer(self.rng, cutout, self.light, size, scale=scale, centre=centre)
        if layer is not None:
            blend(self.rng, self.canvas, layer, self.light)

    def any_cutout(self) -> RGBA | None:
        """A random cut-out, None where there are none."""
        cutouts = self.config.cutouts
        return cutouts[int(self.rng.integers(len(cutouts)))] if cutouts else None

    def put_any(self, scale: float, centre: tuple[float, float], *, upright: bool = False) -> None:
        """Put a random object: a cut-out one time in four, at times a hollow in what is there, else a body."""
        rng, kind = self.rng, self.rng.random()
        cutout = self.any_cutout() if kind < 0.27 else None
        if cutout is not None:
            self.paste(cutout, scale, centre)
        elif kind > 0.96:
            base = self.materials.draw(rng) if rng.random() < 0.4 else self.around(centre)
            self.put(plain(rng), self.pose(scale, centre), base, sunken=True)
        else:
            self.put(draw_body(rng, self.config.cutouts), self.pose(scale, centre, upright=upright))

    def around(self, centre: tuple[float, float]) -> Material:
        """The material of what is painted around a place, somewhat varied: camouflage."""
        reach = max(16, self.side // 5)
        x, y = (int(np.clip(value, reach, self.side - reach)) for value in centre)
        patch = self.canvas.image[y - reach : y + reach, x - reach : x + reach]
        texture = np.clip(patch, 0, 255).astype(np.uint8)
        return Material.of(texture).vary(self.rng, float(self.rng.uniform(0.5, 2.5)))

    def somewhere(self, margin: float = -0.08) -> tuple[float, float]:
        """A random point of the canvas; a negative margin (share of the side) also allows points outside."""
        x, y = self.rng.uniform(margin, 1 - margin, 2) * self.side
        return float(x), float(y)

    def middle(self, spread: float = 0.15) -> tuple[float, float]:
        """A point near the middle of the canvas, at most `spread` of the side away in x and y."""
        return self.somewhere(0.5 - spread)

    def pose(self, scale: float, centre: tuple[float, float], *, upright: bool = False) -> Pose:
        """A pose of random turn and perspective."""
        rng = self.rng
        angle = rng.normal(0, 0.15) if upright else rng.uniform(0, 2 * np.pi)
        tilt = (float(rng.normal(0, 0.15)), float(rng.normal(0, 0.15))) if rng.random() < 0.5 else (0.0, 0.0)
        return Pose(scale=scale, centre=centre, angle=float(angle), tilt=tilt)


def background(stage: Stage) -> None:
    """Fill the canvas: a photograph (unlabelled), one texture (unlabelled), or planes and regions (labelled)."""
    rng, side, photographs = stage.rng, stage.side, stage.config.photographs
    kind = rng.random()
    if photographs and kind < 0.3:
        photograph = photographs[int(rng.integers(len(photographs)))]
        stage.canvas.image[:] = photographic(rng, (side, side), photograph, least=0.3)
    else:
        stage.canvas.image[:] = stage.materials.draw(rng).sample(rng, side, side)
    if kind > 0.85:
        ground(stage, float(rng.uniform(0.1, 0.75)))
    elif kind > 0.62:
        _regions(stage)


def _label_all(stage: Stage) -> None:
    """Make all that is painted so far one labelled region."""
    side = stage.side
    alpha, label = np.ones((side, side), np.float32), np.zeros((side, side), np.int16)
    stage.canvas.add(Layer(top=0, left=0, colour=stage.canvas.image.copy(), alpha=alpha, label=label, parents=(-1,)))


def _fill(stage: Stage, colour: Float32[np.ndarray, "h w 3"], alpha: Float32[np.ndarray, "h w"]) -> None:
    """Paint one labelled region over the canvas."""
    label = np.zeros(alpha.shape, np.int16)
    stage.canvas.add(Layer(top=0, left=0, colour=colour, alpha=alpha, label=label, parents=(-1,)))


def _regions(stage: Stage) -> None:
    """Divide the canvas by wavy or straight horizons, walls or roads, each a labelled region of its own."""
    rng, side = stage.rng, stage.side
    angle = float(rng.choice([0.0, 0.0, 0.0, np.pi / 2, rng.uniform(0, 2 * np.pi)]))
    _label_all(stage)
    for offset in np.sort(rng.uniform(-0.8, 0.8, int(rng.integers(1, 4)))):
        alpha = _beyond(rng, side, float(offset), angle, float(rng.normal(0, rng.choice([0.0, 0.3]))))
        _fill(stage, stage.materials.draw(rng).sample(rng, side, side), alpha)


def _beyond(
    rng: np.random.Generator, side: int, offset: float, angle: float, slope: float
) -> Float32[np.ndarray, "h w"]:
    """The coverage of the far side of a wavy line; `offset` from the middle in half sides."""
    x = np.linspace(-2, 2, 80)
    wave = ripple(rng, 160, float(rng.choice([0.0, 0.02, 0.1])), float(rng.uniform(0.8, 1.6)), high=30)[:80]
    ring = np.concatenate([np.stack([x, offset + slope * x + wave], axis=1), [[2.0, 4.0], [-2.0, 4.0]]])
    outline = Pose(scale=side / 2, centre=(side / 2, side / 2), angle=angle).apply([ring])
    return coverage(outline, 0, 0, side, side) * np.float32(1 / 255)


def ground(stage: Stage, horizon: float) -> None:
    """Lay a receding plane below a horizon (a share of the side from above); it and what is above are regions."""
    rng, side = stage.rng, stage.side
    texture = stage.materials.draw(rng).sample(rng, side, side)
    top, near, far = horizon * side, rng.uniform(1.2, 4.0) * side, rng.uniform(0.55, 1.0) * side
    middle = rng.uniform(0.2, 0.8) * side
    corners = [[middle - far, top], [middle + far, top], [middle + near, side], [middle - near, side]]
    square = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    matrix = cv2.getPerspectiveTransform(square, np.array(corners, np.float32))
    plane = cv2.warpPerspective(texture, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
    alpha = _beyond(rng, side, 2 * horizon - 1, 0.0, float(rng.normal(0, 0.05)))
    _label_all(stage)
    _fill(stage, plane, alpha)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneConfig:
    """The side of the square image in pixels, the limits on its masks, and the pictures to draw on.

    `min_area` (pixels) and `max_masks` bound what is kept; `nested` keeps only scenes where an object has a part with a
    subpart, all distinct (about one in five). `photographs` (RGB) give backgrounds, textures and palettes, `cutouts`
    (RGBA) objects and silhouettes. Both may be empty. Raises DataError for invalid values.
    """

    size: int = 256
    min_area: int = 32
    max_masks: int = 200
    nested: bool = False
    photographs: list[UInt8[np.ndarray, "h w 3"]] = field(default_factory=list)
    cutouts: list[UInt8[np.ndarray, "h w 4"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse sizes and pictures that cannot be used."""
        if self.size < 32:
            raise DataError(f"the scene's size is {self.size} pixels; expected at least 32")
        if self.min_area < 1 or self.max_masks < 1:
            raise DataError(f"min_area {self.min_area} and max_masks {self.max_masks} must be at least 1")
        for name, pictures, channels in (("photograph", self.photographs, 3), ("cutout", self.cutouts, 4)):
            for index, picture in enumerate(pictures):
                if picture.ndim != 3 or picture.shape[2] != channels or picture.dtype != np.uint8:
                    raise DataError(
                        f"{name} {index} is {picture.dtype} {picture.shape}; expected uint8 (h, w, {channels})"
                    )
