"""Are two of Ray's workers twice as fast as one?

    python benchmarks/ray_workers.py [--images 40] [--per-shard 2] [--seconds 0.6]

Annotates the same images on this machine with one worker and with two, in Ray clusters of their own that listen on the
loopback address alone. The model's time is simulated: a worker sleeps for `seconds` an image, so that the figure tells
what Ray, the shards and their transport cost, and not how many cores there are. What Ray takes to start is left out,
and told beside. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from anymask.engine.ray_shards import Annotate, Shard, annotate_on_ray, plan_shards
from anymask.geometry import rle
from anymask.inference.automatic.masks import MaskRecord
from machine import machine

ASKED = 1.8
SIZE = (120, 160)


@dataclass(frozen=True)
class Sleeper:
    """A model that takes its time and finds one corner."""

    seconds: float

    def __call__(self) -> Annotate:
        def annotate(pixels: np.ndarray) -> list[MaskRecord]:
            time.sleep(self.seconds)
            mask = np.zeros(pixels.shape[:2], bool)
            mask[:30, :40] = True
            return [
                MaskRecord(
                    rle=rle.encode(mask),
                    bbox=(0, 0, 40, 30),
                    area=1200,
                    predicted_iou=0.9,
                    stability_score=0.95,
                    point_coords=((20.0, 15.0),),
                    crop_box=(0, 0, pixels.shape[1], pixels.shape[0]),
                )
            ]

        return annotate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--per-shard", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.6, help="that a model takes for an image")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shards = plan_shards(pictures(Path(folder), arguments.images), arguments.per_shard)
        taken = {
            workers: measure(shards, Path(folder) / f"shards-{workers}", Sleeper(arguments.seconds), workers)
            for workers in (1, 2)
        }
    for workers, (seconds, began) in taken.items():
        print(f"{workers} worker{'s' * (workers > 1)}: {seconds:.1f} s, after {began:.1f} s to start")
    ratio = taken[1][0] / taken[2][0]
    print(
        json.dumps(
            {
                "benchmark": "ray_workers",
                **machine(),
                "ratio": round(ratio, 3),
                "asked": ASKED,
                "images": arguments.images,
                "seconds": {str(workers): round(seconds, 2) for workers, (seconds, _) in taken.items()},
                "seconds_to_start": {str(workers): round(began, 2) for workers, (_, began) in taken.items()},
                "model_seconds_per_image": arguments.seconds,
            }
        )
    )
    sys.exit(0 if ratio >= ASKED else 1)


def pictures(folder: Path, count: int) -> list[str]:
    """Write photographs of noise; return where they lie."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
    return [str(path) for path in paths]


def measure(shards: list[Shard], target: Path, build: Sleeper, workers: int) -> tuple[float, float]:
    """Return the seconds from the first image's beginning to the last one's end, and those until the first."""
    import ray

    called = time.time()
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    try:
        results = list(annotate_on_ray(shards, str(target), build, workers=workers))
    finally:
        ray.shutdown()
    assert len(list(target.glob("*.tar"))) == len(results) == len(shards)
    began = min(result.began for result in results)
    return max(result.ended for result in results) - began, began - called


if __name__ == "__main__":
    main()
