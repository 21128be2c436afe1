"""The loop of `anymask everything`: images read ahead, asked about, and written one by one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from anymask.errors import ImageError
from anymask.inference import AutomaticMasks, AutomaticOptions, MaskRecord
from anymask.inference.tiled import OnTile, TiledMasks
from anymask.model import Sam
from anymask.workflows.folder_files import annotations_of, write_document, write_pictures
from anymask.workflows.folder_jobs import Format, Job, begin, missing, read_document, write_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from anymask.cli.terminal import EverythingBar

Pixels: TypeAlias = UInt8[np.ndarray, "h w 3"]
Answer: TypeAlias = Callable[[Iterator[Pixels]], Iterator[list[MaskRecord]]]
"""Masks of each image, in their order."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run did."""

    made: int = 0
    """Images whose masks were made."""
    found: int = 0
    """Images whose files were all there."""
    masks: int = 0
    """Of the images that were made."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """`file` and `error` of each image that could not be read."""
    seconds: float = 0.0


def answerer(
    model: Sam, options: AutomaticOptions, tiling: dict[str, int], batch_size: int | None, *, on_tile: OnTile
) -> Answer:
    """Return what makes masks of images: whole, or in the tiles that `tiling` describes."""
    if tiling:
        tiled = TiledMasks(model, options, **tiling)
        return lambda images: (tiled.generate(image, on_tile=on_tile) for image in images)
    size = batch_size or (4 if model.device.type == "cuda" else 1)
    return partial(AutomaticMasks(model, options).generate_many, batch_size=size)


@dataclass(slots=True, kw_only=True)
class Loop:
    """Images to go through, and where and how their files are written.

    Nothing is written before the first image could be read.
    """

    folder: Path
    jobs: Sequence[Job]
    formats: tuple[Format, ...]
    settings: dict[str, Any]
    overwrite: bool
    read: Callable[[Path], Pixels]
    """Reads an image as the model wants it; raises ImageError."""
    _begun: bool = False
    _outcome: Outcome = field(default_factory=Outcome)

    def run(self, answer: Answer, bar: EverythingBar) -> Outcome:
        """Make what is not there yet. Raises OutputError where a file cannot be written."""
        start = time.perf_counter()
        unmade, undrawn = self._sort_out()
        bar.begin(self._outcome.found)
        for job, pixels in self._readable(undrawn, bar):
            document = read_document(job.path(self.folder, Format.sa1b), job)
            assert document is not None  # or the image would be among the unmade
            self._draw(job, pixels, document["annotations"])
            self._outcome.found += 1
            bar.image()
        asked: deque[tuple[Job, Pixels]] = deque()
        for records in answer(self._noting(asked, self._readable(unmade, bar))):
            job, pixels = asked.popleft()
            annotations = annotations_of(records, tree=bool(self.settings["tree"]))
            write_document(self.folder, job, (pixels.shape[0], pixels.shape[1]), annotations)
            self._draw(job, pixels, annotations)
            self._outcome.made += 1
            self._outcome.masks += len(records)
            bar.image(self._outcome.made, self._outcome.masks)
        if Format.coco in self.formats and self._outcome.made + self._outcome.found:
            write_dataset(self.folder, self.jobs)
        self._outcome.seconds = round(time.perf_counter() - start, 3)
        return self._outcome

    def _sort_out(self) -> tuple[list[Job], list[Job]]:
        """Return the images without masks, and those that only miss a file made from them; count the others."""
        if self.overwrite:
            return list(self.jobs), []
        unmade, undrawn = [], []
        for job in self.jobs:
            if read_document(job.path(self.folder, Format.sa1b), job) is None:
                unmade.append(job)
            elif missing(self.folder, job, self.formats):
                undrawn.append(job)
            else:
                self._outcome.found += 1
        return unmade, undrawn

    def _readable(self, jobs: Sequence[Job], bar: EverythingBar) -> Iterator[tuple[Job, Pixels]]:
        """Yield the images that can be read, one of them read ahead; note the others."""
        with ThreadPoolExecutor(1, thread_name_prefix="anymask-reader") as reader:
            ahead = deque(reader.submit(self.read, job.image) for job in jobs[:1])
            for index, job in enumerate(jobs):
                reading = ahead.popleft()
                ahead.extend(reader.submit(self.read, later.image) for later in jobs[index + 1 : index + 2])
                try:
                    pixels = reading.result()
                except ImageError as error:
                    self._outcome.failed.append({"file": str(job.image), "error": str(error)})
                    bar.image()
                    continue
                if not self._begun:
                    begin(self.folder, self.jobs, self.settings, overwrite=self.overwrite)
                    self._begun = True
                yield job, pixels

    @staticmethod
    def _noting(asked: deque[tuple[Job, Pixels]], images: Iterator[tuple[Job, Pixels]]) -> Iterator[Pixels]:
        """Pass images on, and note which they are: masks come in the same order, but some images later."""
        for job, pixels in images:
            asked.append((job, pixels))
            yield pixels

    def _draw(self, job: Job, pixels: Pixels, annotations: Sequence[dict[str, Any]]) -> None:
        write_pictures(
            self.folder,
            job,
            missing(self.folder, job, self.formats),
            pixels,
            annotations,
            on_top=self.settings["on_top"],
            cover=self.settings["cover"],
        )
