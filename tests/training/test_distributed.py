"""Several processes train what one alone would, survive the death of any, and go on in other numbers."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

import fellow
from anymask.errors import CheckpointError
from anymask.model.config import SIZES
from anymask.training.config import Recipe
from anymask.training.distributed import Processes, average_across_processes, join_processes
from anymask.training.log import read_log
from anymask.training.loop import new_state
from anymask.training.objectives.sam import train
from anymask.training.state import latest_sharded, load_sharded

Build = Callable[..., Recipe]

RECIPE = """
[model]
size = "smoke"
image_size = 64
[run]
steps = {steps}
batch_size = {batch_size}
num_masks = 2
num_workers = {workers}
num_threads = 1
save_every = 2
log_every = 1
sharding = "{sharding}"
checkpointing = {checkpointing}
[optim]
learning_rate = 2e-3
warmup = 2
schedule = "constant"
ema = 0.9
[rounds]
num_corrections = 0
num_refinements = 0
[rounds.prompts]
point = 0.0
box_noise = 0.0
[[sources]]
tars = ["$TEST_SHARDS/*.tar"]
transforms = {{ flip = true, scale = [0.8, 1.6], color = 0.5 }}
"""
"""Exact boxes and one round: nothing is drawn at random but by the stream, so that N processes are one of N batches."""

FELLOW = Path(__file__).with_name("fellow.py")


@pytest.fixture
def write_recipe(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a recipe; keywords are the fields of `RECIPE`."""
    monkeypatch.setenv("TEST_SHARDS", str(shards))

    def write(name: str, **fields: Any) -> Path:
        path = tmp_path / f"{name}.toml"
        values = {"steps": 4, "batch_size": 2, "workers": 0, "sharding": "none", "checkpointing": "false"}
        path.write_text(RECIPE.format(**values | fields))
        return path

    return write


@pytest.fixture
def launch(write_recipe: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Train a recipe in a number of processes, and return the run's folder.

    They are told what torchrun tells its own, but are forked of one that has torch already.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([fellow.__name__, "anymask.training.loop"])

    def run(name: str, processes: int, **fields: Any) -> Path:
        recipe, folder = write_recipe(name, **fields), tmp_path / name
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        shared = {"GLOO_SOCKET_IFNAME": "lo", "TEST_SHARDS": os.environ["TEST_SHARDS"], "OMP_NUM_THREADS": "1"}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        shared |= {"TORCHELASTIC_RUN_ID": name, "TORCHELASTIC_RESTART_COUNT": "0"}
        shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        error = tmp_path / "error.txt"
        fellows = []
        for rank in map(str, range(processes)):
            environment = shared | {"RANK": rank, "LOCAL_RANK": rank}
            given = (environment, recipe, folder, error)
            fellows.append(context.Process(target=fellow.forked, args=given, daemon=True))
            fellows[-1].start()
        for each in fellows:
            each.join(240)
        assert [each.exitcode for each in fellows] == [0] * processes, error.read_text() if error.exists() else ""
        return folder

    return run


@pytest.fixture
def torchrun(write_recipe: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Train a recipe in two processes that torchrun starts, and return the run's folder."""

    def run(name: str, *extra: str, restarts: int = 0, **fields: Any) -> Path:
        call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        call += [f"--max-restarts={restarts}", "--monitor-interval=0.1"]
        done = subprocess.run(
            [*call, str(FELLOW), str(write_recipe(name, **fields)), str(tmp_path / name), *extra],
            capture_output=True,
            text=True,
            timeout=240,
            env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return tmp_path / name

    return run


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_log(folder) if "loss" in row]


def test_two_processes_give_the_losses_of_one_with_twice_the_batch(launch: Callable[..., Path]) -> None:
    alone = losses(launch("alone", 1, batch_size=4))
    assert len(alone) == 4
    assert losses(launch("replicated", 2)) == pytest.approx(alone, rel=2e-4)
    assert losses(launch("shared", 2, sharding="full", checkpointing="true")) == pytest.approx(alone, rel=2e-4)


def test_a_shared_out_state_is_taken_up_by_one_process_and_by_two(launch: Callable[..., Path]) -> None:
    whole = losses(launch("whole", 2, sharding="full", steps=6))
    launch("parts", 2, sharding="full", steps=2)
    assert losses(launch("parts", 1, batch_size=4, steps=4)) == pytest.approx(whole[:4], rel=2e-4)
    again = launch("again", 2, sharding="full", steps=4)
    assert [path.name for path in again.glob("state*")] == ["state-000000004.dcp"]
    assert losses(launch("again", 2, sharding="full", steps=6)) == pytest.approx(whole, rel=2e-4)


@pytest.mark.long
def test_a_killed_process_is_restarted_with_its_fellows_and_the_run_ends_well(
    launch: Callable[..., Path], torchrun: Callable[..., Path]
) -> None:
    undisturbed = losses(launch("undisturbed", 2, steps=30))
    killed = torchrun("killed", "5", restarts=2, steps=30)
    assert (killed / "died").exists()
    assert losses(killed) == pytest.approx(undisturbed, rel=2e-4)
    rows = [json.loads(line) for line in (killed / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "seen" in row] == list(range(2, 31, 2))


def test_without_torchrun_a_process_is_alone() -> None:
    assert join_processes("cpu") == Processes(rank=0, count=1, device="cpu")
    tensor = torch.ones(3)
    average_across_processes([tensor], Processes())
    assert torch.equal(tensor, torch.ones(3))


def test_a_damaged_shared_out_state_is_named(recipe_of: Build, tmp_path: Path) -> None:
    (tmp_path / "state-000000003.dcp").mkdir()
    found = latest_sharded(tmp_path)
    assert found is not None
    with pytest.raises(CheckpointError, match=r"state-000000003\.dcp does not fit"):
        load_sharded(new_state(recipe_of()), found)


def test_activations_computed_twice_give_the_same_weights(
    recipe_of: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "smoke", replace(SIZES["smoke"], encoder=fellow.SMALL))
    kept = train(recipe_of(), tmp_path / "kept")
    again = train(recipe_of(checkpointing=True), tmp_path / "again")
    for a, b in zip(kept.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
