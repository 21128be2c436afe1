"""One synthetic scene: materials and light, background, objects, false seams, camera, masks."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from anymask.data.sample import Sample, nested
from anymask.data.synthetic.camera import expose
from anymask.data.synthetic.canvas import Canvas
from anymask.data.synthetic.layouts import collage, container, portrait, scattered, standing, thicket
from anymask.data.synthetic.light import dapple, draw_light
from anymask.data.synthetic.materials import Materials
from anymask.data.synthetic.pasting import false_seam
from anymask.data.synthetic.repetition import facade, heap, mosaic, shelf
from anymask.data.synthetic.stage import SceneConfig, Stage, background
from anymask.errors import DataError

LAYOUTS: tuple[tuple[Callable[[Stage], None], float], ...] = (
    (scattered, 3.0),
    (portrait, 2.7),
    (standing, 1.5),
    (heap, 2.0),
    (facade, 1.0),
    (shelf, 0.8),
    (container, 1.2),
    (thicket, 0.8),
    (mosaic, 0.5),
    (collage, 1.5),
)
_CHANCES = np.array([weight for _, weight in LAYOUTS]) / sum(weight for _, weight in LAYOUTS)
_ATTEMPTS = 20
_NESTED_ATTEMPTS = 200


def generate(rng: np.random.Generator, config: SceneConfig, *, key: str = "synthetic") -> Sample:
    """A scene of config.size² pixels with the exact masks of all that is seen in it, at least one.

    The same state of the generator and the same config give the same scene. Raises DataError when the config's
    limits leave no mask in twenty scenes running, or no nested object in two hundred where one is asked for.
    """
    attempts = _NESTED_ATTEMPTS if config.nested else _ATTEMPTS
    for _ in range(attempts):
        sample = _attempt(rng, config, key)
        if any(True for _ in nested(sample)) if config.nested else len(sample.masks):
            return sample
    missing = "an object with a part and a subpart" if config.nested else "a mask"
    raise DataError(
        f"{attempts} scenes without {missing}: a min_area of {config.min_area} leaves none at {config.size} px"
    )


def _attempt(rng: np.random.Generator, config: SceneConfig, key: str) -> Sample:
    side = config.size
    stage = Stage(
        rng=rng,
        config=config,
        canvas=Canvas(np.zeros((side, side, 3), np.float32)),
        materials=Materials(rng, side, config.photographs, count=int(rng.integers(3, 7))),
        light=draw_light(rng, side),
    )
    background(stage)
    _backdrop(stage)
    LAYOUTS[int(rng.choice(len(LAYOUTS), p=_CHANCES))][0](stage)
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        false_seam(rng, stage.canvas, config.photographs)
    if rng.random() < 0.18:
        stage.canvas.image *= dapple(rng, (side, side))[:, :, None]
    masks, levels, parents = stage.canvas.masks(min_area=config.min_area, most=config.max_masks)
    image = expose(rng, stage.canvas.image)
    return Sample(key=key, image=image, masks=masks, levels=levels, parents=parents, source="synthetic")


def _backdrop(stage: Stage) -> None:
    """At times put things far behind, throw the background out of focus, or lend its picture to the objects."""
    rng, canvas = stage.rng, stage.canvas
    if rng.random() < 0.15:
        for _ in range(int(rng.integers(1, 6))):
            stage.put_any(float(rng.uniform(0.05, 0.35)) * stage.side, stage.somewhere())
    if rng.random() < 0.22:
        side = 2 * int(rng.integers(1, max(2, stage.side // 50))) + 1
        canvas.image[:] = cv2.blur(cv2.blur(canvas.image, (side, side)), (side, side))
    if rng.random() < 0.3:
        stage.materials.textures[0] = np.clip(canvas.image, 0, 255).astype(np.uint8)
