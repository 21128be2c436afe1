"""Does one click in a nested object get its whole, part and subpart among the three masks?

    python benchmarks/ambiguity.py [--model anymask-s] [--scenes 150] [--data FOLDER]

On generated scenes that no training has seen: the seed is kept for this. With --data, FOLDER's photographs and
cut-outs are drawn on, as in training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

import anymask
from anymask.data.synthetic import SceneConfig, generate, load_pictures
from anymask.evaluation.ambiguity import measure_ambiguity
from machine import machine

SEED = 987_654_321


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="anymask-s")
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--iou", type=float, default=0.5)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    config = SceneConfig(size=256)
    if arguments.data:
        photographs = load_pictures(arguments.data / "photos" / "clothing.tar", limit=300)
        cutouts = [
            image
            for name in ("noto", "fluent")
            for image in load_pictures(arguments.data / "cutouts" / f"{name}.tar", alpha=True, limit=300)
        ]
        config = dataclasses.replace(config, photographs=photographs, cutouts=cutouts)
    scenes = (generate(np.random.default_rng((SEED, index)), config) for index in range(arguments.scenes))
    result = measure_ambiguity(anymask.load(arguments.model), scenes, iou=arguments.iou)
    for name, value in dataclasses.asdict(result).items():
        print(f"{name:12s} {value:.3f}" if isinstance(value, float) else f"{name:12s} {value}")
    print(json.dumps({"benchmark": "ambiguity", "iou": arguments.iou, **dataclasses.asdict(result), **machine()}))


if __name__ == "__main__":
    main()
