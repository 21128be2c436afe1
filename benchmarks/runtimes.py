"""Which runtime answers fastest on this CPU, quiet and beside a busy process?

    python benchmarks/runtimes.py [--model anymask-s] [--rounds 20] [--threads 1 2]

torch, ONNX Runtime and OpenVINO (those that are installed) with one model's weights in float32: an image encoded, and
1, 16 and 64 points answered on it. They run in turn in one process, so that the noise of the machine hits all alike;
ratios are medians over rounds of (torch's seconds / the engine's). A process that counts is what the machine is busy
with. The largest difference to torch's logits is relative to the largest of them. Graphs are exported if need be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anymask
from machine import machine

# isort: split
import numpy as np
import torch

from anymask.inference.runtimes.engines import installed
from anymask.inference.runtimes.figures import open_graphs
from anymask.inference.runtimes.graphs import PARTS, export_graphs
from anymask.inference.runtimes.runtime import Runtime
from anymask.model import Embedding, PointLabel, Prompts, Sam

COUNTS = (1, 16, 64)


@contextlib.contextmanager
def too_many_requests(wanted: bool) -> Iterator[None]:
    """Keep one core busy meanwhile."""
    counting = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if counting is not None:
            counting.kill()
            counting.wait()


def runtimes(model: Sam, threads: int) -> dict[str, Runtime]:
    """Open the model's graphs in every engine that is installed."""
    folder = export_graphs(model)
    opened = {engine: open_graphs(folder, dict.fromkeys(PARTS, engine), threads) for engine in installed()}
    return {"torch": Runtime(model=model)} | {name: Runtime(model=model, graphs=each) for name, each in opened.items()}


def prompts(model: Sam, count: int) -> Prompts:
    points = np.random.default_rng(count).uniform(0, model.image_size * 3 // 4, (1, count, 1, 2)).astype(np.float32)
    labels = torch.full((1, count, 1), int(PointLabel.FOREGROUND))
    return Prompts.build(points=torch.from_numpy(points), labels=labels, padded=False)


def work(model: Sam, image: np.ndarray, embedding: Embedding) -> dict[str, Callable[[Runtime], Any]]:
    """Return what is timed."""
    asked = {f"{count} point{'s' * (count > 1)}": prompts(model, count) for count in COUNTS}
    return {"encoder": lambda runtime: runtime.encode([image])} | {
        name: partial(Runtime.decode, embedding=embedding, prompts=each, multimask=True) for name, each in asked.items()
    }


def timed(run: Callable[[Runtime], Any], compared: dict[str, Runtime], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for number in range(rounds + 1):
        for name, runtime in compared.items():
            began = time.perf_counter()
            run(runtime)
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def difference(compared: dict[str, Runtime], embedding: Embedding, asked: Prompts) -> dict[str, float]:
    logits = {name: each.decode(embedding, asked, multimask=True)[0] for name, each in compared.items()}
    largest = logits["torch"].abs().max()
    return {name: float((each - logits["torch"]).abs().max() / largest) for name, each in logits.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="anymask-s")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    model = anymask.load(arguments.model, runtime="torch")
    image = np.random.default_rng(0).integers(0, 256, (model.image_size * 3 // 4, model.image_size, 3), np.uint8)
    ratio: dict[str, dict[str, float]] = {}
    seconds: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            compared = runtimes(model, threads)
            (embedding,) = compared["torch"].encode([image])
            errors = difference(compared, embedding, prompts(model, 16))
            print(f"{'milliseconds':44s}" + "".join(f"{name:>14s}" for name in compared))
            for is_busy in (False, True):
                with too_many_requests(is_busy):
                    for what, run in work(model, image, embedding).items():
                        named = f"{what}, threads: {threads}, {'busy' if is_busy else 'quiet'}"
                        times = timed(run, compared, arguments.rounds)
                        seconds[named] = {name: round(statistics.median(each), 5) for name, each in times.items()}
                        ratio[named] = {
                            name: round(statistics.median(a / b for a, b in zip(times["torch"], each, strict=True)), 2)
                            for name, each in times.items()
                            if name != "torch"
                        }
                        print(f"{named:44s}" + "".join(f"{1e3 * each:14.1f}" for each in seconds[named].values()))
    result = {"benchmark": "runtimes", "model": arguments.model, "ratio": ratio, "seconds": seconds}
    print(json.dumps(result | {"relative_error": errors, "rounds": arguments.rounds, **machine()}))


if __name__ == "__main__":
    main()
