"""The state of a run whose model is shared out: torch's distributed checkpoints, one folder a save.

Every process writes its shards; what was written by N processes is read by any number, and by one without sharding.
"""

from __future__ import annotations

import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anymask.errors import CheckpointError, OutputError
from anymask.training.distributed import Processes, wait
from anymask.training.state import TrainingState

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
        if state.average is not None:
            set_model_state_dict(state.average.model, values["average"])
    except (CheckpointException, RuntimeError, KeyError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"the training state {path} does not fit this recipe, or is damaged ({str(error).splitlines()[0]}); "
            "move it away to begin anew"
        ) from error
    state.step, state.seconds = int(values["progress"]["step"]), float(values["progress"]["seconds"])
    state.restore(settings)


def _values(state: TrainingState[nn.Module]) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_state_dict

    model, optimizer = get_state_dict(state.model, state.optimizer)
    progress = {"step": torch.tensor(state.step), "seconds": torch.tensor(state.seconds, dtype=torch.float64)}
    values: dict[str, Any] = {"model": model, "optimizer": optimizer, "progress": progress}
    if state.average is not None:
        values["average"] = get_model_state_dict(state.average.model)
    return values


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))
