"""The single-point protocol: mIoU after 1, 2, 3, … clicks and for a box, over many data sets.

Source: SAM, sec. 7.1 and app. D.1: IoU a mask, averaged over the masks of a data set, then over data sets;
"oracle" takes the best of the three masks of the first click. NoC as papers on interactive segmentation do.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from anymask.data.sa1b import Skipped, TarFiles
from anymask.data.sample import Sample
from anymask.errors import AnymaskError, DataError, InputError
from anymask.evaluation.metrics import CalibrationBin, calibration, calibration_error, correlation, number_of_clicks
from anymask.evaluation.model_segmenter import ModelSegmenter
from anymask.evaluation.protocol import Outcome, Segmenter, play
from anymask.model import Sam


class ImageSet(Protocol):
    """A data set with random access, such as `TarFiles`."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def key(self, index: int) -> str:
        """Return an image's name."""
        ...

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises AnymaskError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePointConfig:
    """Which clicks are reported, up to how many are made, and on how much of the data.

    `max_images` a data set and `max_masks` an image are drawn by `seed`; the draw depends on the names of the
    set and the image alone, so that segmenters are compared on the same masks. None takes all.
    """

    clicks: tuple[int, ...] = (1, 2, 3, 5, 9, 10)
    max_clicks: int = 10
    thresholds: tuple[int, ...] = (85, 90)
    """Percent of IoU at which the number of clicks (NoC) is taken."""
    max_images: int | None = None
    max_masks: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse reports on clicks that are not made."""
        if not self.clicks or min(self.clicks) < 1 or max(self.clicks) > self.max_clicks:
            raise InputError(f"clicks are {self.clicks}; give one or more from 1 to max_clicks, {self.max_clicks}")
        for name, value in (("max_images", self.max_images), ("max_masks", self.max_masks)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give at least 1, or None for all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Means over the masks of one data set, or over data sets."""

    miou: dict[int, float]
    """By the number of clicks."""
    box: float
    oracle: float
    noc: dict[int, float]
    """Clicks needed, by the IoU to reach in percent; at most `SinglePointConfig.max_clicks`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Honesty:
    """How well predicted IoUs tell the true ones, over every mask that was returned."""

    correlation: float
    correlation_first: float
    """Over the masks of the first click alone."""
    error: float
    """Mean gap between predicted and true IoU over the bins."""
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """One data set's result; `num_skipped` images could not be used."""

    name: str
    num_images: int
    num_masks: int
    num_skipped: int
    scores: Scores
    honesty: Honesty | None
    """None for a segmenter that predicts no IoU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePointResult:
    """The result over all data sets: `mean` weighs each set the same, `honesty` each mask."""

    config: SinglePointConfig
    sets: tuple[SetResult, ...]
    mean: Scores
    honesty: Honesty | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetOutcome:
    """What came of one data set, mask by mask."""

    outcome: Outcome
    num_images: int
    num_skipped: int
    seconds: float


def open_sets(paths: Sequence[str | Path]) -> dict[str, TarFiles]:
    """Open tars of SA-1B's layout as data sets, each named by its file without "-val" or "-train"."""
    sets: dict[str, TarFiles] = {}
    for path in map(Path, paths):
        name = path.stem.removesuffix("-val").removesuffix("-train")
        if name in sets:
            raise DataError(f"two data sets are named {name!r}, the second from {path}: rename one")
        sets[name] = TarFiles([path])
    return sets


