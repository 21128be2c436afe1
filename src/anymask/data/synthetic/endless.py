"""Scenes as a data set with random access, each made when it is asked for."""

from __future__ import annotations

import dataclasses

import numpy as np

from anymask.data.sample import Sample, sample_indices
from anymask.data.signatures import signature
from anymask.data.synthetic.config import SceneConfig
from anymask.data.synthetic.scene import generate


class GeneratedScenes:
    """`count` scenes; the same seed and index give the same scene, another seed others."""

    def __init__(self, count: int, config: SceneConfig, *, seed: int = 0) -> None:
        self.count, self.config, self.seed = count, config, seed

    def __len__(self) -> int:
        """Return the number of scenes."""
        return self.count

    def key(self, index: int) -> str:
        """Return the scene's name."""
        return f"scene-{self.seed}-{index:05d}"

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        return signature(self.count, self.seed, repr(self.config))

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Make a scene, and keep all of its masks or `max_masks` of them drawn at random."""
        scene = generate(np.random.default_rng((self.seed, index)), self.config, key=self.key(index))
        chosen = sample_indices(len(scene.masks), max_masks, rng)
        if len(chosen) == len(scene.masks):
            return scene
        return dataclasses.replace(scene, masks=scene.masks[chosen], levels=None, parents=None)
