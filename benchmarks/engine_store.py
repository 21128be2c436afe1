"""How fast is a project's store with a million masks: inserts, the queries of an annotator's path, bytes per mask?

`python benchmarks/engine_store.py --images 10000 --masks 100 [--database postgresql://…]` fills a project of its own in
a temporary folder. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anymask.engine.pool import put
from anymask.engine.store import (
    Annotation,
    NewImage,
    NewJob,
    Outcome,
    Project,
    Provenance,
    Put,
    init_project,
    open_project,
)
from anymask.geometry import rle
from machine import machine

SIZE = (1500, 2250)
ROUNDS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--masks", type=int, default=100, help="of each image")
    parser.add_argument("--database", default=None)
    parser.add_argument("--seconds", type=float, default=170, help="inserting stops here, and says how far it came")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        init_project(Path(folder) / "project", url=arguments.database)
        with open_project(Path(folder) / "project", exclusive=False) as project:
            result = measure(project, arguments.images, arguments.masks, arguments.seconds)
    print(
        json.dumps(
            {
                "benchmark": "engine_store",
                "database": "sqlite" if not arguments.database else "postgresql",
                **result,
                **machine(),
            }
        )
    )


def measure(project: Project, images: int, masks: int, limit: float) -> dict[str, object]:
    new = [NewImage(name=f"{n}.jpg", location=f"/photographs/{n}.jpg", size=SIZE) for n in range(images)]
    ids = [image.id for image in project.images.add(new)]
    project.jobs.add("assisted", [NewJob(image_id=id) for id in ids])
    puts = example(masks)
    began = time.perf_counter()
    inserted = 0
    for id in ids:
        project.annotations.change(id, 0, "model", puts)
        inserted += 1
        if time.perf_counter() - began > limit:
            break
    seconds = time.perf_counter() - began
    path = project.folder / "project.sqlite"
    size = path.stat().st_size if path.exists() else postgres_size(project)
    paths = {name: p95(call) for name, call in annotator_path(project, ids[:inserted], puts[0]).items()}
    return {
        "images": len(ids),
        "masks": inserted * masks,
        "masks_per_second": round(inserted * masks / seconds),
        "bytes_per_mask": round(size / (inserted * masks)),
        "counts_bytes": round(float(np.mean([len(each.annotation.rle["counts"]) for each in puts]))),
        "p95_ms": paths,
    }


def postgres_size(project: Project) -> int:
    from sqlalchemy import text

    with project.database.reading() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def example(count: int) -> list[Put]:
    """Blobs of the sizes that masks of everything have."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    known = Provenance(stage="automatic", author="model", origin="automatic", model="0123456789abcdef")
    made = []
    for number in range(count):
        cy, cx, r = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1]), rng.uniform(20, 200)
        wave = 1 + 0.2 * np.sin(5 * np.arctan2(y - cy, x - cx) + number)
        mask = rle.encode((y - cy) ** 2 + (x - cx) ** 2 < (r * wave) ** 2)
        prompts = {"points": [[round(cx, 1), round(cy, 1)]]}
        made.append(
            Put(annotation=Annotation(id=f"auto-{number}", rle=mask, score=0.9, prompts=prompts, provenance=known))
        )
    return made


def annotator_path(project: Project, ids: list[int], one: Put) -> dict[str, Callable[[int], object]]:
    """What an annotator waits for: the next image, its masks, a mask kept, the image finished, statistics."""

    def finish(_: int) -> None:
        lease = project.jobs.lease("assisted", "ann", seconds=60)
        assert lease is not None
        began = time.perf_counter()
        project.jobs.finish(lease, Outcome(seconds=9, clicks=2, added=1))
        finished.append(time.perf_counter() - began)

    finished: list[float] = []

    def lease(_: int) -> None:
        assert project.jobs.lease("assisted", "bob", seconds=60, tries=None) is not None

    def keep(round_: int) -> None:
        from dataclasses import replace

        image = ids[round_ % len(ids)]
        put(project, image, "ann", [Put(annotation=replace(one.annotation, id=f"ann-{round_}"))])

    return {
        "lease the next image": lease,
        "read an image's masks": lambda n: project.annotations.state(ids[(n * 37) % len(ids)]),
        "keep a mask": keep,
        "lease and finish an image": finish,
        "statistics of a stage": lambda _: project.outcomes.statistics("assisted"),
    }


def p95(call: Callable[[int], object]) -> float:
    times = []
    for round_ in range(ROUNDS):
        began = time.perf_counter()
        call(round_)
        times.append(time.perf_counter() - began)
    return round(1000 * float(np.percentile(times, 95)), 2)


if __name__ == "__main__":
    main()
