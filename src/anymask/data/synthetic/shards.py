"""Scenes written to disk once, as tars in the layout of SA-1B, to be trained on many times; or made again whenever one
is asked for (`GeneratedScenes`).
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from anymask.data.files import make_folder
from anymask.data.sample import Sample, fingerprint, sample_indices
from anymask.data.synthetic.scene import generate
from anymask.data.synthetic.stage import SceneConfig
from anymask.data.writers.sa1b import write_tar
from anymask.threads import use_one_thread


def render_shards(
    folder: str | Path,
    config: SceneConfig,
    *,
    name: str = "synthetic",
    num_shards: int = 1,
    scenes_per_shard: int = 1000,
    seed: int = 0,
    workers: int = 0,
) -> Iterator[Path]:
    """Write `<name>-00000.tar` and on, and yield each path when it is whole; those already there are passed over.

    A scene depends on (seed, shard, index) and the config alone, so shards can be made in any order and process.
    `workers` processes share the shards, 0 for this one. Raises OutputError for a folder that cannot be written to.
    """
    target = make_folder(folder)
    paths = [target / f"{name}-{shard:05d}.tar" for shard in range(num_shards)]
    missing = [(shard, path) for shard, path in enumerate(paths) if not path.exists()]
    if workers <= 0:
        for shard, path in missing:
            yield _render(path, config, scenes_per_shard, (seed, shard))
        return
    # The pictures go to each worker once, as it starts, and not with every shard.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_equip, initargs=(config,)) as pool:
        jobs = [pool.submit(_render_equipped, path, scenes_per_shard, (seed, shard)) for shard, path in missing]
        for job in as_completed(jobs):
            yield job.result()


_equipment: list[SceneConfig] = []


def _equip(config: SceneConfig) -> None:
    """Prepare a worker process: one thread, and the config for all its shards."""
    use_one_thread()
    _equipment[:] = [config]


def _render_equipped(path: Path, count: int, seed: tuple[int, int]) -> Path:
    """Render a shard in a worker process."""
    return _render(path, _equipment[0], count, seed)


def _render(path: Path, config: SceneConfig, count: int, seed: tuple[int, int]) -> Path:
    """Write one tar."""
    scenes = (
        generate(np.random.default_rng((*seed, index)), config, key=f"{path.stem}-{index:05d}")
        for index in range(count)
    )
    write_tar(path, scenes)
    return path


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

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        return fingerprint(self.count, self.seed, repr(self.config))

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Make a scene, and keep all of its masks or `max_masks` of them drawn at random."""
        scene = generate(np.random.default_rng((self.seed, index)), self.config, key=self.key(index))
        chosen = sample_indices(len(scene.masks), max_masks, rng)
        if len(chosen) == len(scene.masks):
            return scene
        return dataclasses.replace(scene, masks=scene.masks[chosen], levels=None, parents=None)
