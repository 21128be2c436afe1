"""The state of a run: saved atomically, resumed bit-exact."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anymask.errors import CheckpointError
from anymask.model import Sam
from anymask.training.optim import MovingAverage


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """All that decides what the next step does; data and schedule follow from `step`."""

    model: Sam
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    generator: torch.Generator
    step: int = 0
    seconds: float = 0.0
    """Wall-clock time of the steps so far, over all runs."""

    def save(self, path: Path) -> None:
        """Write to a temporary file beside `path`, flush it to the disk, and put it in its place."""
        values: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
            "generator": self.generator.get_state(),
            "rng": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Take up what `save` wrote; raises CheckpointError if the file is broken or of another model."""
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(values["model"])
            self.optimizer.load_state_dict(values["optimizer"])
            if self.average is not None:
                self.average.model.load_state_dict(values["average"] or values["model"])
            self.generator.set_state(values["generator"])
            torch.set_rng_state(values["rng"])
            self.step, self.seconds = values["step"], values["seconds"]
        except (RuntimeError, KeyError, ValueError, EOFError) as error:
            raise CheckpointError(f"the training state {path} does not fit this recipe: {error}") from error
