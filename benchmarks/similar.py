"""How many of a picture's things does one example find, and how many of the proposals are right?

`python benchmarks/similar.py --data FOLDER` takes masks of FOLDER/labelled/KIND-val.tar as examples, one at a time, and
asks for what is like them in the same picture and in the next one. A proposal is right if it overlaps a labelled mask
by an IoU of .5, each mask once; in the picture of the example that mask does not count. It prints recall and precision,
the mean of the searches; its last line is one JSON object. `--examples` gives several at once.

All labelled masks of a picture are taken for things of one kind, as books and pellets are. Leaves, flowers and fruit of
strawberries are labelled alike, and not every one, so that precision is bounded there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from accuracy import load_model
from anymask.data.open import open_data
from anymask.evaluation.result_log import seeded
from anymask.geometry import rle
from anymask.inference import Prompt
from anymask.inference.answers import encode
from anymask.inference.similar import Similar, SimilarOptions

SEED = 0
IOU = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    cv2.setNumThreads(options.threads)
    torch.set_num_threads(options.threads)
    search = Similar(load_model(options.model), SimilarOptions(min_similarity=options.min_similarity))
    measured = {kind: measure(search, kind, options) for kind in options.kinds}
    print(f"{'kind':14} {'where':6} {'recall':>7} {'precision':>10} {'proposals':>10} {'seconds':>8}")
    for kind, places in measured.items():
        for where, row in places.items():
            print(
                f"{kind:14} {where:6} {row['recall']:7.3f} {row['precision']:10.3f} {row['proposals']:10.1f} "
                f"{row['seconds']:8.2f}"
            )
    print(json.dumps({"benchmark": "similar", "examples": options.examples, "kinds": measured}))
    return 0


def measure(search: Similar, kind: str, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return recall, precision, proposals and seconds, in the pictures of the examples and in others."""
    samples = open_data(options.data / "labelled" / f"{kind}-val.tar")
    pictures = [samples.sample(index) for index in range(len(samples))]
    pictures = [picture for picture in pictures if len(picture.masks) > options.examples]
    encoded = [encode(search.model, [picture.image])[0] for picture in pictures]
    truths = [[rle.encode(mask) for mask in picture.masks] for picture in pictures]
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for index, picture in list(enumerate(pictures))[: options.images]:
        for turn in range(options.rounds):
            rng = seeded(SEED, f"{picture.key} {turn}")
            chosen = rng.permutation(len(picture.masks))[: options.examples].tolist()
            examples = [search.example_of(encoded[index], Prompt(mask=picture.masks[place])) for place in chosen]
            others = [(index + step) % len(pictures) for step in range(1, options.others + 1)]
            for target in dict.fromkeys([index, *others]):
                here = target == index
                taken = [truths[index][place] for place in chosen] if here else []
                start = time.perf_counter()
                found = search.find_in(encoded[target], examples, taken=taken)
                seconds = time.perf_counter() - start
                truth = [mask for place, mask in enumerate(truths[target]) if not (here and place in chosen)]
                right = matched([region.rle for region in found], truth)
                row = {"recall": right / len(truth), "proposals": float(len(found)), "seconds": seconds}
                if found:
                    row["precision"] = right / len(found)
                rows["same" if here else "other"].append(row)
    names = ("recall", "precision", "proposals", "seconds")
    return {
        where: {name: round(statistics.mean([row[name] for row in each if name in row] or [0.0]), 3) for name in names}
        for where, each in rows.items()
    }


def matched(found: Sequence[rle.RLE], truth: Sequence[rle.RLE]) -> int:
    """Return how many proposals, the first first, overlap a mask by `IOU` that none before them had."""
    if not found or not truth:
        return 0
    overlaps, right = rle.pairwise_iou(found, truth), 0
    for row in overlaps:
        best = int(np.argmax(row))
        if row[best] >= IOU:
            right += 1
            overlaps[:, best] = 0
    return right


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labelled/KIND-val.tar")
    parser.add_argument("--kinds", nargs="+", default=["pellets", "strawberries", "books"])
    parser.add_argument("--model", default="anymask-s")
    parser.add_argument("--examples", type=int, default=1, help="how many at once")
    parser.add_argument("--images", type=int, default=None, help="pictures that examples are taken of")
    parser.add_argument("--rounds", type=int, default=1, help="draws of examples in each")
    parser.add_argument("--others", type=int, default=1, help="pictures after it that are searched too")
    parser.add_argument("--min-similarity", type=float, default=SimilarOptions().min_similarity)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