def evaluate(
    segmenter: Segmenter,
    sets: Mapping[str, ImageSet],
    config: SinglePointConfig | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> SinglePointResult:
    """Evaluate a segmenter on named data sets; `progress` hears the set, its images done and their number.

    Deterministic but for `seconds`. Raises DataError for a set of which no image can be used.
    """
    config = config or SinglePointConfig()
    outcomes = {
        name: evaluate_set(segmenter, name, images, config, progress=progress, clock=clock)
        for name, images in sets.items()
    }
    return summarise(outcomes, config)


def evaluate_set(
    segmenter: Segmenter,
    name: str,
    images: ImageSet,
    config: SinglePointConfig,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> SetOutcome:
    """Play the protocol on one data set, an image in memory at a time; what cannot be read is skipped and counted."""
    began, skipped, outcomes = clock(), Skipped(), []
    chosen = _draw(len(images), config.max_images, _generator(config.seed, name))
    for done, index in enumerate(chosen, start=1):
        key = images.key(index)
        try:
            sample = images.sample(index, max_masks=config.max_masks, rng=_generator(config.seed, key))
            truth = sample.masks[sample.masks.any(axis=(1, 2))]
            if not len(truth):
                raise DataError(f"{key}: all its masks are empty")
        except AnymaskError as error:
            skipped.add(key, error)
        else:
            outcomes.append(play(segmenter.prepare(sample.image), truth, config.max_clicks))
        if progress is not None:
            progress(name, done, len(chosen))
    if not outcomes:
        raise DataError(f"{name}: none of its {len(chosen)} images has a mask that can be evaluated")
    return SetOutcome(
        outcome=Outcome.join(outcomes),
        num_images=len(outcomes),
        num_skipped=skipped.total,
        seconds=clock() - began,
    )


def summarise(outcomes: Mapping[str, SetOutcome], config: SinglePointConfig) -> SinglePointResult:
    """Average each set's masks, then the sets."""
    if not outcomes:
        raise DataError("there is no data set to evaluate: give at least one")
    sets = tuple(
        SetResult(
            name=name,
            num_images=found.num_images,
            num_masks=len(found.outcome.box),
            num_skipped=found.num_skipped,
            scores=_scores(found.outcome, config),
            honesty=_honesty(found.outcome),
        )
        for name, found in outcomes.items()
    )
    return SinglePointResult(
        config=config,
        sets=sets,
        mean=_mean([result.scores for result in sets], config),
        honesty=_honesty(Outcome.join([found.outcome for found in outcomes.values()])),
        seconds=sum(found.seconds for found in outcomes.values()),
    )


def quick_validation(
    model: Sam,
    sets: Mapping[str, ImageSet],
    *,
    num_images: int = 6,
    num_masks: int = 8,
    seed: int = 0,
) -> dict[str, float]:
    """Score a model on a few masks of every set, the same ones each time, for use during training.

    Returns miou_1, miou_3, miou_5, box, oracle and iou_correlation.
    """
    config = SinglePointConfig(clicks=(1, 3, 5), max_clicks=5, max_images=num_images, max_masks=num_masks, seed=seed)
    result = evaluate(ModelSegmenter(model), sets, config)
    assert result.honesty is not None
    return {
        **{f"miou_{clicks}": value for clicks, value in result.mean.miou.items()},
        "box": result.mean.box,
        "oracle": result.mean.oracle,
        "iou_correlation": result.honesty.correlation,
    }


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _draw(count: int, limit: int | None, rng: np.random.Generator) -> list[int]:
    if limit is None or count <= limit:
        return list(range(count))
    return sorted(rng.choice(count, limit, replace=False).tolist())


def _scores(outcome: Outcome, config: SinglePointConfig) -> Scores:
    ious = outcome.clicks
    return Scores(
        miou={clicks: float(ious[:, clicks - 1].mean()) for clicks in config.clicks},
        box=float(outcome.box.mean()),
        oracle=float(outcome.oracle.mean()),
        noc={percent: float(number_of_clicks(ious, percent / 100).mean()) for percent in config.thresholds},
    )


def _mean(scores: Sequence[Scores], config: SinglePointConfig) -> Scores:
    return Scores(
        miou={clicks: float(np.mean([s.miou[clicks] for s in scores])) for clicks in config.clicks},
        box=float(np.mean([s.box for s in scores])),
        oracle=float(np.mean([s.oracle for s in scores])),
        noc={percent: float(np.mean([s.noc[percent] for s in scores])) for percent in config.thresholds},
    )


def _honesty(outcome: Outcome) -> Honesty | None:
    if not outcome.predicted.size:
        return None
    first = outcome.turn == 1
    bins = calibration(outcome.predicted, outcome.true)
    return Honesty(
        correlation=correlation(outcome.predicted, outcome.true),
        correlation_first=correlation(outcome.predicted[first], outcome.true[first]),
        error=calibration_error(bins),
        bins=bins,
    )
