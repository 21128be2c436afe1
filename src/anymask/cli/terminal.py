"""What verbs share of the terminal: progress bars, on standard error so that standard output stays for results.

A bar appears with the first progress, so that what is refused before leaves nothing but its one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

    from anymask.checkpoints.transfer import Progress


@contextmanager
def download_progress() -> Iterator[Progress]:
    """Show a bar for each file that is downloaded: bytes, speed and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
    tasks = {}

    def report(name: str, done: int, total: int | None) -> None:
        bars.start()
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=total)
        bars.update(tasks[name], completed=done, total=total)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


@contextmanager
def training_progress(steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show steps, loss, IoU after the first and the last prompt, the time so far and the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bars = Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=Console(stderr=True))
    tasks: list[TaskID] = []

    def report(step: int, values: dict[str, float]) -> None:
        bars.start()
        if not tasks:
            tasks.append(bars.add_task("", total=steps, completed=step))
        words = f"loss {values['loss']:.3f}  IoU {values['iou_first']:.2f} → {values['iou_last']:.2f}"
        bars.update(tasks[0], completed=step, description=words)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()
