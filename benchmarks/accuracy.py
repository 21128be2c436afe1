"""How much better than classical methods does the model segment, on photographs it has not seen?

`python benchmarks/accuracy.py --data FOLDER` plays the single-point protocol (clicks at the centre of the
error; a tight box) on every FOLDER/labelled/*-val.tar, for the model and for the methods of baselines.py, all
on the same masks, and prints a table a prompt; its last line is one JSON object. By default on a part of the
data, drawn by --seed; --full takes all.

`--tune` instead looks for the methods' best settings on a part of the *-train.tar, and writes them beside
this file. The validation tars are never used for that.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import anymask
import baselines
from anymask.data.files import write_text_atomic
from anymask.data.open import open_sets
from anymask.errors import AnymaskError, DataError
from anymask.evaluation import report
from anymask.evaluation.protocol import Segmenter
from anymask.evaluation.single_point import (
    ModelSegmenter,
    Scores,
    SetOutcome,
    SinglePointConfig,
    SinglePointResult,
    evaluate_set,
    summarise,
)
from anymask.model import SIZES, Sam, build_sam
from anymask.plots import curves
from machine import machine

PROMPTS = ("1", "3", "5", "box")
"""The columns compared: clicks, and the box."""
SHORT = (1, 3, 5)
"""The clicks among them."""
DEFAULT_IMAGES, DEFAULT_MASKS = 6, 8

Outcomes = dict[str, dict[str, SetOutcome]]
"""By method, then by data set."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.tune:
            tune(options)
        else:
            compare(options)
    except AnymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def compare(options: argparse.Namespace) -> None:
    """Evaluate the model and the methods on the same masks, and print how they compare."""
    paths = _tars(options.data, "val")
    config = _part(SinglePointConfig(), options, DEFAULT_IMAGES, DEFAULT_MASKS)
    short = replace(config, clicks=SHORT, max_clicks=max(SHORT))
    outcomes: Outcomes = {options.model: _run_model(load_model(options.model), paths, config)}
    results = {options.model: summarise(outcomes[options.model], config)}
    if not options.skip_baselines:
        methods = baselines.tuned()
        with _processes(options.workers) as pool:
            found = _run_methods(pool, methods, paths, short)
        outcomes |= found
        results |= {name: summarise(found[name], short) for name in methods}
    print(f"\n## {options.model}\n\n{report.to_markdown(results[options.model])}")
    for prompt in PROMPTS if len(results) > 1 else ():
        print(f"\n## mIoU, {_title(prompt)}\n\n{_comparison(results, prompt)}")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        report.write(results[options.model], options.output)
        _plot_calibration(results[options.model], options.model, options.output / "calibration.png")
    print(json.dumps(_summary(options.model, results, outcomes)))


def _plot_calibration(result: SinglePointResult, model: str, path: Path) -> None:
    assert result.calibration is not None
    bins = result.calibration.bins
    values = [np.array([getattr(b, name) for b in bins]) for name in ("predicted", "true", "count")]
    path.write_bytes(curves.calibration(*values, title=f"{model} on validation photographs"))


def load_model(name: str) -> Sam:
    """Load a model by its name or path; the name of a size alone gives one with random weights, chance's score."""
    if name in SIZES:
        torch.manual_seed(0)
        return build_sam(SIZES[name]).eval()
    model: Sam = anymask.load(name)
    return model.eval()


def tune(options: argparse.Namespace) -> None:
    """Try each setting of each method in turn on training photographs, and keep the best."""
    paths = _tars(options.data, "train")
    config = _part(SinglePointConfig(clicks=SHORT, max_clicks=max(SHORT)), options, 2, 2)
    with _processes(options.workers) as pool:
        for name in options.methods or baselines.METHODS:
            best, score = _tune_method(pool, name, paths, config)
            kept = json.loads(baselines.SETTINGS.read_text()) if baselines.SETTINGS.exists() else {}
            kept[name] = {
                "settings": best,
                "score": round(score, 4),
                "tuned_on": {"tars": [path.name for path in paths], **_drawn(config)},
            }
            write_text_atomic(baselines.SETTINGS, json.dumps(kept, indent=2) + "\n")


