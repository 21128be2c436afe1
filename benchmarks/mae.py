"""Does masked pre-training of the image encoder help a small model? The same training from it, and from random weights.

    ANYMASK_DATA=… ANYMASK_SHARDS=… python benchmarks/mae.py -o runs/mae-benchmark [--mae-steps 1200] [--steps 300]

Pre-trains the compact encoder (`recipes/mae-compact.toml`'s way) on the photographs of $ANYMASK_DATA, then trains the
promptable task twice on the same batches, with Muon, one prompt a mask, at 128 pixels: from that encoder, and from
random weights. Leaves both logs, the reconstructions, and curves.png: the training loss and the best-of-three IoU of
both, by step. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from anymask.training.log import read_log
from machine import machine

_COMMON = """
[model]
size = "compact"
image_size = 128
{start}

[run]
steps = {steps}
batch_size = 16
num_masks = 4
precision = "bfloat16"
num_threads = 1
save_every = 100
log_every = 10
sheet_every = {steps}

[optim]
kind = "muon"
learning_rate = 1e-3
schedule = "constant"
weight_decay = 0.05
warmup = 30
"""

_MAE = f"""kind = "mae"

[mae]
mask_ratio = 0.6
{_COMMON}
[[sources]]
tars = ["$ANYMASK_DATA/photos/*.tar", "$ANYMASK_DATA/labelled/*-train.tar"]
transforms = {{{{ scale = [1.0, 2.5], aspect = 0.3, flip = true, color = 0.3 }}}}
"""

_SAM = f"""{_COMMON}
[rounds]
num_corrections = 0
num_refinements = 0

[loss]
focal = 0.0
bce = 2.0
dice = 1.0
iou = 0.5
iou_on = "all"

[[sources]]
tars = ["$ANYMASK_DATA/labelled/*-train.tar"]
weight = 0.5
transforms = {{{{ scale = [0.7, 2.2], aspect = 0.3, flip = true, color = 0.7, min_cells = 10 }}}}

[[sources]]
tars = ["$ANYMASK_SHARDS/synthetic*.tar"]
weight = 0.5
transforms = {{{{ scale = [0.9, 2.0], aspect = 0.3, flip = true, color = 0.4, min_cells = 10 }}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--mae-steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    train(folder / "mae", _MAE.format(steps=arguments.mae_steps, start=""))
    start = f"start = {json.dumps(str((folder / 'mae' / 'model.safetensors').absolute()))}"
    train(folder / "from-mae", _SAM.format(steps=arguments.steps, start=start))
    train(folder / "from-random", _SAM.format(steps=arguments.steps, start=""))
    logs = {name: read_log(folder / name) for name in ("from-mae", "from-random")}
    draw(logs, folder / "curves.png")
    print(
        json.dumps({"benchmark": "mae", "mae_loss": ends(read_log(folder / "mae"), "loss")} | summary(logs) | machine())
    )


def train(folder: Path, recipe: str) -> None:
    """Run a recipe by the command line, as a user would."""
    path = folder.with_suffix(".toml")
    path.write_text(recipe)
    subprocess.run([sys.executable, "-m", "anymask", "train", "run", path, "-o", folder], check=True)


def ends(log: list[dict[str, Any]], key: str) -> list[float]:
    """Return a value at the log's beginning and at its end, the latter a mean over five records."""
    values = [record[key] for record in log]
    return [round(values[0], 4), round(float(np.mean(values[-5:])), 4)]


def summary(logs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what both runs ended with, and after how many steps the quicker one had what the other ended with."""
    smooth = {name: smoothed([record["iou_oracle"] for record in log]) for name, log in logs.items()}
    end = {name: float(values[-1]) for name, values in smooth.items()}
    quick, slow = sorted(end, key=end.__getitem__, reverse=True)
    reached = int(np.argmax(smooth[quick] >= end[slow]))
    return {
        "oracle_iou": {name: round(value, 4) for name, value in end.items()},
        "quicker": quick,
        "steps_to_the_other's_end": logs[quick][reached]["step"],
        "steps": logs[slow][-1]["step"],
    }


def smoothed(values: list[float], width: int = 5) -> np.ndarray:
    """Return the mean over each value and up to four before it."""
    return np.array([np.mean(values[max(0, end - width) : end]) for end in range(1, len(values) + 1)])


def draw(logs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw loss and best-of-three IoU of both runs, single records faint and their running mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained", facecolor="white")
    names = {"from-mae": ("MAE encoder", "#2f6fdb"), "from-random": ("random encoder", "#d9662b")}
    for axes, (key, label) in zip(
        figure.subplots(1, 2), (("loss", "training loss"), ("iou_oracle", "best of three, IoU")), strict=True
    ):
        for name, log in logs.items():
            steps, values = [record["step"] for record in log], [record[key] for record in log]
            axes.plot(steps, values, color=names[name][1], alpha=0.25, linewidth=1)
            axes.plot(steps, smoothed(values), color=names[name][1], linewidth=2, label=names[name][0])
        axes.set(xlabel="step", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eceef1")
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=160, metadata={"Software": None})


if __name__ == "__main__":
    main()
