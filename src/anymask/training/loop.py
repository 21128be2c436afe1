"""The training loop: a recipe and a folder in, weights and a log out."""

from __future__ import annotations

import dataclasses
import glob
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from anymask.data.cache import ImageCache
from anymask.data.folder import FolderFiles
from anymask.data.loader import Batch, BatchStream, SampleSet, Source, batches
from anymask.data.sa1b import TarFiles
from anymask.errors import AnymaskError, CheckpointError, DataError
from anymask.model import Sam, SamConfig, build_sam
from anymask.training.config import OptimConfig, Recipe, RunConfig, SourceConfig
from anymask.training.log import TrainingLog
from anymask.training.optim import MovingAverage, build_optimizer, rate_factor, set_rates
from anymask.training.sam_step import StepResult, sam_step
from anymask.training.state import TrainingState

M = TypeVar("M", bound=nn.Module)

Callback = Callable[[M, int], dict[str, float]]
"""Called with the averaged model, in evaluation mode, and the step; what it returns is logged."""

Take = Callable[[M, Batch, torch.Generator, float], Any]
"""Leaves a share of a batch's gradient in the model's parameters and returns a dataclass of tensors, `loss` among them.
"""


class Plan(Protocol):
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


def model_config(recipe: Recipe) -> SamConfig:
    """Return the configuration of the recipe's model."""
    return recipe.model.build()


def build_stream(recipe: Recipe, *, start: int = 0) -> BatchStream:
    """Open the recipe's sources as a stream of batches from step `start` on."""
    config = model_config(recipe)
    cache = image_cache(recipe)
    return BatchStream(
        [Source(files=_open(s, cache), weight=s.weight, transforms=s.transforms) for s in recipe.sources],
        batch_size=recipe.run.batch_size,
        num_masks=recipe.run.num_masks,
        image_size=config.image_size,
        mask_size=4 * config.embedding_size,
        seed=recipe.run.seed,
        start=start * recipe.optim.accumulate,
        deep=recipe.run.deep,
    )


def image_cache(recipe: Recipe) -> ImageCache | None:
    """Return the cache of decoded images that the recipe asks for, if any."""
    if not recipe.cache.mib:
        return None
    return ImageCache(recipe.cache.mib * 2**20, _expanded(recipe.cache.folder) or None)


def _open(source: SourceConfig, cache: ImageCache | None) -> SampleSet:
    if source.tars:
        return TarFiles(find(source.tars, "tar"), cache=cache)
    return FolderFiles(find(source.folders, "folder"), cache=cache)


def find(patterns: Sequence[str], kind: str) -> list[str]:
    """Return the paths that a recipe's glob patterns match, `~` and $VARIABLES expanded; raises DataError if none."""
    expanded = [_expanded(pattern) for pattern in patterns]
    paths = [path for pattern in expanded for path in sorted(glob.glob(pattern))]
    if not paths:
        raise DataError(f"no {kind} matches {', '.join(expanded)}; are the path and its variables right?")
    return paths


def _expanded(path: str) -> str:
    return os.path.expanduser(os.path.expandvars(path))


def new_state(recipe: Recipe, start: dict[str, Tensor] | None = None) -> TrainingState[Sam]:
    """Build model, optimiser and average; `start` holds the weights to begin with, None for random ones."""
    torch.manual_seed(recipe.run.seed)
    model = build_sam(model_config(recipe))
    if start is not None:
        try:
            model.load_state_dict(start)
        except RuntimeError as error:
            raise CheckpointError(f"the weights to start from are not of a {recipe.model.size}: {error}") from error
    return state_of(model, recipe)


