"""How fast is a release written: images and masks per second, of each format?

    python benchmarks/engine_release.py [--images 100] [--masks 100] [--short-side PIXELS]

Fills a project in a temporary folder with images of 1500 x 2250 pixels, 100 masks each, and releases it once in every
format, and once in those that `anymask engine release` takes by default. With --short-side each image is decoded, made
smaller and encoded again, as blurring does too; without, its file goes into the release as it is. Card, plots and
checksums are in the time. Beside the clock's seconds are the processor's, which other work on the machine does not
touch. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from anymask.engine.release import ReleasePlan, release
from anymask.engine.release.making import FORMATS
from anymask.engine.store import NewImage, Project, init_project, open_project
from engine_store import SIZE, example
from machine import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--masks", type=int, default=100, help="of each image")
    parser.add_argument("--short-side", type=int, default=None)
    arguments = parser.parse_args()
    plans = {name: (name,) for name in FORMATS} | {"+".join(ReleasePlan().formats): ReleasePlan().formats}
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        init_project(Path(folder) / "project")
        with open_project(Path(folder) / "project", exclusive=False) as project:
            fill(project, arguments.images, arguments.masks)
            for name, formats in plans.items():
                plan = ReleasePlan(formats=formats, short_side=arguments.short_side, blur="none")
                found[name] = measure(project, Path(folder) / name, plan)
                print(
                    f"{name:<20} {found[name]['images_per_second']:8.1f} images/s "
                    f"{found[name]['masks_per_second']:9.0f} masks/s {found[name]['cpu_seconds']:8.2f} s of CPU "
                    f"{found[name]['mib']:8.1f} MiB"
                )
    print(
        json.dumps(
            {
                "benchmark": "engine_release",
                **machine(),
                "images": arguments.images,
                "masks": arguments.images * arguments.masks,
                "short_side": arguments.short_side,
                "formats": found,
            }
        )
    )


def fill(project: Project, images: int, masks: int) -> None:
    """Add images, copies of one photograph of blobs and grain, and their masks."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (SIZE[0] // 50, SIZE[1] // 50, 3), np.uint8)
    pixels = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    pixels = cv2.add(pixels, rng.integers(0, 12, pixels.shape, np.uint8))
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    new = []
    for number in range(images):
        name = f"{number:06d}.jpg"
        (project.folder / "images" / name).write_bytes(encoded)
        new.append(NewImage(name=name, location=f"images/{name}", size=SIZE))
    puts = example(masks)
    for image in project.images.add(new):
        project.annotations.change(image.id, 0, "model", puts)


def measure(project: Project, folder: Path, plan: ReleasePlan) -> dict[str, float]:
    """Make a release; return images and masks per second, and its size."""
    began, cpu = time.perf_counter(), time.process_time()
    done = release(project, folder, plan)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "images_per_second": round(done.images / seconds, 1),
        "masks_per_second": round(done.masks / seconds),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "mib": round(size / 2**20, 1),
    }


if __name__ == "__main__":
    main()
