"""What does each finer use of an answer give, and what does it cost?

`python benchmarks/finer_use.py --data FOLDER` plays the single-point protocol on a part of every
FOLDER/labelled/*-val.tar with each use by itself and with all of them, on the same masks: the plain answer, asking
again, tidying, drawing to edges, and what is the default. It prints a table, then what one click and one box take,
each image encoded beforehand; its last line is one JSON object. `--look` also encodes the crop around each
first answer again ("a second look") and says what that gives at one click.

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
from anymask.evaluation.metrics import boundary_iou, iou_with
from anymask.evaluation.protocol import ProtocolResult, run_protocol
from anymask.evaluation.result_log import draw_images, seeded
from anymask.evaluation.single_point import EncodedForPrompts, SinglePointConfig, draw_sample
from anymask.geometry import boxes, points
from anymask.inference import PLAIN, Predictor, Refinement

USES = {
    "plain": PLAIN,
    "asked again": Refinement(tidy=False),
    "asked again twice": Refinement(passes=2, tidy=False),
    "tidied": Refinement(passes=0),
    "drawn to edges": Refinement(passes=0, tidy=False, edges=True),
    "asked again, tidied": Refinement(),
    "all": Refinement(edges=True),
}
CLICKS = 5
LOOK = 1.5
"""The crop of a second look is the mask's box, larger by this."""

Figures = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    cv2.setNumThreads(options.threads)
    torch.set_num_threads(options.threads)
    try:
        found, looks = measure(options)
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
    summary = {"benchmark": "finer_use", "model": options.model, "part": part, "uses": found, "milliseconds": times}
    print(json.dumps(summary | ({"second_look": looks} if options.look else {})))
    return 0


def measure(options: argparse.Namespace) -> tuple[dict[str, Figures], Figures]:
    """Return each use's means over data sets, and those of a second look; every image is encoded once for all uses."""
    predictor = Predictor(load_model(options.model))
    config = SinglePointConfig(
        clicks=(1, 3, CLICKS), max_clicks=CLICKS, max_images=options.max_images, max_masks=options.max_masks
    )
    by_set: dict[str, list[Figures]] = {use: [] for use in USES}
    looks: list[Figures] = []
    for name, images in open_sets(_tars(options.data)).items():
        parts: dict[str, list[ProtocolResult]] = {use: [] for use in USES}
        seen: list[Figures] = []
        for index in draw_images(len(images), options.max_images, seeded(options.seed, name)):
            sample = draw_sample(images, index, config)
            predictor.set_image(sample.image)
            for use, refinement in USES.items():
                predictor.refinement = refinement
                parts[use].append(run_protocol(EncodedForPrompts(predictor), sample.masks, CLICKS))
            if options.look:
                predictor.refinement = Refinement()
                seen += [_second_look(predictor, sample.image, mask) for mask in sample.masks]
        for use, outcomes in parts.items():
            by_set[use].append(_figures(ProtocolResult.join(outcomes)))
        looks += [_mean(seen)] if seen else []
        print(f"[{time.strftime('%H:%M:%S')}] {name}", file=sys.stderr, flush=True)
    return {use: _mean(rows) for use, rows in by_set.items()}, _mean(looks) if looks else {}


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


def _second_look(predictor: Predictor, image: np.ndarray, truth: np.ndarray) -> Figures:
    """Encode the crop around the first answer again and ask there with the click and the mask; the image stays set."""
    click = points.centre(truth)
    assert click is not None
    first = predictor.predict(points=[click]).best
    x0, y0, x1, y1 = _crop(first)
    second = first.copy()
    if 0 < (x1 - x0) * (y1 - y0) < first.size:
        closer = Predictor(predictor.model)
        closer.set_image(np.ascontiguousarray(image[y0:y1, x0:x1]))
        place = (float(np.clip(click[0] - x0, 0, x1 - x0)), float(np.clip(click[1] - y0, 0, y1 - y0)))
        second[:] = False
        second[y0:y1, x0:x1] = closer.predict(points=[place], mask=first[y0:y1, x0:x1]).best
    is_small = bool(truth.mean() < 0.01)
    before, after = (float(iou_with(mask[None], truth)[0]) for mask in (first, second))
    return {
        "first": before,
        "second look": after,
        "first, boundary": boundary_iou(first, truth),
        "second look, boundary": boundary_iou(second, truth),
        "second look if small": after if is_small else before,
    }


def _crop(mask: np.ndarray) -> tuple[int, int, int, int]:
    corners = boxes.from_masks(mask).reshape(2, 2).astype(float)
    centre, half = corners.mean(axis=0), (corners[1] - corners[0]) * LOOK / 2
    box = boxes.clip(np.concatenate([centre - half, centre + half]), mask.shape)
    x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
    return x0, y0, x1, y1


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
    parser.add_argument("--look", action="store_true", help="measure a second look too; encodes every mask's crop")
    parser.add_argument("--time", nargs="*", default=[], metavar="SIZE", help="sizes of untrained models to time too")
    parser.add_argument("--rounds", type=int, default=20, help="of the timing")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
