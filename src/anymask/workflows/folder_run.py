"""A folder of images segmented: read ahead, asked about, and written one by one, so that a stopped run can be resumed.

Each image has its masks as JSON in SA-1B's layout; label maps, overlays and the COCO file are made from that.
"""

from __future__ import annotations

import io
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from anymask.data.files import check_folder, make_folder, write_bytes_atomic, write_image_atomic
from anymask.data.sample import SUBPART
from anymask.data.writers.sa1b import pair_document
from anymask.errors import ImageError, InputError, OutputError
from anymask.inference import AutomaticMasks, AutomaticOptions, MaskRecord, TiledMasks, load
from anymask.inference.answers import read
from anymask.inference.automatic.label_maps import Labels, OnTop, label_map
from anymask.inference.automatic.masks import sa1b_annotation
from anymask.inference.automatic.tree import build_tree
from anymask.inference.runtimes import AnyModel, weights_hash
from anymask.plots import draw_everything, palette
from anymask.workflows.folder_jobs import (
    Job,
    ResultFormat,
    begin,
    check_earlier,
    list_jobs,
    missing,
    read_document,
    write_dataset,
)

Pixels: TypeAlias = UInt8[np.ndarray, "h w 3"]

_HOW_NOT_WHAT = ("points_per_batch", "memory_limit")
"""Options that change how masks are made, and not which."""
_PALETTE_LABELS = 255
"""A PNG with a palette has 256 colours; the first is for no mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderProgress:
    """How far a run is: reported after each image, and after each tile of a large one."""

    done: int
    """Images that are done, those of an earlier run and those that could not be read included."""
    total: int
    """Images in all."""
    made: int
    """Images whose masks this run made so far."""
    masks: int
    """Masks that this run made so far."""
    tile: tuple[int, int] | None = None
    """Tiles that are done of the image at hand, and their number; None between images."""


OnProgress: TypeAlias = Callable[[FolderProgress], None]


@dataclass(slots=True, kw_only=True)
class FolderResult:
    """What a run did."""

    made: int = 0
    """Images whose masks were made."""
    found: int = 0
    """Images whose files were there already, or were drawn from masks that were."""
    masks: int = 0
    """Masks of the images that were made."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """`file` and `error` of each image that could not be read."""
    seconds: float = 0.0
    """Wall time of the run."""


def segment_folder(
    source: str | Path,
    output: str | Path,
    model: str | Path | AnyModel = "anymask-s",
    options: AutomaticOptions | None = None,
    *,
    formats: Sequence[str] = (),
    recursive: bool = False,
    tree: bool = False,
    on_top: OnTop = "small",
    cover: bool = False,
    overwrite: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int | None = None,
    progress: OnProgress | None = None,
) -> FolderResult:
    """Segment everything in an image, or in each image of a folder, and write the results: `anymask everything`.

    Each image gets `<stem>.json` below `output`, where the image lies in its folder, in SA-1B's layout: run lengths at
    the image's own (height, width), boxes as (x, y, width, height) in its pixels. A call that was stopped is resumed
    when it is repeated; images that cannot be read are passed over and named in the result.

        result = anymask.segment_folder("photographs", "masks", formats=["overlay"])
        print(result.made, "images,", result.masks, "masks,", len(result.failed), "unreadable")

    Args:
        source: An image, or a folder of images.
        output: The folder of the results, made if need be.
        model: A name of `anymask models list`, a checkpoint's path (loaded onto the CPU), or a loaded model.
        options: Which masks; `AutomaticOptions.preset("balanced")` by default.
        formats: What to write besides the JSONs: "labels" (`<stem>_labels.png`, a number for each mask), "overlay"
            (`<stem>_overlay.jpg`) and "coco" (one `annotations.coco.json`).
        recursive: Whether to look into folders within the folder.
        tree: Whether to add each mask's level and parent to the JSON.
        on_top: Which of overlapping masks a label map shows: "small" or "confident".
        cover: Whether label maps have no gaps: each pixel without a mask gets the nearest mask's number.
        overwrite: Whether to start over where `output` holds results already.
        tile: Side of the tiles, in pixels, that each image is segmented by; None for whole images.
        overlap: Pixels that neighbouring tiles share; a quarter of `tile` by default.
        batch_size: Images encoded at a time; 4 on a GPU and 1 elsewhere by default.
        progress: Called with a `FolderProgress` after each image and each tile.

    Raises:
        InputError: The folder holds no image, or a format or a number makes no sense.
        ImageError: `source` is not there, or is one image that cannot be read.
        OutputError: `output` cannot be written to, or holds results of other settings.
        CheckpointError: The model's file is none, or is damaged.
    """
    jobs = list_jobs(Path(source), Path(output), recursive=recursive)
    check_folder(Path(output))
    run = FolderRun(
        jobs=jobs,
        output=Path(output),
        is_folder=Path(source).is_dir(),
        formats=_formats(formats),
        tree=tree,
        on_top=on_top,
        cover=cover,
        overwrite=overwrite,
        tiling=tiling(tile, overlap),
    )
    if isinstance(model, str | Path):
        return run.run(load(model), options, name=str(model), batch_size=batch_size, progress=progress)
    return run.run(model, options, name="a loaded model", batch_size=batch_size, progress=progress)


def _formats(names: Sequence[str]) -> tuple[ResultFormat, ...]:
    try:
        return tuple(ResultFormat(name) for name in names)
    except ValueError as error:
        raise InputError(f"{error}; the formats are {', '.join(ResultFormat)}") from error


def tiling(tile: int | None, overlap: int | None) -> dict[str, int]:
    """Return the tiles' side and overlap in pixels, nothing where none are wanted. Raises InputError."""
    if tile is None:
        if overlap is not None:
            raise InputError("an overlap says how far tiles overlap: give the side of a tile too")
        return {}
    shared = tile // 4 if overlap is None else overlap
    if not 0 <= shared < tile:
        raise InputError(f"tile {tile} and overlap {shared}: the overlap must be 0 or more and below the tile")
    return {"tile": tile, "overlap": shared}


