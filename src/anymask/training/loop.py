"""The training loop: a recipe and a folder in, weights and a log out."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn
from torch.utils.data import IterableDataset

from anymask.data.loader import Batch, batches
from anymask.errors import AnymaskError, CheckpointError
from anymask.model import Sam, build_sam
from anymask.model.image_encoder import ImageEncoderViT
from anymask.training.config import OptimConfig, Recipe, RunConfig
from anymask.training.distributed import (
    Processes,
    average_across_processes,
    average_gradients,
    is_sharded,
    join_processes,
    keep_freed_memory,
    shard,
    whole,
    whole_model,
)
from anymask.training.log import TrainingLog
from anymask.training.optim import MovingAverage, build_optimizer, rate_factor, set_rates
from anymask.training.state import TrainingState, latest_sharded, load_sharded, save_sharded

M = TypeVar("M", bound=nn.Module)

Callback = Callable[[M, int], dict[str, float]]
"""Called with the averaged model, in evaluation mode, and the step; what it returns is logged."""

TrainStep = Callable[[M, Batch, torch.Generator, float], Any]
"""Leaves a share of a batch's gradient in the model's parameters and returns a dataclass of tensors, `loss` among them.
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Objective(Generic[M]):
    """What a run learns, for the loop to run: see `anymask.training.objectives`."""

    build: Callable[[], TrainingState[M]]
    """Makes the model, its optimiser and its average, as before the first step."""
    stream: Callable[[int], IterableDataset[Batch]]
    """Opens the batches from a step of the optimiser on."""
    step: TrainStep[M]


class LoopConfig(Protocol):
    """What the loop reads of a recipe."""

    @property
    def run(self) -> RunConfig:
        """How long, how large, how often."""
        ...

    @property
    def optim(self) -> OptimConfig:
        """The optimiser and its schedule."""
        ...


STATE = "state.pt"


class TrainingError(AnymaskError):
    """A run cannot go on: NaN, out of memory."""


def new_state(recipe: Recipe, start: Sam | None = None, *, trained: str | None = None) -> TrainingState[Sam]:
    """Build model, optimiser and average; the weights and thresholds are those of `start`, None for random ones.

    A ranker that `start` has not is new. `trained` names the module that is trained alone; None: all are.
    """
    torch.manual_seed(recipe.run.seed)
    model = build_sam(recipe.model.build(None if start is None else start.config))
    if start is not None:
        new = {name: x for name, x in model.state_dict().items() if name.startswith("ranker.")}
        try:
            model.load_state_dict(new | start.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"the weights to start from are not of a {recipe.model.size}: {error}") from error
    if trained is not None:
        model.requires_grad_(False).get_submodule(trained).requires_grad_(True)
    return state_of(model, recipe)


def state_of(
    model: M, recipe: LoopConfig, *, forward_methods: tuple[str, ...] = ("encode", "decode")
) -> TrainingState[M]:
    """Put a model on the recipe's device, with the recipe's optimiser and average, shared out if the recipe says so.

    `forward_methods` are the model's ways in (see `anymask.training.distributed.shard`).
    """
    options, processes = recipe.run, join_processes(recipe.run.device)
    model = model.to(processes.device)
    shares_out = options.sharding == "full" and processes.count > 1
    if not shares_out:  # FSDP2 takes contiguous parameters alone
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    if processes.count > 1 and processes.device != "cpu":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    moving_average = MovingAverage(model, recipe.optim.ema) if recipe.optim.ema else None
    for encoder in (module for module in model.modules() if isinstance(module, ImageEncoderViT)):
        encoder.checkpointing = options.checkpointing
    plain = None
    if shares_out:
        if recipe.optim.kind == "muon":
            raise TrainingError("optim.kind 'muon' needs whole matrices; with run.sharding 'full' it must be 'adamw'")
        plain = copy.deepcopy(model) if processes.is_first else None
        for shared in (model, *([] if moving_average is None else [moving_average.model])):
            shard(shared, processes, forward_methods)
    if options.compile and (found := dict(model.named_children()).get("image_encoder")) is not None:
        found.compile()
    generator = torch.Generator(processes.device)
    optimizer = build_optimizer(model, recipe.optim, getattr(torch, recipe.run.precision))
    return TrainingState(
        model=model, optimizer=optimizer, moving_average=moving_average, generator=generator, plain=plain
    )


