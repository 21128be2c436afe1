"""The state of a run: saved atomically, resumed bit-exact.

A step's random numbers follow from the run's seed and the step's number, so that no generator's state is kept.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from anymask.errors import CheckpointError, OutputError
from anymask.training.optim import MovingAverage

M = TypeVar("M", bound=nn.Module)


@dataclass(slots=True, kw_only=True)
class TrainingState(Generic[M]):
    """All that decides what the next step does; data, schedule and random numbers follow from `step`."""

    model: M
    optimizer: torch.optim.Optimizer
    average: MovingAverage[M] | None
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
            "average": None if self.average is None else self.average.model.state_dict(),
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
            if self.average is not None:
                self.average.model.load_state_dict(values["average"] or values["model"])
            self.step, self.seconds = values["step"], values["seconds"]
        except (RuntimeError, KeyError, ValueError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"the training state {path} does not fit this recipe, or is damaged ({reason}); "
                "move it away to begin anew"
            ) from error
        self.restore(settings)

    def settings(self) -> list[dict[str, Any]]:
        """Return the optimiser's rates and decays, one group after the other."""
        return [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]

    def restore(self, settings: list[dict[str, Any]]) -> None:
        """Give the optimiser such rates and decays."""
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)