def _tune_method(
    pool: ProcessPoolExecutor, name: str, paths: Sequence[Path], config: SinglePointConfig
) -> tuple[dict[str, Any], float]:
    """Return a method's best settings and their mean mIoU over 1, 3 and 5 clicks and the box."""
    best: dict[str, Any] = {}
    best_score = -1.0
    for setting, values in baselines.GRIDS[name].items():
        candidates = {str(value): baselines.METHODS[name](**best | {setting: value}) for value in values}
        found = _run_methods(pool, candidates, paths, config)
        scores = {value: _overall(summarise(found[str(value)], config)) for value in values}
        chosen = max(scores, key=lambda value: scores[value])
        best, best_score = best | {setting: chosen}, scores[chosen]
        listed = ", ".join(f"{value}: {score:.4f}" for value, score in scores.items())
        print(f"{name}, {setting}: {listed}", flush=True)
    return best, best_score


def _run_model(model: Sam, paths: Sequence[Path], config: SinglePointConfig) -> dict[str, SetOutcome]:
    segmenter = ModelSegmenter(model)
    outcomes = {}
    for name, images in open_sets(paths).items():
        outcomes[name] = evaluate_set(segmenter, name, images, config)
        _say(f"model, {name}: {outcomes[name].seconds:.0f} s")
    return outcomes


def _processes(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)


def _run_methods(
    pool: ProcessPoolExecutor, methods: Mapping[str, Segmenter], paths: Sequence[Path], config: SinglePointConfig
) -> Outcomes:
    """Evaluate classical methods, one data set with one method a task."""
    outcomes: Outcomes = {name: {} for name in methods}
    tasks = {
        (method, path): pool.submit(_run_task, segmenter, path, config)
        for method, segmenter in methods.items()
        for path in paths
    }
    for (method, _), task in tasks.items():
        name, outcome = task.result()
        outcomes[method][name] = outcome
        _say(f"{method}, {name}: {outcome.seconds:.0f} s")
    return outcomes


def _run_task(segmenter: Segmenter, path: Path, config: SinglePointConfig) -> tuple[str, SetOutcome]:
    ((name, images),) = open_sets([path]).items()
    return name, evaluate_set(segmenter, name, images, config)


def _one_thread() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _value(scores: Scores, prompt: str) -> float:
    return scores.box if prompt == "box" else scores.miou[int(prompt)]


def _overall(result: SinglePointResult) -> float:
    return float(np.mean([_value(result.mean, prompt) for prompt in PROMPTS]))


def _title(prompt: str) -> str:
    return {"1": "1 click", "box": "tight box"}.get(prompt, f"{prompt} clicks")


def _comparison(results: Mapping[str, SinglePointResult], prompt: str) -> str:
    """Return a table of data sets by methods, the best of each row in bold."""
    rows = []
    by_set = zip(*(result.sets for result in results.values()), strict=True)
    for name, scores in [
        *((found[0].name, [s.scores for s in found]) for found in by_set),
        ("**mean**", [result.mean for result in results.values()]),
    ]:
        values = [_value(s, prompt) for s in scores]
        rows.append([name, *(f"**{v:.3f}**" if v == max(values) else f"{v:.3f}" for v in values)])
    return report.table(["set", *results], rows)


