"""Training from the command line as it happens: begun, killed, taken up again, and its weights used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anymask.samples import SAMPLES, sample_path

RECIPE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
STEPS = 200
PATIENCE = 300.0


def _anymask(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "anymask", *map(str, arguments)]


def _steps(log: Path) -> dict[int, dict[str, float]]:
    """Logged steps that have a loss; a last line that is only half written is left out."""
    if not log.exists():
        return {}
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return {line["step"]: line for line in lines if "loss" in line}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.long
def test_train_kill_resume_save_predict(tmp_path: Path) -> None:
    shards, run = tmp_path / "shards", tmp_path / "run"
    subprocess.run(_anymask("train", "render", "-o", shards, "--scenes", 64, "--size", 64), check=True)
    environment = os.environ | {"ANYMASK_SHARDS": str(shards)}
    train = _anymask("train", RECIPE, "-o", run)

    deadline = time.monotonic() + PATIENCE
    # In a group of its own, so that the loader's worker goes with it.
    process = subprocess.Popen(train, env=environment, start_new_session=True)
    while not (run / "state.pt").exists() or max(_steps(run / "log.jsonl"), default=0) < 25:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert max(_steps(run / "log.jsonl")) < STEPS
    seconds_before = _steps(run / "log.jsonl")[20]["seconds"]

    subprocess.run(train, env=environment, check=True)
    logged = _steps(run / "log.jsonl")
    assert sorted(logged) == list(range(5, STEPS + 1, 5))
    assert logged[20]["seconds"] == seconds_before, "what stood before the kill was done again"
    losses = [logged[step]["loss"] for step in sorted(logged)]
    assert _mean(losses[-6:]) < 0.9 * _mean(losses[:3])

    photo, (x, y) = sample_path("coffee"), SAMPLES["coffee"].point
    weights = run / "model.safetensors"
    segment = _anymask("segment", photo, "--point", f"{x},{y}", "--model", weights, "-o", tmp_path / "out")
    subprocess.run(segment, check=True)
    assert json.loads((tmp_path / "out" / "coffee.json").read_text())["annotations"]
