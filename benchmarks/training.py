"""How long does each part of training take? Samples a second of every part alone, and its share of a sample's time.

    python benchmarks/training.py [--size compact] [--image-size 128] [--batch 8] [--masks 4] [--rounds 3] [--seconds 8]

Parts: rendering a scene (done once, to shards), reading it (tar, JPEG, RLEs), the same from a cache of decoded
images, its variation (resize, crop, colours), playing the rounds (prompts and corrections, with a decoder that costs
nothing), and the training step, of which the forward passes of encoder and decoder are shown apart. Random weights,
float32, on the CPU; synthetic scenes of 256 pixels without photographs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

import anymask  # noqa: F401 (before torch, whose threads then wait as anymask's do)

# isort: split
import torch

from anymask.data.cache import ImageCache
from anymask.data.loader import Batch, BatchStream, Source
from anymask.data.readers.tars import TarFiles
from anymask.data.synthetic import SceneConfig, generate, render_shards
from anymask.data.transforms import TransformConfig, transform
from anymask.model import SIZES, Embedding, Prompts, Sam, build_sam
from anymask.task import LossConfig, RoundsConfig, SimulatedPrompts, simulate
from anymask.training.config import OptimConfig
from anymask.training.objectives.sam import preprocess, sam_step
from anymask.training.optim import build_optimizer
from machine import machine

SCENES = 64
VARIED = TransformConfig(scale=(0.9, 2.0), aspect=0.3, flip=True, turn=0.3, color=0.4)


def seconds_each(call: Callable[[int], object], budget: float, items: int = 1) -> float:
    """Median time of a call, an item, over as many calls as the budget allows, after one to warm up."""
    call(0)
    times: list[float] = []
    end = time.perf_counter() + budget
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        call(len(times) + 1)
        times.append((time.perf_counter() - began) / items)
    return float(np.median(times))


def data_parts(folder: Path, arguments: argparse.Namespace) -> dict[str, Callable[[int], object]]:
    size, most = arguments.image_size, 4 * arguments.masks
    config = SceneConfig(size=256)
    shards = list(render_shards(folder, config, scenes_per_shard=SCENES))
    files = TarFiles(shards)
    cached = TarFiles(shards, cache=ImageCache(2**30, folder / "cache"))
    for index in range(SCENES):
        cached.sample(index, max_masks=most)
    samples = [files.sample(index, max_masks=most, rng=np.random.default_rng(index)) for index in range(SCENES)]

    def read(from_files: TarFiles, number: int) -> object:
        return from_files.sample(number % SCENES, max_masks=most, rng=np.random.default_rng(number))

    def vary(number: int) -> object:
        rng = np.random.default_rng(number)
        return transform(samples[number % SCENES], VARIED, image_size=size, mask_size=size // 2, rng=rng)

    return {
        "render a scene": lambda n: generate(np.random.default_rng(n), config),
        "read, no cache": lambda n: read(files, n),
        "read, cache on disk": lambda n: read(cached, n),
        "vary": vary,
    }


def batch_of(folder: Path, arguments: argparse.Namespace) -> Batch:
    source = Source(files=TarFiles(sorted(folder.glob("*.tar"))), weight=1.0, transforms=VARIED)
    size = arguments.image_size
    counts = {"batch_size": arguments.batch, "num_masks": arguments.masks}
    return BatchStream([source], **counts, image_size=size, mask_size=size // 2, seed=0).batch(0)


def model_parts(model: Sam, batch: Batch, rounds: RoundsConfig) -> dict[str, Callable[[int], object]]:
    generator = torch.Generator().manual_seed(0)
    optimizer = build_optimizer(model, OptimConfig())
    b, p, side = *batch.masks.shape[:2], model.mask_size
    logits, iou = torch.randn(b, p, 4, side, side), torch.rand(b, p, 4)
    images = preprocess(model, batch)
    features = model.encode(images).features.detach()
    common = {"image_size": model.image_size, "mask_size": side, "valid": batch.valid, "generator": generator}

    def decode(prompts: SimulatedPrompts) -> tuple[torch.Tensor, torch.Tensor]:
        names = ("points", "labels", "masks", "has_mask")
        return model.decode(Embedding(features=features), Prompts(**{n: getattr(prompts, n) for n in names}))

    def forward(number: int) -> None:
        with torch.no_grad():
            list(simulate(decode, batch.masks, rounds, **common))

    def encode(number: int) -> None:
        with torch.no_grad():
            model.encode(images)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        sam_step(model, batch, rounds=rounds, loss=LossConfig(bce=1.0), generator=generator)
        optimizer.step()

    return {
        "simulate the rounds": lambda n: list(simulate(lambda _: (logits, iou), batch.masks, rounds, **common)),
        "encode": encode,
        "simulate and decode": forward,
        "training step": step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="compact", choices=SIZES)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--masks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="time given to each part")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rounds = RoundsConfig(num_corrections=max(arguments.rounds - 2, 0), num_refinements=min(arguments.rounds - 1, 1))
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, call in data_parts(folder, arguments).items():
            seconds[part] = seconds_each(call, arguments.seconds)
        batch = batch_of(folder, arguments)
        model = build_sam(replace(SIZES[arguments.size], image_size=arguments.image_size))
        for part, call in model_parts(model, batch, rounds).items():
            seconds[part] = seconds_each(call, arguments.seconds, items=arguments.batch)
    report(seconds, arguments, rounds.num_rounds)


def report(seconds: dict[str, float], arguments: argparse.Namespace, rounds: int) -> None:
    """Print the table, then the JSON line; shares are of a sample that is read, varied and stepped on.

    Rendering and the cache come before or instead of that; simulation and forward passes are within the step.
    """
    whole = seconds["read, no cache"] + seconds["vary"] + seconds["training step"]
    print(f"{'':22s} {'ms a sample':>12s} {'samples/s':>11s} {'share':>7s}")
    for part, each in seconds.items():
        print(f"{part:22s} {each * 1e3:12.2f} {1 / each:11.1f} {each / whole:7.1%}")
    result = {
        "benchmark": "training",
        "ratio": {"read, no cache": round(seconds["read, no cache"] / seconds["read, cache on disk"], 3)},
        "seconds": {part: round(each, 6) for part, each in seconds.items()},
        "samples_a_second": {part: round(1 / each, 2) for part, each in seconds.items()},
        "share": {part: round(each / whole, 4) for part, each in seconds.items()},
        "model": arguments.size,
        "image_size": arguments.image_size,
        "batch": arguments.batch,
        "masks": arguments.masks,
        "rounds": rounds,
        "threads": arguments.threads,
        **machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
