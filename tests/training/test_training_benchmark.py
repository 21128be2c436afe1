"""The benchmark of training's parts runs, and measures each of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "training.py"


def test_every_part_of_training_is_measured() -> None:
    call = [sys.executable, BENCHMARK, "--size", "smoke", "--image-size", "64", "--batch", "2", "--seconds", "0.01"]
    ran = subprocess.run(list(map(str, call)), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert {"render a scene", "simulate the rounds", "training step"} <= set(found["seconds"])
    assert all(seconds > 0 for seconds in found["seconds"].values())
