"""The state of a run: saved atomically, resumed bit-exact.

A step's random numbers follow from the run's seed and the step's number, so that no generator's state is kept.
A model that processes share out is kept as torch's distributed checkpoints, one folder per save: every process writes
its shards, and any number of processes reads them, one without sharding too.
"""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from anymask.errors import CheckpointError, OutputError
from anymask.training.distributed import Processes, wait
from anymask.training.optim import MovingAverage

M = TypeVar("M", bound=nn.Module)


@dataclass(slots=True, kw_only=True)
class TrainingState(Generic[M]):
    """All that decides what the next step does; data, schedule and random numbers follow from `step`."""

    model: M
    optimizer: torch.optim.Optimizer
    moving_average: MovingAverage[M] | None
    generator: torch.Generator
    step: int = 0
    plain: M | None = None
    """In the first process of a model that is shared out: one that is not, to gather it into."""
    seconds: float = 0.0
    """Wall-clock time of the steps so far, over all runs."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def draw_anew(self, seed: int, batch: int, rank: int) -> None:
        """Begin a batch's random numbers, of torch and of the generator, for one of a run's processes."""
        words = np.random.SeedSequence((seed, batch, rank)).generate_state(2, np.uint64) >> np.uint64(1)
        torch.manual_seed(int(words[0]))
        self.generator.manual_seed(int(words[1]))

    def save(self, path: Path) -> None:
        """Write to a temporary file beside `path`, flush it to the disk, and put it in its place.

        A crash at any time leaves the old file or the new one. Raises OutputError, as on a full disk.
        """
        values: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.moving_average is None else self.moving_average.model.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = path.with_name(f".{path.name}.partial")  # one name: a crash's leavings are overwritten
        try:
            with temporary.open("wb") as file:
                torch.save(values, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            temporary.unlink(missing_ok=True)
            raise OutputError(f"the training state {path} cannot be written: {error}") from error

    def load(self, path: Path) -> None:
        """Take up what `save` wrote; the optimiser keeps its own rates and decays, which the recipe may have changed.

        Raises CheckpointError if the file is broken or of another model.
        """
        settings = self.settings()
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(values["model"])
            self.optimizer.load_state_dict(values["optimizer"])
            if self.moving_average is not None:
                self.moving_average.model.load_state_dict(values["average"] or values["model"])
            self.step, self.seconds = values["step"], values["seconds"]
        except (RuntimeError, KeyError, ValueError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"the training state {path} does not fit this recipe, or is damaged ({reason}); "
                "move it away to start over"
            ) from error
        self.restore(settings)

    def settings(self) -> list[dict[str, Any]]:
        """Return the optimiser's rates and decays, one group after the other."""
        return [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]

    def restore(self, settings: list[dict[str, Any]]) -> None:
        """Give the optimiser such rates and decays."""
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)


_PREFIX, _SUFFIX = "state-", ".dcp"


def save_sharded(state: TrainingState[Any], folder: Path, processes: Processes) -> None:
    """Write `state-<step>.dcp` under another name, rename it, and drop the ones before; every process has to call it.

    A crash at any time leaves the last whole one. Raises OutputError, as on a full disk.
    """
    from torch.distributed.checkpoint import state_dict_saver as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    path = folder / f"{_PREFIX}{state.step:09d}{_SUFFIX}"
    partial = path.with_suffix(".partial")
    try:
        if processes.is_first:
            shutil.rmtree(partial, ignore_errors=True)
        wait(processes)
        dcp.save(_values(state), checkpoint_id=partial)
        if processes.is_first:
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
            for old in _all(folder):
                if old != path:
                    shutil.rmtree(old, ignore_errors=True)
        wait(processes)
    except (OSError, CheckpointException) as error:
        raise OutputError(f"the training state {path} cannot be written: {error}") from error


def latest_sharded(folder: Path) -> Path | None:
    """Return the last state in a run's folder, if there is one."""
    return max(_all(folder), default=None)


def load_sharded(state: TrainingState[Any], path: Path) -> None:
    """Take up what `save_sharded` wrote, whether or not this model is shared out; the optimiser keeps its own rates.

    Raises CheckpointError if it is broken or of another model.
    """
    from torch.distributed.checkpoint import state_dict_loader as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
    from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_state_dict

    settings = state.settings()
    values = _values(state)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process alone is meant to load it
            moments = {"optimizer": values.pop("optimizer")}
            dcp.load(values, checkpoint_id=path)
            # Of parameters that have had no gradient so far, Adam has nothing to write.
            dcp.load(moments, checkpoint_id=path, planner=DefaultLoadPlanner(allow_partial_load=True))
        set_state_dict(
            state.model, state.optimizer, model_state_dict=values["model"], optim_state_dict=moments["optimizer"]
        )
        if state.moving_average is not None:
            set_model_state_dict(state.moving_average.model, values["average"])
    except (CheckpointException, RuntimeError, KeyError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"the training state {path} does not fit this recipe, or is damaged ({str(error).splitlines()[0]}); "
            "move it away to start over"
        ) from error
    state.step, state.seconds = int(values["progress"]["step"]), float(values["progress"]["seconds"])
    state.restore(settings)


def _values(state: TrainingState[nn.Module]) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_state_dict

    model, optimizer = get_state_dict(state.model, state.optimizer)
    progress = {"step": torch.tensor(state.step), "seconds": torch.tensor(state.seconds, dtype=torch.float64)}
    values: dict[str, Any] = {"model": model, "optimizer": optimizer, "progress": progress}
    if state.moving_average is not None:
        values["average"] = get_model_state_dict(state.moving_average.model)
    return values


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))
