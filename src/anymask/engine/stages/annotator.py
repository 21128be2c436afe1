"""A simulated annotator: clicks as the evaluation protocol does, then paints with the brush what is still wrong.

Time is modelled, not measured. *Decision:* the paper gives 34 s for a mask at the beginning of the first stage and
14 s at its end (SAM, sec. 4); here a mask takes a while to be found, each click and each stroke of the brush its own
time, so that a mask painted by hand takes about the former, and one that a good model needs two clicks for, less
than the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool

from anymask.data.open import open_data
from anymask.data.sample import AnnotatedSet
from anymask.engine.store import StoredImage
from anymask.errors import DataError
from anymask.evaluation.protocol import PreparedImage, Request
from anymask.geometry import masks, points, regions


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatorModel:
    """How long an annotator takes for what, and when it is content."""

    find_seconds: float = 4.0
    """Seconds to choose the next object."""
    look_seconds: float = 1.5
    """Seconds to see whether a mask that is there already is right."""
    scan_seconds: float = 0.0
    """To see, at the end, that no object of an image is missing."""
    click_seconds: float = 1.5
    stroke_seconds: float = 1.5
    """Seconds to set the brush down; painting comes on top."""
    stroke_share: float = 0.1
    """Of the image's long side, painted in a second, as the side of a square of what is painted."""
    good_iou: float = 0.9
    """IoU with the truth at which clicking stops."""
    max_clicks: int = 8
    gain: float = 0.03
    """Clicking also stops where the last two clicks together have brought less."""
    keep_iou: float = 0.75
    """A mask that is worse than this when the time is over is thrown away."""
    visible: float = 1e-4
    """Errors of a smaller share of the image's area are not seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A mask as the annotator left it."""

    mask: Bool[np.ndarray, "h w"]
    iou: float
    """IoU with the truth."""
    predicted_iou: float | None
    """The model's own, of the mask before it was painted over."""
    seconds: float
    clicks: tuple[tuple[int, int, int], ...] = ()
    """Clicks as (x, y, label), in their order."""
    strokes: int = 0


class SimulatedAnnotator:
    """Draws the objects of an image whose true masks it knows. Raises InputError for an empty true mask."""

    def __init__(self, behaviour: AnnotatorModel | None = None, *, mask_seconds: float = 30.0) -> None:
        self.behaviour = behaviour or AnnotatorModel()
        self.mask_seconds = mask_seconds or np.inf

    def draw(self, image: PreparedImage, truth: Bool[np.ndarray, "h w"]) -> Drawn:
        """Draw an object: click until it is good or clicks bring nothing, then paint until it is right or time is up.

        The best mask of all clicks is painted on; an empty one, if even that is better.
        """
        behaviour = self.behaviour
        seconds = behaviour.find_seconds
        best = np.zeros_like(truth)
        best_iou, predicted, memory = 0.0, None, None
        clicks: list[tuple[int, int, int]] = []
        history = [0.0]
        shown = best
        while len(clicks) < behaviour.max_clicks and seconds + behaviour.click_seconds <= self.mask_seconds:
            correction = points.next_click(shown, truth)
            if correction is None:
                break
            (x, y), label = correction
            clicks.append((x, y, label))
            seconds += behaviour.click_seconds
            reply = next(iter(image.segment([_request(clicks, memory)])))
            shown, memory = reply.masks[0], reply.memory
            iou = float(masks.pair_iou(shown, truth))
            history.append(iou)
            if iou > best_iou:
                best, best_iou = shown, iou
                predicted = None if reply.scores is None else float(reply.scores[0])
            if best_iou >= behaviour.good_iou or (len(history) > 2 and history[-1] - history[-3] < behaviour.gain):
                break
        painted, strokes, seconds = self._paint(best, truth, seconds)
        return Drawn(
            mask=painted,
            iou=float(masks.pair_iou(painted, truth)),
            predicted_iou=predicted,
            seconds=seconds,
            clicks=tuple(clicks),
            strokes=strokes,
        )

    def repair(self, mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> Drawn:
        """Paint what is wrong with a mask that is there already."""
        painted, strokes, seconds = self._paint(mask, truth, self.behaviour.look_seconds)
        iou = float(masks.pair_iou(painted, truth))
        return Drawn(mask=painted, iou=iou, predicted_iou=None, seconds=seconds, strokes=strokes)

    def _paint(
        self, mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], seconds: float
    ) -> tuple[Bool[np.ndarray, "h w"], int, float]:
        """Correct one region of the error after the other, the largest first, while there is time."""
        behaviour, painted, strokes = self.behaviour, mask.copy(), 0
        labels, areas = regions.components(mask ^ truth)
        speed = behaviour.stroke_share * max(truth.shape)
        for index in np.argsort(-areas, kind="stable").tolist():
            takes = behaviour.stroke_seconds + float(areas[index]) ** 0.5 / speed
            if areas[index] < behaviour.visible * truth.size or seconds + takes > self.mask_seconds:
                break
            region = labels == index + 1
            painted[region] = truth[region]
            strokes += 1
            seconds += takes
        return painted, strokes, seconds


def _request(clicks: list[tuple[int, int, int]], memory: object) -> Request:
    return Request(
        points=np.array([(x, y) for x, y, _ in clicks], np.float32),
        labels=np.array([label for _, _, label in clicks], np.int64),
        memory=memory,
    )


class Truth:
    """True masks of images, in data of any kind (`anymask.data.open.open_data`).

    An image is known by its file's name, without folder and suffix. Raises DataError where two have one name.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._places: dict[str, tuple[AnnotatedSet, int]] = {}
        for each in map(open_data, paths):
            for index in range(len(each)):
                name = PurePosixPath(each.key(index)).stem
                if name in self._places:
                    raise DataError(f"two images of the true masks are called {name}: rename one")
                self._places[name] = (each, index)

    def __contains__(self, image: StoredImage) -> bool:
        """Whether the image's true masks are known."""
        return PurePosixPath(image.name).stem in self._places

    def masks(self, image: StoredImage) -> Bool[np.ndarray, "m h w"]:
        """Return an image's true masks, the largest first, which stand for the most prominent; raises DataError."""
        name = PurePosixPath(image.name).stem
        if name not in self._places:
            raise DataError(f"{image.name}: its true masks are not known; name the tar or folder that has them")
        files, index = self._places[name]
        found = files.sample(index).masks
        if found.shape[1:] != image.size:
            raise DataError(f"{image.name}: its true masks are of another size than the image")
        areas = found.sum((1, 2))
        order = [i for i in np.argsort(-areas, kind="stable").tolist() if areas[i]]
        return np.asarray(found[order])