@dataclass(slots=True, kw_only=True)
class FolderRun:
    """Images to go through, and where and how their files are written; see `segment_folder`.

    Nothing is written before the first image could be read. It runs once.
    """

    jobs: Sequence[Job]
    """What `list_jobs` found, before a model was loaded."""
    output: Path
    is_folder: bool
    """Whether a folder was given: of a lone image, that it cannot be read is an error."""
    formats: tuple[ResultFormat, ...] = ()
    tree: bool = False
    on_top: OnTop = "small"
    cover: bool = False
    overwrite: bool = False
    tiling: dict[str, int] = field(default_factory=dict)
    """`tile` and `overlap` in pixels; empty for whole images."""
    _settings: dict[str, Any] = field(init=False, default_factory=dict)
    _read: Callable[[Path], Pixels] = field(init=False)
    _begun: bool = field(init=False, default=False)
    _result: FolderResult = field(init=False, default_factory=FolderResult)
    _progress: OnProgress | None = field(init=False, default=None)

    def run(
        self,
        model: AnyModel,
        options: AutomaticOptions | None = None,
        *,
        name: str,
        batch_size: int | None = None,
        progress: OnProgress | None = None,
    ) -> FolderResult:
        """Make what is not there yet; `name` is what the run's record calls the model.

        Raises OutputError where a file cannot be written or is of other settings, and ImageError where the one image
        cannot be read.
        """
        start = time.perf_counter()
        options = (options or AutomaticOptions.preset("balanced")).for_model(model.config)
        self._settings = self._described(model, options, name)
        if not self.overwrite:
            check_earlier(self.output, self.jobs, self._settings)
        self._read, self._progress = partial(read, model), progress
        unmade, undrawn = self._sort_out()
        self._draw_known(undrawn)
        self._segment(unmade, self._answerer(model, options, batch_size))
        result = self._result
        if result.failed and not self.is_folder:
            raise ImageError(result.failed[0]["error"])
        if ResultFormat.coco in self.formats and result.made + result.found:
            write_dataset(self.output, self.jobs)
        result.seconds = round(time.perf_counter() - start, 3)
        return result

    def _described(self, model: AnyModel, options: AutomaticOptions, name: str) -> dict[str, Any]:
        """Return, as JSON has it, all that decides what the files hold."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(options)))
        which = {key: value for key, value in values.items() if key not in _HOW_NOT_WHAT}
        weights = {"model": name, "model_hash": weights_hash(model), "channels": model.channels}
        drawn = {"tree": self.tree, "on_top": self.on_top, "cover": self.cover}
        return {**weights, **which, **self.tiling, **drawn}

    def _answerer(
        self, model: AnyModel, options: AutomaticOptions, batch_size: int | None
    ) -> Callable[[Iterator[Pixels]], Iterator[list[MaskRecord]]]:
        """Return what makes masks of images, in their order: whole, or tile by tile."""
        if self.tiling:
            tiled = TiledMasks(model, options, **self.tiling)
            return lambda images: (tiled.generate(image, on_tile=self._tell_tile) for image in images)
        size = batch_size or (4 if str(model.device).startswith("cuda") else 1)
        return partial(AutomaticMasks(model, options).generate_many, batch_size=size)

    def _sort_out(self) -> tuple[list[Job], list[Job]]:
        """Return the images without masks, and those that only miss a file made from them; count the others."""
        if self.overwrite:
            return list(self.jobs), []
        unmade, undrawn = [], []
        for job in self.jobs:
            if read_document(job.path(self.output, ResultFormat.sa1b), job) is None:
                unmade.append(job)
            elif missing(self.output, job, self.formats):
                undrawn.append(job)
            else:
                self._result.found += 1
        return unmade, undrawn

    def _draw_known(self, jobs: Sequence[Job]) -> None:
        """Draw what is missing of images whose masks are there."""
        for job, pixels in self._readable(jobs):
            document = read_document(job.path(self.output, ResultFormat.sa1b), job)
            assert document is not None  # or the image would be among the unmade
            self._draw(job, pixels, document["annotations"])
            self._result.found += 1
            self._tell()

    def _segment(self, jobs: Sequence[Job], answer: Callable[[Iterator[Pixels]], Iterator[list[MaskRecord]]]) -> None:
        """Make and write the masks of images."""
        asked: deque[tuple[Job, Pixels]] = deque()
        for records in answer(self._noting(asked, self._readable(jobs))):
            job, pixels = asked.popleft()
            annotations = annotations_of(records, tree=self.tree)
            path = job.path(self.output, ResultFormat.sa1b)
            make_folder(path.parent)
            size = (pixels.shape[0], pixels.shape[1])
            write_bytes_atomic(path, pair_document(job.image_id, size, Path(job.file_name).name, annotations))
            self._draw(job, pixels, annotations)
            self._result.made += 1
            self._result.masks += len(records)
            self._tell()

    def _readable(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Pixels]]:
        """Yield the images that can be read, one of them read ahead; note the others."""
        with ThreadPoolExecutor(1, thread_name_prefix="anymask-reader") as reader:
            ahead = deque(reader.submit(self._read, job.image) for job in jobs[:1])
            for index, job in enumerate(jobs):
                reading = ahead.popleft()
                ahead.extend(reader.submit(self._read, later.image) for later in jobs[index + 1 : index + 2])
                try:
                    pixels = reading.result()
                except ImageError as error:
                    self._result.failed.append({"file": str(job.image), "error": str(error)})
                    self._tell()
                    continue
                if not self._begun:
                    begin(self.output, self.jobs, self._settings, overwrite=self.overwrite)
                    self._begun = True
                yield job, pixels

    @staticmethod
    def _noting(asked: deque[tuple[Job, Pixels]], images: Iterator[tuple[Job, Pixels]]) -> Iterator[Pixels]:
        """Pass images on, and note which they are: masks come in the same order, but some images later."""
        for job, pixels in images:
            asked.append((job, pixels))
            yield pixels

    def _draw(self, job: Job, pixels: Pixels, annotations: Sequence[dict[str, Any]]) -> None:
        """Write the label map and the overlay, whichever of them is wanted and missing."""
        kinds = missing(self.output, job, self.formats)
        masks = [annotation["segmentation"] for annotation in annotations]
        if ResultFormat.labels in kinds:
            scores = [annotation["predicted_iou"] for annotation in annotations]
            size = (pixels.shape[0], pixels.shape[1])
            labels = label_map(masks, size, scores=scores, on_top=self.on_top, cover=self.cover)
            write_bytes_atomic(job.path(self.output, ResultFormat.labels), encode_labels(labels, len(masks)))
        if ResultFormat.overlay in kinds:
            write_image_atomic(job.path(self.output, ResultFormat.overlay), draw_everything(pixels, masks), quality=90)

    def _tell(self, tile: tuple[int, int] | None = None) -> None:
        if self._progress is not None:
            now = self._result
            done = now.found + now.made + len(now.failed)
            self._progress(FolderProgress(done=done, total=len(self.jobs), made=now.made, masks=now.masks, tile=tile))

    def _tell_tile(self, done: int, total: int) -> None:
        self._tell((done, total))


def annotations_of(records: Sequence[MaskRecord], *, tree: bool) -> list[dict[str, Any]]:
    """Return the records as SA-1B has them; with `tree`, also each mask's level and its parent's index (-1: none)."""
    made = build_tree([record.rle for record in records]) if tree else None
    return [
        sa1b_annotation(
            index,
            record,
            level=None if made is None else min(int(made.levels[index]), SUBPART),
            parent=None if made is None else int(made.parents[index]),
        )
        for index, record in enumerate(records)
    ]


def encode_labels(labels: Labels, num_masks: int) -> bytes:
    """Return a PNG of the numbers: with a palette, so that it can be looked at, up to 255 masks; 16-bit grey beyond.

    Raises OutputError for more masks than 16 bits can number.
    """
    if num_masks >= 1 << 16:
        raise OutputError(f"{num_masks} masks are more than the 65,535 that a label map in 16 bits can number")
    if num_masks <= _PALETTE_LABELS:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(np.concatenate([np.zeros((1, 3), np.uint8), palette(_PALETTE_LABELS)]).tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    return encoded.getvalue()
