"""What verbs share of the terminal: progress bars, on standard error so that standard output stays for results.

A bar appears with the first progress, so that what is refused before leaves nothing but its one line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from anymask.checkpoints.transfer import Progress
    from anymask.workflows.folder_run import FolderProgress

SOME_FAILED = 1
"""Exit status where all was done but for some images, which are named."""


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
def waiting(words: str) -> Iterator[Callable[[str], None]]:
    """Show that something is running, what it is and for how long; how much is left is unknown."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(words)
        yield lambda description: bars.update(task, description=description)


@contextmanager
def training_progress(steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show steps, loss, IoU after the first and the last prompt (if any), the time so far and the time left."""
    bars = _counting_bars()
    tasks: list[TaskID] = []

    def report(step: int, values: dict[str, float]) -> None:
        bars.start()
        if not tasks:
            tasks.append(bars.add_task("", total=steps, completed=step))
        words = f"loss {values['loss']:.3f}"
        if "iou_first" in values:
            words += f"  IoU {values['iou_first']:.2f}"
        if "iou_last" in values:
            words += f" → {values['iou_last']:.2f}"
        bars.update(tasks[0], completed=step, description=words)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


class EverythingBar:
    """Images done of all, images/s and masks/image of this run, the tile of a large image, and the time left."""

    def __init__(self, bars: Bars, total: int) -> None:
        self._bars, self._total = bars, total
        self._done = 0
        self._task: TaskID | None = None
        self._start = time.perf_counter()

    def begin(self, done: int) -> None:
        """Start the clock; `done` images are an earlier run's."""
        self._done = done
        self._start = time.perf_counter()

    def image(self, made: int = 0, masks: int = 0) -> None:
        """Count an image; `made` and `masks` are those of this run so far, left out where no masks were made."""
        self._done += 1
        if made:
            rate = f"{made / (time.perf_counter() - self._start):.2f} images/s"
            self._show(f"{rate}  {masks / made:.0f} masks/image" if masks else rate)

    def folder(self, progress: FolderProgress) -> None:
        """Show how far a run over a folder is."""
        if progress.tile is not None:
            self._done = progress.done
            self._show("tile {}/{}".format(*progress.tile))
        else:
            self._done = progress.done - 1
            self.image(progress.made, progress.masks)

    def _show(self, words: str) -> None:
        if self._task is None:
            self._bars.start()
            self._task = self._bars.add_task("", total=self._total, completed=max(0, self._done - 1))
        self._bars.update(self._task, completed=self._done, description=words)


@contextmanager
def everything_progress(total: int) -> Iterator[EverythingBar]:
    """Show how far images are."""
    bars = _counting_bars()
    try:
        yield EverythingBar(bars, total)
    finally:
        if bars.tasks:
            bars.stop()


@contextmanager
def part_progress(description: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far one part of the work is; what is being done, how much is done, and of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True))

    def heard(what: str, done: int, total: int) -> None:
        if not bars.tasks:
            bars.start()
            bars.add_task(description, total=total)
        bars.update(bars.tasks[0].id, completed=done, total=total, description=f"{description} {what}".strip())
        if done >= total:
            bars.stop()

    try:
        yield heard
    finally:
        if bars.tasks:
            bars.stop()


@contextmanager
def parts_progress() -> Iterator[Callable[[str, str, int, int], None]]:
    """Show a bar for each part of a job: told the part, what is being done, how much is done, and of how much."""
    shown: dict[str, Callable[[str, int, int], None]] = {}
    with ExitStack() as bars:

        def told(part: str, what: str, done: int, total: int) -> None:
            if part not in shown:
                shown[part] = bars.enter_context(part_progress(part))
            shown[part](what, done, total)

        yield told


def _counting_bars() -> Bars:
    """Return bars of things done of all, with the time so far and the time left."""
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
    return Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=Console(stderr=True))