def state_of(model: M, recipe: Plan) -> TrainingState[M]:
    """Put a model on the recipe's device, with the recipe's optimiser and average."""
    model = model.to(recipe.run.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    average = MovingAverage(model, recipe.optim.ema) if recipe.optim.ema else None
    generator = torch.Generator(recipe.run.device).manual_seed(recipe.run.seed)
    optimizer = build_optimizer(model, recipe.optim, getattr(torch, recipe.run.precision))
    return TrainingState(model=model, optimizer=optimizer, average=average, generator=generator)


def train(
    recipe: Recipe,
    folder: Path,
    *,
    start: dict[str, Tensor] | None = None,
    callbacks: Sequence[tuple[int, Callback[Sam]]] = (),
    progress: Callable[[int, dict[str, float]], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingState[Sam]:
    """Train the promptable task to the recipe's last step (see `run`)."""

    def take(model: Sam, batch: Batch, generator: torch.Generator, scale: float) -> StepResult:
        return sam_step(
            model,
            batch,
            rounds=recipe.rounds,
            loss=recipe.loss,
            generator=generator,
            precision=getattr(torch, recipe.run.precision),
            scale=scale,
        )

    return run(
        recipe,
        folder,
        build=lambda: new_state(recipe, start),
        stream_from=lambda step: build_stream(recipe, start=step),
        take=take,
        callbacks=callbacks,
        progress=progress,
        clock=clock,
    )


def run(
    recipe: Plan,
    folder: Path,
    *,
    build: Callable[[], TrainingState[M]],
    stream_from: Callable[[int], BatchStream | Iterable[Batch]],
    take: Take[M],
    callbacks: Sequence[tuple[int, Callback[M]]] = (),
    progress: Callable[[int, dict[str, float]], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingState[M]:
    """Train what `build` gives to the recipe's last step, resuming from `folder/state.pt` where there is one.

    Writes state.pt, log.jsonl (one object a line) and TensorBoard's files. Each of the
    `callbacks` is called every so many steps (0: never) and after the last, and leaves no trace in training's random
    numbers. Raises TrainingError before
    the first step on a loss or gradient that is not finite, and when memory runs out; what was saved stays.
    """
    every = recipe.run
    if every.num_threads:
        torch.set_num_threads(every.num_threads)
    state = build()
    if (folder / STATE).exists():
        state.load(folder / STATE)
    source = stream_from(state.step)
    # What is no dataset of torch's is quick enough to be read here.
    stream = batches(source, num_workers=every.num_workers) if isinstance(source, BatchStream) else iter(source)
    folder.mkdir(parents=True, exist_ok=True)
    skipped: Counter[str] = Counter()
    with TrainingLog(folder, state.step) as log:
        while state.step < every.steps:
            began = clock()
            result = _step(state, recipe, stream, take, skipped)
            state.step += 1
            state.seconds += clock() - began
            last = state.step == every.steps
            if state.step % every.log_every == 0 or last:
                values = {f.name: float(getattr(result, f.name)) for f in dataclasses.fields(result)}
                values["learning_rate"] = state.optimizer.param_groups[0]["lr"]
                values["seconds"] = state.seconds
                values["skipped"] = skipped.total()
                log.write(state.step, values)
                if progress is not None:
                    progress(state.step, values)
            for period, callback in callbacks:
                if period and (last or state.step % period == 0):
                    values = _called(callback, state)
                    if values:
                        log.write(state.step, values)
            if state.step % every.save_every == 0 or last:
                state.save(folder / STATE)
    return state


def averaged(state: TrainingState[M]) -> M:
    """Return the model to be used: the moving average, or the model itself where there is none."""
    return state.model if state.average is None else state.average.model


def _called(callback: Callback[M], state: TrainingState[M]) -> dict[str, float]:
    """Call back without a trace in the random numbers that training draws."""
    device = state.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return callback(averaged(state).eval(), state.step)


def _step(state: TrainingState[M], recipe: Plan, stream: Iterator[Batch], take: Take[M], skipped: Counter[str]) -> Any:
    """Take one step of the optimiser, over `accumulate` batches; logged values are means over them."""
    model, optim = state.model.train(), recipe.optim
    set_rates(state.optimizer, optim.learning_rate * rate_factor(state.step, recipe.run.steps, optim))
    state.optimizer.zero_grad(set_to_none=True)
    results: list[Any] = []
    try:
        for _ in range(optim.accumulate):
            batch = next(stream)
            skipped.update(batch.skipped)
            results.append(take(model, batch.to(recipe.run.device), state.generator, 1 / optim.accumulate))
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
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
    if not torch.isfinite(norm + result.loss):  # the only wait for the device in a step
        raise TrainingError(
            f"at step {state.step} the loss is {float(result.loss)} and its gradient {float(norm)}: lower "
            f"optim.learning_rate ({optim.learning_rate}), or use run.precision = 'float32'; {STATE} holds the last "
            "good state"
        )
    state.optimizer.step()
    if state.average is not None:
        state.average.update(model, state.step)
    return result


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; the CPU's allocator says so in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)
