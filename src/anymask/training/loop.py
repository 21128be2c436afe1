"""The training loop: a recipe and a folder in, weights and a log out."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from anymask.data.loader import BatchStream, Source, batches
from anymask.data.sa1b import TarFiles
from anymask.errors import AnymaskError, DataError, RecipeError
from anymask.model import SIZES, Sam, SamConfig, build_sam
from anymask.training.config import Recipe
from anymask.training.optim import MovingAverage, build_optimizer, rate_factor
from anymask.training.sam_step import StepResult, sam_step
from anymask.training.state import TrainingState

Callback = Callable[[Sam, int], dict[str, float]]
"""Called with the averaged model, in evaluation mode, and the step; what it returns is logged."""


class TrainingError(AnymaskError):
    """A run cannot go on: NaN, out of memory."""


def model_config(recipe: Recipe) -> SamConfig:
    """Return the configuration of the recipe's model."""
    if recipe.model.size not in SIZES:
        raise RecipeError(f"model.size is {recipe.model.size!r}; it must be one of {', '.join(SIZES)}")
    return dataclasses.replace(SIZES[recipe.model.size], image_size=recipe.model.image_size)


def build_stream(recipe: Recipe, *, start: int = 0) -> BatchStream:
    """Open the recipe's sources as a stream of batches from step `start` on."""
    config = model_config(recipe)
    sources = []
    for source in recipe.sources:
        patterns = [os.path.expanduser(os.path.expandvars(p)) for p in source.tars]
        paths = [path for p in patterns for path in sorted(glob.glob(p))]
        if not paths:
            raise DataError(f"no tar matches {', '.join(patterns)}")
        sources.append(Source(files=TarFiles(paths), weight=source.weight, transforms=source.transforms))
    return BatchStream(
        sources,
        batch_size=recipe.run.batch_size,
        num_masks=recipe.run.num_masks,
        image_size=config.image_size,
        mask_size=4 * config.embedding_size,
        seed=recipe.run.seed,
        start=start * recipe.optim.accumulate,
    )


def new_state(recipe: Recipe, start: dict[str, torch.Tensor] | None = None) -> TrainingState:
    """Build model, optimiser and average; `start` holds the weights to begin with, None for random ones."""
    torch.manual_seed(recipe.run.seed)
    model = build_sam(model_config(recipe))
    if start is not None:
        model.load_state_dict(start)
    model = model.to(recipe.run.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    average = MovingAverage(model, recipe.optim.ema) if recipe.optim.ema else None
    generator = torch.Generator(recipe.run.device).manual_seed(recipe.run.seed)
    return TrainingState(
        model=model, optimizer=build_optimizer(model, recipe.optim), average=average, generator=generator
    )


def train(
    recipe: Recipe,
    folder: Path,
    *,
    start: dict[str, torch.Tensor] | None = None,
    callback: Callback | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingState:
    """Train to the recipe's last step, resuming from `folder/state.pt` where there is one.

    Writes state.pt, log.jsonl (one object a line) and TensorBoard's files. Raises TrainingError at the first loss
    that is not finite, and when memory runs out; what was saved stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    state = new_state(recipe, start)
    if (folder / "state.pt").exists():
        state.load(folder / "state.pt")
    stream = iter(batches(build_stream(recipe, start=state.step), num_workers=recipe.run.num_workers))
    log = _Log(folder, state.step)
    every = recipe.run
    while state.step < recipe.run.steps:
        began = clock()
        try:
            result = _step(state, recipe, stream)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"out of memory at step {state.step}: lower run.batch_size ({every.batch_size}) or run.num_masks "
                f"({every.num_masks}) and raise optim.accumulate by as much"
            ) from error
        state.step += 1
        state.seconds += clock() - began
        if state.step % every.log_every == 0 or state.step == every.steps:
            values = _checked(result, state.step)
            values["learning_rate"] = state.optimizer.param_groups[0]["lr"]
            values["seconds"] = state.seconds
            log.write(state.step, values)
            if progress is not None:
                progress(state.step, values)
        due = every.validate_every and state.step % every.validate_every == 0
        if callback is not None and (due or state.step == every.steps):
            log.write(state.step, callback(averaged(state), state.step))
        if state.step % every.save_every == 0 or state.step == every.steps:
            state.save(folder / "state.pt")
    return state


def averaged(state: TrainingState) -> Sam:
    """Return the model to be used: the moving average, or the model itself where there is none."""
    return state.model if state.average is None else state.average.model


def _step(state: TrainingState, recipe: Recipe, stream: Any) -> StepResult:
    model, optim = state.model.train(), recipe.optim
    rate = optim.learning_rate * rate_factor(state.step, recipe.run.steps, optim)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    for _ in range(optim.accumulate):
        result = sam_step(
            model,
            next(stream).to(recipe.run.device),
            rounds=recipe.rounds,
            loss=recipe.loss,
            generator=state.generator,
            precision=getattr(torch, recipe.run.precision),
            scale=1 / optim.accumulate,
        )
    torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm, error_if_nonfinite=False)
    state.optimizer.step()
    if state.average is not None:
        state.average.update(model, state.step)
    return result


def _checked(result: StepResult, step: int) -> dict[str, float]:
    values = {f.name: float(getattr(result, f.name)) for f in dataclasses.fields(result)}
    if not torch.isfinite(torch.tensor(list(values.values()))).all():
        raise TrainingError(
            f"the loss is not finite at step {step} ({values['loss']}): lower optim.learning_rate, "
            f"or use run.precision = 'float32'; state.pt holds the last good state"
        )
    return values


class _Log:
    """log.jsonl and TensorBoard; a resumed run drops what an earlier one logged beyond its last state."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.jsonl"
        if self.path.exists():
            lines = [line for line in self.path.read_text().splitlines() if json.loads(line)["step"] <= step]
            self.path.write_text("".join(line + "\n" for line in lines))
        self.board = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        self.board.flush()
