"""The edge protocol: a model or a baseline on BSDS500, image by image, resumed where it stopped.

Source: SAM, sec. 7.2 and app. D.2. Each image's counts are a file in the results' folder, there or not at all.
Results come as JSON for machines and Markdown for people, the published rows beside them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from anymask.data.files import make_folder, remove_abandoned, write_text_atomic
from anymask.data.images import read_image
from anymask.data.sample import fingerprint
from anymask.errors import DataError, InputError
from anymask.evaluation.edges.baselines import BASELINES, THRESHOLDS, above
from anymask.evaluation.edges.bsds import BsdsImage, list_images, read_boundaries, require_scipy
from anymask.evaluation.edges.measures import EdgeCounts, EdgeScores, count_matches, measure, total_counts
from anymask.evaluation.report import table
from anymask.threads import use_one_thread

Detector = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "h w"]]
"""An image's edge strengths from 0 to 1, thin."""
_Row = tuple[float, float | None, float | None, float | None]
PUBLISHED: dict[str, _Row] = {
    "Sobel": (0.539, None, None, None),
    "Canny": (0.600, None, None, None),
    "Felzenszwalb": (0.610, None, None, None),
    "HED": (0.788, None, None, None),
    "EDETR": (0.840, None, None, None),
    "SAM ViT-H": (0.768, 0.786, 0.794, 0.928),
}
"""ODS, OIS, AP and R50 on BSDS500's 200 test images (SAM, sec. 7.2)."""
NOTE = (
    "Published rows are SAM's (sec. 7.2), on BSDS500's 200 test images. What differs here: pixels are matched by a "
    "matching of the most pairs, near ones first, not by one of the least cost; the blur and the scales of the "
    "baselines are our choice, as the papers do not state theirs; of a mask's edge both sides are kept before thinning."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """How matches are made, and on which part of the data."""

    tolerance: float = 0.0075
    """The largest distance of a match, as a share of the image's diagonal."""
    split: str = "test"
    max_images: int | None = None
    """How many images are taken, the first by name; None takes all."""
    num_workers: int = 1
    """Processes that match edges; with 1, this one does."""

    def __post_init__(self) -> None:
        """Reject invalid values."""
        if not 0 <= self.tolerance < 1:
            raise InputError(f"the tolerance is {self.tolerance} of the diagonal; give 0 or more, under 1")
        for name, value in (("max_images", self.max_images), ("num_workers", self.num_workers)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeResult:
    """The measures over all images, and the curve they come from."""

    method: str
    num_images: int
    scores: EdgeScores
    levels: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]


def evaluate_edges(
    folder: str | Path,
    method: str,
    detect: Detector | None = None,
    config: EdgeConfig | None = None,
    *,
    output: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EdgeResult:
    """Evaluate on `folder`, BSDS500's own `data`; `progress` is called with the number of images done and of all.

    `method` names a baseline, or whatever `detect` is. With an `output` folder, images whose counts are there from a
    run with the same method, tolerance and images are not done again; use one name for one model.

    Raises:
        InputError: no such baseline, or SciPy or scikit-image is missing.
        DataError: the folder is not BSDS500's, or a file cannot be used.
    """
    config = config or EdgeConfig()
    require_scipy()
    if detect is None and method not in BASELINES:
        raise InputError(f"there is no baseline {method!r}; there are {', '.join(BASELINES)}")
    levels = THRESHOLDS if detect is not None else BASELINES[method][0]
    images = list_images(folder, config.split)[: config.max_images]
    kept = None if output is None else _Kept(Path(output), method, config.tolerance, levels)
    counts: dict[str, EdgeCounts] = {}
    unmade = []
    for image in images:
        found = kept.get(image) if kept is not None else None
        if found is None:
            unmade.append(image)
        else:
            counts[image.name] = found
    for image, made in _count_all(unmade, method, detect, config):
        if kept is not None:
            kept.put(image, made)
        counts[image.name] = made
        if progress is not None:
            progress(len(counts), len(images))
    ordered = [counts[image.name] for image in images]
    total = total_counts(ordered)
    return EdgeResult(
        method=method,
        num_images=len(images),
        scores=measure(ordered, levels),
        levels=levels,
        precision=tuple(total.precision.tolist()),
        recall=tuple(total.recall.tolist()),
    )


def _count_all(
    images: Sequence[BsdsImage], method: str, detect: Detector | None, config: EdgeConfig
) -> Iterator[tuple[BsdsImage, EdgeCounts]]:
    """Yield images with their counts, in their order; a model's edges are made here, all else in the workers."""
    with _workers(min(config.num_workers, len(images))) as submit:
        waiting: deque[tuple[BsdsImage, Future[EdgeCounts]]] = deque()
        for image in images:
            strength = None if detect is None else detect(read_image(image.image))
            waiting.append((image, submit(_count, image, method, strength, config.tolerance)))
            while len(waiting) > 2 * config.num_workers or (waiting and waiting[0][1].done()):
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _count(image: BsdsImage, method: str, strength: Float[np.ndarray, "h w"] | None, tolerance: float) -> EdgeCounts:
    """Match the maps of one image; without `strength` they are a baseline's. Raises DataError or ImageError."""
    humans = read_boundaries(image.truth)
    if strength is None:
        pixels = read_image(image.image)
        size, maps = pixels.shape[:2], BASELINES[method][1](pixels)
    else:
        size, maps = strength.shape, above(strength)
    if humans[0].shape != size:
        raise DataError(f"{image.truth}: has edges of {humans[0].shape} for {image.image.name}, which is {size}")
    return count_matches(maps, humans, tolerance)


@contextmanager
def _workers(count: int) -> Iterator[Callable[..., Future[EdgeCounts]]]:
    """Give what submits work: to processes, or with one, to be done at once."""
    if count <= 1:
        yield _now
        return
    # Not forked: torch's threads would not live on in the children.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=use_one_thread) as pool:
        try:
            yield pool.submit
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _now(function: Callable[..., EdgeCounts], *arguments: Any) -> Future[EdgeCounts]:
    future: Future[EdgeCounts] = Future()
    future.set_result(function(*arguments))
    return future


class _Kept:
    """Counts in files, one per image, each with what it depends on."""

    def __init__(self, output: Path, method: str, tolerance: float, levels: Sequence[float]) -> None:
        self._settings = {"version": 1, "method": method, "tolerance": tolerance, "levels": list(levels)}
        self._folder = output / "images"
        make_folder(self._folder)
        remove_abandoned(self._folder)

    def get(self, image: BsdsImage) -> EdgeCounts | None:
        """Return an image's counts, or None where there are none of these settings and files."""
        try:
            document = json.loads(self._path(image).read_text())
            if document["of"] != self._of(image):
                return None
            return EdgeCounts(**{name: np.array(document[name], np.int64) for name in EdgeCounts.__slots__})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, image: BsdsImage, counts: EdgeCounts) -> None:
        """Keep an image's counts; raises OutputError."""
        write_text_atomic(self._path(image), json.dumps({"of": self._of(image), **counts.to_dict()}) + "\n")

    def _path(self, image: BsdsImage) -> Path:
        return self._folder / f"{image.name}.json"

    def _of(self, image: BsdsImage) -> dict[str, Any]:
        return {**self._settings, "files": fingerprint(image.image, image.truth)}


def to_dict(result: EdgeResult) -> dict[str, Any]:
    """Return plain values: the four measures, then what they come from."""
    scores = result.scores
    return {
        "protocol": "edges",
        "method": result.method,
        "images": result.num_images,
        "ods": scores.ods,
        "ois": scores.ois,
        "ap": scores.ap,
        "r50": scores.r50,
        "threshold": scores.threshold,
        "levels": list(result.levels),
        "precision": list(result.precision),
        "recall": list(result.recall),
    }


def to_markdown(results: Sequence[EdgeResult]) -> str:
    """Return a table of a row each, the published rows below, and a note on what differs."""
    rows = [
        [r.method, str(r.num_images), *_cells((r.scores.ods, r.scores.ois, r.scores.ap, r.scores.r50))] for r in results
    ]
    rows += [[f"{name} (published)", "200", *_cells(row)] for name, row in PUBLISHED.items()]
    return "\n".join([table(["method", "images", "ODS", "OIS", "AP", "R50"], rows), "", NOTE]) + "\n"


def _cells(values: Sequence[float | None]) -> list[str]:
    return ["" if value is None else f"{value:.3f}" for value in values]
