"""A run: it learns, goes on bit by bit where it was killed, and stops with a word before it breaks anything."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anymask.data.readers.tars import TarFiles
from anymask.data.transforms import TransformConfig
from anymask.errors import CheckpointError, DataError
from anymask.model import SIZES, Sam, build_sam
from anymask.training import loop
from anymask.training.config import CacheConfig, Recipe, SourceConfig, read_recipe
from anymask.training.log import read_log
from anymask.training.loop import TrainingError, new_state
from anymask.training.objectives import sam as sam_objective
from anymask.training.objectives.sam import StepResult, train
from anymask.training.sources import build_stream

Build = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Put the number of threads back, which recipes set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def losses(folder: Path) -> list[dict[str, float]]:
    """The log without its clock."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(folder)]


class Stopped(Exception):
    """Raised in the middle of a run."""


def stop_at(step: int) -> Callable[[int, dict[str, float]], None]:
    def progress(at: int, values: dict[str, float]) -> None:
        if at == step:
            raise Stopped

    return progress


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_logs_the_very_same_losses(
    accumulate: int, recipe_of: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With drop path, and a callback that draws random numbers, in one of them only after the break."""
    small = replace(SIZES["smoke"].encoder, drop_path=0.4)
    monkeypatch.setitem(SIZES, "smoke", replace(SIZES["smoke"], encoder=small))
    recipe = recipe_of(steps=6, save_every=2, accumulate=accumulate)

    def callback(model: Sam, step: int) -> dict[str, float]:
        assert not model.training
        torch.rand(step)
        return {}

    whole = train(recipe, tmp_path / "whole", callbacks=[(1, callback)])
    with pytest.raises(Stopped):
        train(recipe, tmp_path / "parts", progress=stop_at(5))
    assert losses(tmp_path / "parts")[-1]["step"] == 5
    with (tmp_path / "parts" / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # as a crash leaves it
    resumed = train(recipe, tmp_path / "parts", callbacks=[(1, callback)])
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert [row["step"] for row in losses(tmp_path / "whole")] == list(range(1, 7))
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


RECIPE = """
[model]
size = "smoke"
image_size = 64
[run]
steps = 14
batch_size = 2
num_masks = 2
num_workers = 1
num_threads = 1
save_every = 4
log_every = 1
[optim]
learning_rate = 2e-3
warmup = 4
ema = 0.9
[rounds]
num_corrections = 1
num_refinements = 1
[[sources]]
tars = ["$TEST_SHARDS/*.tar"]
transforms = { scale = [0.8, 1.6], flip = true, turn = 0.5, color = 0.5 }
"""
RUN = "import sys; from pathlib import Path; from anymask.training.config import read_recipe; " + (
    "from anymask.training.objectives.sam import train; train(read_recipe(sys.argv[1]), Path(sys.argv[2]))"
)


def test_a_run_killed_outright_goes_on_bit_by_bit(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SHARDS", str(shards))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    call = [sys.executable, "-c", RUN, str(tmp_path / "recipe.toml"), str(tmp_path / "killed")]
    run = subprocess.Popen(call, stderr=subprocess.PIPE)
    state = tmp_path / "killed" / "state.pt"
    end = time.monotonic() + 120
    while not state.exists() and run.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    _, errors = run.communicate()
    assert run.returncode == -signal.SIGKILL, errors.decode()
    assert losses(tmp_path / "killed")[-1]["step"] < 14
    recipe = read_recipe(tmp_path / "recipe.toml")
    train(recipe, tmp_path / "killed")
    train(recipe, tmp_path / "whole")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 14


def bright_square(folder: Path) -> SourceConfig:
    """A folder of one image, with one mask."""
    folder.mkdir()
    mask = np.zeros((40, 40), np.uint8)
    mask[8:30, 10:34] = 255
    Image.fromarray(mask).save(folder / "x.png")
    Image.fromarray(np.stack([mask] * 3, axis=2)).save(folder / "x.jpg")
    return SourceConfig(folders=(str(folder),), transforms=TransformConfig(flip=True))


def test_the_loss_falls_on_a_tiny_problem(recipe_of: Build, tmp_path: Path) -> None:
    recipe = recipe_of(steps=40, batch_size=4, num_corrections=0)
    train(replace(recipe, sources=(bright_square(tmp_path / "data"),)), tmp_path / "run")
    rows = losses(tmp_path / "run")
    assert sum(row["loss"] for row in rows[-5:]) < 0.3 * sum(row["loss"] for row in rows[:5])
    assert rows[-1]["iou_first"] > 0.8


def poisoned(monkeypatch: pytest.MonkeyPatch, call: int, harm: Callable[[Sam, StepResult], StepResult]) -> None:
    """Let the gradient or the loss of one call of sam_step be harmed."""
    genuine, calls = sam_objective.sam_step, [0]

    def step(model: Sam, *args: Any, **keywords: Any) -> StepResult:
        result = genuine(model, *args, **keywords)
        calls[0] += 1
        return harm(model, result) if calls[0] == call else result

    monkeypatch.setattr(sam_objective, "sam_step", step)


def harm_loss(model: Sam, result: StepResult) -> StepResult:
    return replace(result, loss=result.loss * torch.nan)


def harm_gradient(model: Sam, result: StepResult) -> StepResult:
    gradient = next(iter(model.parameters())).grad
    assert gradient is not None
    gradient[0] = torch.inf
    return result


@pytest.mark.parametrize("harm", [harm_loss, harm_gradient])
@pytest.mark.parametrize("call", [3, 4])
def test_what_is_not_finite_is_neither_stepped_on_nor_saved(
    call: int,
    harm: Callable[[Sam, StepResult], StepResult],
    recipe_of: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = recipe_of(steps=4, save_every=2, log_every=100)
    with monkeypatch.context() as patch:
        poisoned(patch, call, harm)
        with pytest.raises(TrainingError, match=rf"at step {call - 1} the loss is .* lower optim.learning_rate"):
            train(recipe, tmp_path)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert saved["step"] == 2
    assert all(torch.isfinite(v).all() for v in saved["model"].values())
    assert train(recipe, tmp_path).step == 4


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_lower(
    error: Exception, recipe_of: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*args: Any, **keywords: Any) -> StepResult:
        raise error

    monkeypatch.setattr(sam_objective, "sam_step", step)
    with pytest.raises(TrainingError, match=r"out of memory at step 0: lower run.batch_size \(2\) or run.num_masks"):
        train(recipe_of(), tmp_path)


def test_other_errors_stay_what_they_are(recipe_of: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*args: Any, **keywords: Any) -> StepResult:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sam_objective, "sam_step", step)
    with pytest.raises(RuntimeError, match="a bug"):
        train(recipe_of(), tmp_path)


def test_the_callback_gets_the_average_when_due_and_at_the_end(recipe_of: Build, tmp_path: Path) -> None:
    seen: list[int] = []

    def callback(model: Sam, step: int) -> dict[str, float]:
        assert not model.training
        seen.append(step)
        return {"miou": step / 10}

    def never(model: Sam, step: int) -> dict[str, float]:
        raise AssertionError("a period of 0 is never")

    state = train(recipe_of(steps=5), tmp_path, callbacks=[(2, callback), (0, never)])
    assert seen == [2, 4, 5]
    assert [row["miou"] for row in losses(tmp_path) if "miou" in row] == [0.2, 0.4, 0.5]
    assert loop.averaged_model(state) is not state.model
    assert loop.averaged_model(new_state(recipe_of(ema=0.0))) is not None


def test_accumulated_batches_are_the_next_ones_of_the_stream(recipe_of: Build, tmp_path: Path) -> None:
    """No batch is used twice, and the log holds the mean over a step's batches."""
    recipe = recipe_of(steps=1, accumulate=3, learning_rate=0.0)
    single = recipe_of(steps=3, learning_rate=0.0, ema=0.0)
    train(recipe, tmp_path / "a")
    train(single, tmp_path / "b")
    ((together,), apart) = losses(tmp_path / "a"), losses(tmp_path / "b")
    assert together["loss"] == pytest.approx(sum(row["loss"] for row in apart) / 3, abs=1e-5)


def test_starting_weights_are_taken_or_refused(recipe_of: Build) -> None:
    other = new_state(recipe_of(seed=9)).model
    state = new_state(recipe_of(), other)
    pairs = zip(other.state_dict().values(), state.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    del other.prompt_encoder.no_mask_embed
    with pytest.raises(CheckpointError, match="start from"):
        new_state(recipe_of(), other)


def test_thresholds_are_those_of_the_start_unless_the_recipe_says_others(recipe_of: Build) -> None:
    config = replace(recipe_of().model.build(), pred_iou_thresh=0.45, stability_score_thresh=0.75)
    start = build_sam(config)
    kept = new_state(recipe_of(), start).model.config
    assert (kept.pred_iou_thresh, kept.stability_score_thresh) == (0.45, 0.75)
    recipe = recipe_of()
    recipe = replace(recipe, model=replace(recipe.model, pred_iou_thresh=0.0))
    said = new_state(recipe, start).model.config
    assert (said.pred_iou_thresh, said.stability_score_thresh) == (0.0, 0.75)
    assert new_state(recipe_of()).model.config.pred_iou_thresh == 0.88


def test_skipped_samples_are_counted_in_the_log(recipe_of: Build, shards: Path, tmp_path: Path) -> None:
    tar = next(shards.glob("*.tar"))
    data = bytearray(tar.read_bytes())
    files = TarFiles([tar])
    for member in files._members[:6]:
        data[member.image[0] : member.image[0] + member.image[1]] = bytes(member.image[1])
    (tmp_path / "broken.tar").write_bytes(data)
    recipe = replace(recipe_of(batch_size=8), sources=(SourceConfig(tars=(str(tmp_path / "broken.tar"),)),))
    train(recipe, tmp_path)
    counts = [row["skipped"] for row in losses(tmp_path)]
    assert counts == sorted(counts) and counts[-1] > 0


def test_sources_are_found_or_missed_with_a_word(recipe_of: Build, shards: Path, tmp_path: Path) -> None:
    recipe = recipe_of()
    for source, words in (
        (SourceConfig(tars=(str(shards / "*.tar"), "$NOWHERE/*.tar")), r"no tar matches \$NOWHERE"),
        (SourceConfig(tars=("$NOWHERE/*.tar",)), r"no tar matches \$NOWHERE"),
        (SourceConfig(folders=(str(tmp_path / "absent*"),)), "no folder matches"),
    ):
        with pytest.raises(DataError, match=words):
            build_stream(replace(recipe, sources=(source,)))


def test_a_cache_changes_nothing(recipe_of: Build, tmp_path: Path) -> None:
    plain = recipe_of()
    for name, cache in (("ram", CacheConfig(mib=5)), ("disk", CacheConfig(mib=5, folder=str(tmp_path / "cache")))):
        stream = build_stream(replace(plain, cache=cache))
        for number in (0, 1, 0):
            assert torch.equal(stream.batch(number).images, build_stream(plain).batch(number).images), name
    assert list((tmp_path / "cache").glob("*.npy"))


def test_the_log_is_one_object_a_line(recipe_of: Build, tmp_path: Path) -> None:
    train(recipe_of(steps=3), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert {"loss", "iou_first", "iou_last", "iou_oracle", "learning_rate", "seconds", "skipped"} <= rows[0].keys()
    assert [row["learning_rate"] for row in rows[:2]] == [1e-3, 2e-3]
    assert list(tmp_path.glob("events.out.tfevents.*"))
