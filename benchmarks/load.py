"""Do many annotators at once get quick answers, and is what was acknowledged there after kill -9?

    python benchmarks/load.py [--users 50] [--encoders 5] [--seconds 60] [--think 1.0] [--model anymask-s]

Starts `anymask serve` on a fresh project and calls it over loopback: users, each on an image of their own, look at the
list, at a thumbnail and at their annotations, and make one change after the other, `think` seconds apart; encoders take
new images in and have them encoded without a pause. At the end, in the midst of it, the server is killed with SIGKILL,
started again, and asked for every change that it had acknowledged. The clients run in this process and take their share
of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from anymask.geometry import rle
from anymask.samples import sample_path
from machine import machine

ENCODING = ("encode", "embedding")
SIZE = (400, 600)


@dataclass(slots=True, kw_only=True)
class Record:
    """What was seen: seconds by operation, statuses, and the annotations that were acknowledged."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    encoded: int = 0
    is_over: bool = False

    async def call(self, client: httpx.AsyncClient, what: str, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request and time it."""
        start = time.perf_counter()
        try:
            answer = await client.request(method, path, **more)
        except httpx.TransportError as error:
            if not self.is_over:
                self.statuses[f"{what} {type(error).__name__}"] += 1
            raise
        self.seconds[what].append(time.perf_counter() - start)
        self.statuses[f"{what} {answer.status_code}"] += 1
        return answer


def start(project: Path, model: str) -> tuple[subprocess.Popen[str], str]:
    """Start the server; returns it and its address."""
    command = [sys.executable, "-P", "-m", "anymask", "serve", str(project), "--port", "0", "--json", "--model", model]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit("the server did not start")
    return process, json.loads(line)["url"]


def blob(generator: random.Random) -> rle.RLE:
    """A mask such as a click makes: an ellipse somewhere."""
    height, width = SIZE
    y, x = np.ogrid[:height, :width]
    cy, cx = generator.uniform(0, height), generator.uniform(0, width)
    ry, rx = generator.uniform(10, 120), generator.uniform(10, 120)
    return rle.encode(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)


def photograph(seed: int) -> bytes:
    """The sample, changed a little, so that it has to be encoded anew."""
    pixels = np.asarray(Image.open(sample_path("coffee"))).copy()
    pixels[:8, :8] = np.random.default_rng(seed).integers(0, 255, (8, 8, 3))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


async def user(number: int, image: str, client: httpx.AsyncClient, record: Record, think: float) -> None:
    """Annotate one image until the time is up."""
    generator = random.Random(number)
    revision = 0
    await asyncio.sleep(generator.uniform(0, think))
    while not record.is_over:
        key = f"u{number}-{revision}"
        annotation = {"id": key, "rle": blob(generator), "prompts": {"points": [[1, 2]], "labels": [1]}}
        body = {
            "base_revision": revision,
            "client": f"user-{number}",
            "changes": [{"op": "put", "annotation": annotation}],
        }
        answer = await record.call(client, "change", "POST", f"/api/images/{image}/changes", json=body)
        if answer.status_code == 200:
            revision = answer.json()["revision"]
            record.acknowledged[image].add(key)
        if revision % 5 == 0:
            await record.call(client, "annotations", "GET", f"/api/images/{image}/annotations")
        if revision % 10 == 0:
            await record.call(client, "images", "GET", "/api/images")
            await record.call(client, "thumbnail", "GET", f"/api/images/{image}/thumbnail")
        await asyncio.sleep(generator.uniform(0.5, 1.5) * think)


async def encoder(number: int, client: httpx.AsyncClient, record: Record) -> None:
    """Have one new image after the other encoded."""
    turn = 0
    while not record.is_over:
        turn += 1
        files = {"file": ("photo.jpg", photograph(1000 * number + turn), "image/jpeg")}
        answer = await record.call(client, "upload", "POST", "/api/images", files=files)
        if answer.status_code != 201:
            await asyncio.sleep(1)
            continue
        path = f"/api/images/{answer.json()['id']}"
        while not record.is_over:
            answer = await record.call(client, "encode", "POST", f"{path}/encode")
            if answer.status_code != 429:
                break
            await asyncio.sleep(float(answer.headers["retry-after"]))
        while not record.is_over:
            answer = await record.call(client, "embedding", "GET", f"{path}/embedding")
            if answer.status_code == 200:
                record.encoded += 1
                break
            await asyncio.sleep(0.25)


async def load(address: str, process: subprocess.Popen[str], arguments: argparse.Namespace) -> Record:
    """Run all users and encoders for the time given, then kill the server in the midst of it."""
    record = Record()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        images = []
        for number in range(arguments.users):
            answer = await client.post("/api/images", files={"file": (f"{number}.jpg", photograph(-number % 997))})
            images.append(answer.json()["id"])
        tasks = [
            *(user(n, image, client, record, arguments.think) for n, image in enumerate(images)),
            *(encoder(n, client, record) for n in range(arguments.encoders)),
        ]
        running = [asyncio.create_task(task) for task in tasks]
        await asyncio.sleep(arguments.seconds)
        record.is_over = True
        process.kill()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, httpx.TransportError):
                raise outcome
    return record


def missing(address: str, record: Record) -> int:
    """Return how many of the acknowledged annotations are not there."""
    lost = 0
    with httpx.Client(base_url=address, timeout=60) as client:
        for image, keys in record.acknowledged.items():
            state = client.get(f"/api/images/{image}/annotations").json()
            lost += len(keys - {annotation["id"] for annotation in state["annotations"]})
    return lost


def report(record: Record, lost: int, arguments: argparse.Namespace) -> None:
    """Print a table, then one JSON object."""
    print(f"{'operation':<14}{'count':>8}{'median ms':>12}{'95 % ms':>10}{'most ms':>10}")
    quick = []
    for what, seconds in sorted(record.seconds.items()):
        values = 1e3 * np.array(seconds)
        quick += [] if what in ENCODING else seconds
        middle, high = np.percentile(values, (50, 95))
        print(f"{what:<14}{len(values):>8}{middle:>12.1f}{high:>10.1f}{values.max():>10.1f}")
    p95 = float(np.percentile(quick, 95))
    bad = {each: n for each, n in record.statuses.items() if each[-3:] not in ("200", "201", "202", "429")}
    bad.pop("embedding 409", None)  # not ready yet
    print(f"encoded {record.encoded} images; {sum(map(len, record.acknowledged.values()))} changes, {lost} lost")
    print(f"statuses: {dict(sorted(record.statuses.items()))}")
    result = {
        "benchmark": "load",
        **machine(),
        "users": arguments.users,
        "encoders": arguments.encoders,
        "seconds": {"p95_not_encoding": round(p95, 4), "median_not_encoding": round(float(np.median(quick)), 4)},
        "requests_per_second": round(sum(map(len, record.seconds.values())) / arguments.seconds, 1),
        "encoded": record.encoded,
        "errors": bad,
        "acknowledged": sum(map(len, record.acknowledged.values())),
        "lost_after_kill": lost,
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--encoders", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between a user's changes")
    parser.add_argument("--model", default="anymask-s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, address = start(Path(folder), arguments.model)
        try:
            record = asyncio.run(load(address, process, arguments))
        finally:
            process.kill()
            process.wait()
        process, address = start(Path(folder), arguments.model)
        try:
            lost = missing(address, record)
        finally:
            process.kill()
            process.wait()
    report(record, lost, arguments)


if __name__ == "__main__":
    main()
