"""What does each finer use of an answer give, and what does it cost?

`python benchmarks/finer_use.py --data FOLDER` plays the single-point protocol on a part of every
FOLDER/labelled/*-val.tar with each use by itself and with all of them, on the same masks: the plain answer, asking
again, tidying, drawing to edges, zooming in, and what is the default. It prints a table, then what one click and one
box take, each image and crop encoded beforehand, and what a crop's encoding takes; its last line is one JSON object.

`--time SIZE` times an untrained model of a size, such as vit_b, as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from accuracy import load_model
from anymask.data.open import open_sets
from anymask.errors import AnymaskError, DataError
from anymask.evaluation import report
from anymask.evaluation.protocol import ProtocolResult, run_protocol
from anymask.evaluation.result_log import draw_images, seeded
from anymask.evaluation.single_point import EncodedForPrompts, SinglePointConfig, draw_sample
from anymask.inference import PLAIN, Predictor, Refinement

USES = {
    "plain": PLAIN,
    "asked again": Refinement(tidy=False, zoom=False),
    "asked again twice": Refinement(passes=2, tidy=False, zoom=False),
    "tidied": Refinement(passes=0, zoom=False),
    "drawn to edges": Refinement(passes=0, tidy=False, edges=True, zoom=False),
    "zoomed in": Refinement(passes=0, tidy=False, zoom=True),
    "asked again, tidied": Refinement(zoom=False),
    "the same, zoomed in": Refinement(zoom=True),
    "all": Refinement(edges=True, zoom=True),
}
CLICKS = 5

Figures = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    cv2.setNumThreads(options.threads)
    torch.set_num_threads(options.threads)
    try:
        found = measure(options)
    except AnymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    times = {name: milliseconds(name, options.rounds) for name in [options.model, *options.time]}
    header = ["use", *next(iter(found.values()))]
    print(report.table(header, [[use, *(f"{v:.4f}" for v in values.values())] for use, values in found.items()]))
    for model, taken in times.items():
        rows = [[use, f"{click:.1f}", f"{box:.1f}"] for use, (click, box) in taken.items()]
        print(f"\n{report.table([f'{model}, ms', 'click', 'box'], rows)}")
    part = {"max_images": options.max_images, "max_masks": options.max_masks, "seed": options.seed}
    crops = {model: encoding(model, options.rounds) for model in times}
    for model, taken in crops.items():
        print(f"{model}: a crop is encoded in {taken:.1f} ms")
    summary = {"benchmark": "finer_use", "model": options.model, "part": part, "uses": found, "milliseconds": times}
    print(json.dumps(summary | {"crop_milliseconds": crops}))
    return 0


def measure(options: argparse.Namespace) -> dict[str, Figures]:
    """Return each use's means over data sets; every image is encoded once for all uses."""
    predictor = Predictor(load_model(options.model))
    config = SinglePointConfig(
        clicks=(1, 3, CLICKS), max_clicks=CLICKS, max_images=options.max_images, max_masks=options.max_masks
    )
    by_set: dict[str, list[Figures]] = {use: [] for use in USES}
    for name, images in open_sets(_tars(options.data)).items():
        parts: dict[str, list[ProtocolResult]] = {use: [] for use in USES}
        for index in draw_images(len(images), options.max_images, seeded(options.seed, name)):
            sample = draw_sample(images, index, config)
            predictor.set_image(sample.image)
            for use, refinement in USES.items():
                predictor.refinement = refinement
                parts[use].append(run_protocol(EncodedForPrompts(predictor), sample.masks, CLICKS))
        for use, outcomes in parts.items():
            by_set[use].append(_figures(ProtocolResult.join(outcomes)))
        print(f"[{time.strftime('%H:%M:%S')}] {name}", file=sys.stderr, flush=True)
    return {use: _mean(rows) for use, rows in by_set.items()}


def _figures(outcome: ProtocolResult) -> Figures:
    first = outcome.turn == 1
    return {
        **{f"{n} click{'s' if n > 1 else ''}": float(outcome.clicks[:, n - 1].mean()) for n in (1, 3, CLICKS)},
        "box": float(outcome.box.mean()),
        "oracle": float(outcome.oracle.mean()),
        **{f"boundary@{n}": float(outcome.boundary[:, n - 1].mean()) for n in (1, CLICKS)},
        "score's error": float(np.abs(outcome.predicted - outcome.true)[first].mean()),
    }


def _mean(rows: Sequence[Figures]) -> Figures:
    return {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}


def milliseconds(model: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median time of a click and of a box with each use, on an image of 640 × 480 that is encoded."""
    predictor = Predictor(load_model(model))
    y, x = np.mgrid[:480, :640]
    inside = (x - 300) ** 2 + (y - 220) ** 2 < 120**2
    image = np.where(inside[..., None], np.uint8([200, 60, 40]), np.uint8([60, 120, 90]))
    predictor.set_image(image)
    prompts: list[dict[str, Any]] = [{"points": [(300, 220)]}, {"box": (180, 100, 420, 340)}]
    taken: dict[str, tuple[list[float], list[float]]] = {use: ([], []) for use in USES}
    for number in range(rounds + 1):
        for use, refinement in USES.items():
            predictor.refinement = refinement
            for prompt, seconds in zip(prompts, taken[use], strict=True):
                began = time.perf_counter()
                predictor.predict(**prompt)
                seconds += [time.perf_counter() - began] if number else []
    return {
        use: (round(1e3 * statistics.median(clicks), 2), round(1e3 * statistics.median(found), 2))
        for use, (clicks, found) in taken.items()
    }


def encoding(model: str, rounds: int) -> float:
    """Return the median time in milliseconds that a crop of 224 × 224 takes to be encoded."""
    predictor = Predictor(load_model(model))
    crop = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    taken = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        predictor.set_image(crop)
        taken.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(taken[1:]), 2)


def _tars(folder: Path) -> list[Path]:
    found = sorted(folder.glob("labelled/*-val.tar"))
    if not found:
        raise DataError(f"{folder} has no labelled/*-val.tar; give the folder of the labelled tars with --data")
    return found


def _parser() -> argparse.ArgumentParser:
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=first, epilog=rest, formatter_class=argparse.RawTextHelpFormatter)
    data = os.environ.get("ANYMASK_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with labelled/*.tar ($ANYMASK_DATA)")
    parser.add_argument("--model", default="anymask-s", help="name or path of the model")
    parser.add_argument("--max-images", type=int, default=6, help="images per data set")
    parser.add_argument("--max-masks", type=int, default=8, help="masks per image")
    parser.add_argument("--seed", type=int, default=0, help="which part is drawn")
    parser.add_argument("--time", nargs="*", default=[], metavar="SIZE", help="sizes of untrained models to time too")
    parser.add_argument("--rounds", type=int, default=20, help="of the timing")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
