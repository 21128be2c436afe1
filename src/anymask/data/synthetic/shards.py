"""Scenes written to disk once, as tars in the layout of SA-1B, to be trained on many times."""

from __future__ import annotations

import io
import json
import multiprocessing
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np

from anymask.data.files import write_bytes_atomic
from anymask.data.sample import Sample
from anymask.data.synthetic.config import SceneConfig
from anymask.data.synthetic.scene import generate
from anymask.errors import OutputError
from anymask.geometry import points, rle

_QUALITY = 92


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
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {target}: {error.strerror}; give one that can be written to"
        ) from error
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
    """Prepare a worker process: one thread for OpenCV, and the config for all its shards."""
    cv2.setNumThreads(1)
    _equipment[:] = [config]


def _render_equipped(path: Path, count: int, seed: tuple[int, int]) -> Path:
    """Render a shard in a worker process."""
    return _render(path, _equipment[0], count, seed)


def _render(path: Path, config: SceneConfig, count: int, seed: tuple[int, int]) -> Path:
    """Write one tar: in memory first, then in one move."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for index in range(count):
            rng = np.random.default_rng((*seed, index))
            sample = generate(rng, config, key=f"{path.stem}-{index:05d}")
            for suffix, stored in pack(sample).items():
                member = tarfile.TarInfo(f"{sample.key}.{suffix}")
                member.size = len(stored)
                tar.addfile(member, io.BytesIO(stored))
    write_bytes_atomic(path, packed.getvalue())
    return path


def pack(sample: Sample) -> dict[str, bytes]:
    """A sample as the two files of SA-1B, by suffix: "jpg" and "json".

    Each annotation carries "level" and "parent" (an index into the list, -1 for none) besides SA-1B's keys, where
    the sample knows them; its point is the one farthest from the mask's edge, its scores are 1.
    """
    height, width = sample.image.shape[:2]
    bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    annotations = []
    for index, stored in enumerate(rle.encode_many(sample.masks)):
        point = points.centre(sample.masks[index])
        annotation: dict[str, object] = {
            "id": index,
            "segmentation": stored,
            "bbox": list(rle.bbox(stored)),
            "area": rle.area(stored),
            "predicted_iou": 1.0,
            "stability_score": 1.0,
            "crop_box": [0, 0, width, height],
            "point_coords": [list(point)] if point is not None else [],
        }
        if sample.levels is not None:
            annotation["level"] = int(sample.levels[index])
        if sample.parents is not None:
            annotation["parent"] = int(sample.parents[index])
        annotations.append(annotation)
    image = {"image_id": sample.key, "width": width, "height": height, "file_name": f"{sample.key}.jpg"}
    document = {"image": image, "annotations": annotations}
    return {"jpg": jpeg.tobytes(), "json": json.dumps(document, separators=(",", ":")).encode()}