def _summary(model: str, results: Mapping[str, SinglePointResult], outcomes: Outcomes) -> dict[str, Any]:
    """Return all figures: `behind` lists where the model is not ahead of a method, and by how much."""
    ours = results[model]
    behind = [
        [method, found.name, prompt, round(_value(found.scores, prompt) - _value(mine.scores, prompt), 4)]
        for method, result in results.items()
        if method != model
        for mine, found in zip(ours.sets, result.sets, strict=True)
        for prompt in PROMPTS
        if _value(found.scores, prompt) >= _value(mine.scores, prompt)
    ]
    prompts = {
        m: sum(o.outcome.clicks.size + o.outcome.box.size for o in sets.values()) for m, sets in outcomes.items()
    }
    return {
        "benchmark": "accuracy",
        **machine(),
        "model": model,
        "part": _drawn(ours.config),
        "masks": sum(found.num_masks for found in ours.sets),
        "miou": {m: {p: round(_value(r.mean, p), 4) for p in PROMPTS} for m, r in results.items()},
        "sets": {
            mine.name: {m: {p: round(_value(r.sets[index].scores, p), 4) for p in PROMPTS} for m, r in results.items()}
            for index, mine in enumerate(ours.sets)
        },
        "compared": (len(results) - 1) * len(ours.sets) * len(PROMPTS),
        "behind": behind,
        "clicks": {str(clicks): round(value, 4) for clicks, value in ours.mean.miou.items()},
        "oracle": round(ours.mean.oracle, 4),
        "noc": {str(percent): round(value, 3) for percent, value in ours.mean.noc.items()},
        "iou_correlation": None if ours.calibration is None else round(ours.calibration.correlation, 4),
        "seconds": {m: round(r.seconds, 1) for m, r in results.items()},
        "milliseconds_per_prompt": {m: round(1000 * r.seconds / prompts[m], 1) for m, r in results.items()},
        "peak_mib": {
            "model": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "baselines": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        },
    }


def _tars(folder: Path, kind: str) -> list[Path]:
    found = sorted(folder.glob(f"labelled/*-{kind}.tar")) or sorted(folder.glob(f"*-{kind}.tar"))
    if not found:
        raise DataError(f"{folder} has no labelled/*-{kind}.tar; give the folder of the labelled tars with --data")
    return found


def _part(config: SinglePointConfig, options: argparse.Namespace, images: int, masks: int) -> SinglePointConfig:
    """Return the config with the part of the data that the options ask for."""
    if options.full:
        return replace(config, seed=options.seed)
    images, masks = options.max_images or images, options.max_masks or masks
    return replace(config, seed=options.seed, max_images=images, max_masks=masks)


def _num_prompts(found: SetOutcome) -> int:
    """Return how many clicks and boxes there were; those that a perfect mask spared count as well."""
    return found.outcome.clicks.size + found.outcome.box.size


def _drawn(config: SinglePointConfig) -> dict[str, int | None]:
    return {"max_images": config.max_images, "max_masks": config.max_masks, "seed": config.seed}


def _parser() -> argparse.ArgumentParser:
    first, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=first, epilog=rest, formatter_class=argparse.RawTextHelpFormatter)
    data = os.environ.get("ANYMASK_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with labelled/*.tar ($ANYMASK_DATA)")
    parser.add_argument("--model", default="anymask-s", help="name or path of the model; a size for random weights")
    parser.add_argument("--max-images", type=int, help=f"images per data set (default {DEFAULT_IMAGES})")
    parser.add_argument("--max-masks", type=int, help=f"masks per image (default {DEFAULT_MASKS})")
    parser.add_argument("--full", action="store_true", help="all images and masks; takes hours with the baselines")
    parser.add_argument("--seed", type=int, default=0, help="which part is drawn")
    parser.add_argument("--skip-baselines", action="store_true", help="the model alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes for the baselines")
    parser.add_argument("--output", type=Path, help="folder for single_point.json and .md, calibration.png")
    parser.add_argument("--tune", action="store_true", help="tune the baselines on the training tars instead")
    parser.add_argument("--methods", nargs="+", choices=list(baselines.METHODS), help="with --tune: only these")
    return parser


if __name__ == "__main__":
    sys.exit(main())
