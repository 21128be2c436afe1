"""One synthetic scene: materials and light, background, objects, false seams, camera, masks."""

from __future__ import annotations

import numpy as np

from anymask.data.sample import Sample
from anymask.data.synthetic.camera import expose
from anymask.data.synthetic.canvas import Canvas
from anymask.data.synthetic.config import SceneConfig
from anymask.data.synthetic.layouts import Scene, background, draw_layout
from anymask.data.synthetic.light import draw_light
from anymask.data.synthetic.materials import Materials
from anymask.data.synthetic.pasting import false_seam

_ATTEMPTS = 20


def generate(rng: np.random.Generator, config: SceneConfig, *, key: str = "synthetic") -> Sample:
    """A scene of config.size² pixels with the exact masks of all that is seen in it, at least one.

    The same generator state and config give the same scene.
    """
    for _ in range(_ATTEMPTS):
        sample = _attempt(rng, config, key)
        if len(sample.masks):
            return sample
    raise AssertionError(f"no scene with a mask of {config.min_area} pixels in {_ATTEMPTS} attempts")


def _attempt(rng: np.random.Generator, config: SceneConfig, key: str) -> Sample:
    side = config.size
    scene = Scene(
        rng=rng,
        config=config,
        canvas=Canvas(np.zeros((side, side, 3), np.float32)),
        materials=Materials(rng, side, config.photographs, count=int(rng.integers(3, 7))),
        light=draw_light(rng, side),
    )
    background(scene)
    draw_layout(rng)(scene)
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        false_seam(rng, scene.canvas, config.photographs)
    masks, levels, parents = scene.canvas.masks(min_area=config.min_area)
    if len(masks) > config.max_masks:
        masks, levels, parents = masks[: config.max_masks], levels[: config.max_masks], parents[: config.max_masks]
    image = expose(rng, scene.canvas.image)
    return Sample(key=key, image=image, masks=masks, levels=levels, parents=parents, source="synthetic")