def run(
    recipe: LoopConfig,
    folder: Path,
    objective: Objective[M],
    *,
    callbacks: Sequence[tuple[int, Callback[M]]] = (),
    progress: Callable[[int, dict[str, float]], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingState[M]:
    """Train what the objective builds to the recipe's last step, resuming from the last state in `folder`, if there is
    one.

    Writes state.pt (of a model shared out, state-<step>.dcp), log.jsonl (one object a line) and TensorBoard's files.
    Each of the `callbacks` is called every so many steps (0: never) and after the last, and leaves no trace in
    training's random numbers. Of several processes under torchrun the first alone calls them, reports and logs. Raises
    TrainingError before the first step on a loss or gradient that is not finite, and when memory runs out; what was
    saved stays.
    """
    run_config = recipe.run
    if run_config.num_threads:
        torch.set_num_threads(run_config.num_threads)
    processes = join_processes(run_config.device)
    if processes.device == "cpu":
        keep_freed_memory()
    state = objective.build()
    _resume(state, folder)
    stream = batches(objective.stream(state.step), num_workers=run_config.num_workers)
    folder.mkdir(parents=True, exist_ok=True)
    skipped: Counter[str] = Counter()
    with TrainingLog(folder, state.step) if processes.is_first else nullcontext() as log:
        while state.step < run_config.steps:
            began = clock()
            result = _step(state, recipe, stream, objective.step, skipped, processes)
            state.step += 1
            state.seconds += clock() - began
            last = state.step == run_config.steps
            if log is not None and (state.step % run_config.log_every == 0 or last):
                values = {f.name: float(getattr(result, f.name)) for f in dataclasses.fields(result)}
                values["learning_rate"] = state.optimizer.param_groups[0]["lr"]
                values["seconds"] = state.seconds
                values["skipped"] = skipped.total()
                log.write(state.step, values)
                if progress is not None:
                    progress(state.step, values)
            due = [callback for period, callback in callbacks if period and (last or state.step % period == 0)]
            if due:
                model = whole_model(averaged_model(state), state.plain, processes)
                if log is not None:
                    for callback in due:
                        log.write(state.step, callback(model.eval(), state.step))
            if state.step % run_config.save_every == 0 or last:
                _save(state, folder, processes)
    return state


def _resume(state: TrainingState[Any], folder: Path) -> None:
    """Take up the state that was written last, of whichever kind."""
    single, parts = folder / STATE, latest_sharded(folder)
    if parts is not None and not (single.exists() and single.stat().st_mtime > parts.stat().st_mtime):
        load_sharded(state, parts)
    elif single.exists():
        if is_sharded(state.model):
            raise CheckpointError(f"{single} is of a run that was not shared out; set run.sharding to 'none' to go on")
        state.load(single)


def _save(state: TrainingState[Any], folder: Path, processes: Processes) -> None:
    if is_sharded(state.model):
        save_sharded(state, folder, processes)
    elif processes.is_first:
        state.save(folder / STATE)


def averaged_model(state: TrainingState[M]) -> M:
    """Return the model to be used: the moving average, or the model itself where there is none."""
    return state.model if state.moving_average is None else state.moving_average.model


def _step(
    state: TrainingState[M],
    recipe: LoopConfig,
    stream: Iterator[Batch],
    train_step: TrainStep[M],
    skipped: Counter[str],
    processes: Processes,
) -> Any:
    """Take one step of the optimiser, over `accumulate` batches; logged values are means over them."""
    model, optim = state.model.train(), recipe.optim
    set_rates(state.optimizer, optim.learning_rate * rate_factor(state.step, recipe.run.steps, optim))
    state.optimizer.zero_grad(set_to_none=True)
    results: list[Any] = []
    try:
        for turn in range(optim.accumulate):
            state.draw_anew(recipe.run.seed, state.step * optim.accumulate + turn, processes.rank)
            batch = next(stream)
            skipped.update(batch.skipped)
            results.append(train_step(model, batch.to(processes.device), state.generator, 1 / optim.accumulate))
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory at step {state.step}: lower run.batch_size ({recipe.run.batch_size}) or run.num_masks "
            f"({recipe.run.num_masks}) and raise optim.accumulate by as much"
        ) from error
    kind = type(results[0])
    names = [f.name for f in dataclasses.fields(kind)]
    result = kind(**{name: torch.stack([getattr(r, name) for r in results]).mean() for name in names})
    average_gradients(model, processes)
    average_across_processes([getattr(result, name) for name in names], processes)
    norm = whole(torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm))
    if not torch.isfinite(norm + result.loss):  # the only wait for the device in a step
        raise TrainingError(
            f"at step {state.step} the loss is {float(result.loss)} and its gradient {float(norm)}: lower "
            f"optim.learning_rate ({optim.learning_rate}), or use run.precision = 'float32'; {STATE} holds the last "
            "good state"
        )
    state.optimizer.step()
    if state.moving_average is not None:
        state.moving_average.update(model, state.step)
    return result


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; the CPU's allocator says so in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)
