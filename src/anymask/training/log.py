"""What a run leaves to be read: log.jsonl and, where TensorBoard is installed, its files."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from anymask.data.files import write_text_atomic

NAME = "log.jsonl"


class TrainingLog:
    """One JSON object a line; a resumed run first drops what an earlier one logged beyond its last state."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / NAME
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if 0 <= _step_of(line) <= step]
            write_text_atomic(self.path, "".join(line + "\n" for line in kept))
        self._board = _board(folder, step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log the values of a step; nothing where there are none."""
        if not values:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def __enter__(self) -> TrainingLog:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, float]]:
    """Return the lines of a run's log; one that a crash cut short is left out."""
    lines = (folder / NAME).read_text().splitlines()
    return [json.loads(line) for line in lines if _step_of(line) >= 0]


def _step_of(line: str) -> int:
    """Return a line's step, or -1 where a crash cut it short."""
    try:
        step: int = json.loads(line)["step"]
    except ValueError:
        return -1
    return step


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # of the extra `train`
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
