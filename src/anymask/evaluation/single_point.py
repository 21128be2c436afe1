"""The single-point protocol: mIoU after 1, 2, 3, … clicks and for a box, over many data sets.

Source: SAM, sec. 7.1 and app. D.1: IoU per mask, averaged over the masks of a data set, then over data sets; "oracle"
takes the best of the three masks of the first click. NoC as papers on interactive segmentation do.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int, UInt8

from anymask.data.sample import Sample, SampleSet, Skipped
from anymask.errors import DataError, InputError
from anymask.evaluation.metrics import (
    CalibrationBin,
    calibration,
    calibration_error,
    correlation,
    histogram,
    number_of_clicks,
)
from anymask.evaluation.protocol import PreparedImage, ProtocolResult, Reply, Request, Segmenter, run_protocol
from anymask.evaluation.result_log import ResultLog, draw_images, measured, seeded
from anymask.inference import PLAIN, Predictor, Prompt, Refinement
from anymask.inference.runtimes import AnyModel

FirstClick = Literal["centre", "random"]


SETTINGS_VERSION = 2
"""Raised when the protocol itself changes, so that earlier figures are not taken for new ones."""

NUM_HISTOGRAM_BINS = 20

BOUNDARY_CLICKS = (1, 5)
"""After which of the clicks that are reported the boundary IoU is reported too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePointConfig:
    """Which clicks are reported, up to how many are made, and on how much of the data.

    `max_images` per data set and `max_masks` per image are drawn by `seed`; the draw depends on the names of the set
    and the image alone, so that segmenters are compared on the same masks. None takes all.
    """

    clicks: tuple[int, ...] = (1, 2, 3, 5, 9, 10)
    max_clicks: int = 10
    thresholds: tuple[int, ...] = (85, 90)
    """Percent of IoU at which the number of clicks (NoC) is taken."""
    max_images: int | None = None
    max_masks: int | None = None
    seed: int = 0
    first: FirstClick = "centre"
    """Whether the first click is the mask's most central pixel or one drawn by `seed`; later ones are central."""

    def __post_init__(self) -> None:
        """Refuse reports on clicks that are not made."""
        if self.first not in get_args(FirstClick):
            raise InputError(f"the first click is {self.first!r}; it may be {' or '.join(get_args(FirstClick))}")
        if not self.clicks or min(self.clicks) < 1 or max(self.clicks) > self.max_clicks:
            raise InputError(f"clicks are {self.clicks}; give one or more from 1 to max_clicks, {self.max_clicks}")
        for name, value in (("max_images", self.max_images), ("max_masks", self.max_masks)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give at least 1, or None for all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Means over the masks of one data set, or over data sets."""

    miou: dict[int, float]
    """Mean IoU, by the number of clicks."""
    boundary: dict[int, float]
    """Mean boundary IoU, by the number of clicks."""
    box: float
    oracle: float
    noc: dict[int, float]
    """Clicks needed, by the IoU to reach in percent; at most `SinglePointConfig.max_clicks`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
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
    histogram: tuple[int, ...]
    """Masks by the IoU after one click, in bins of equal width over [0, 1]."""
    calibration: Calibration | None
    """None for a segmenter that predicts no IoU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePointResult:
    """The result over all data sets: `mean` weighs each set the same, `calibration` each mask."""

    config: SinglePointConfig
    sets: tuple[SetResult, ...]
    mean: Scores
    calibration: Calibration | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetOutcome:
    """The outcome on one data set, mask by mask."""

    outcome: ProtocolResult
    places: Int[np.ndarray, "n 2"]
    """Of each mask, its image in the set and its number among that image's masks, as `draw_sample` gives them."""
    num_images: int
    num_skipped: int
    seconds: float


def evaluate(
    segmenter: Segmenter,
    sets: Mapping[str, SampleSet],
    config: SinglePointConfig | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> SinglePointResult:
    """Evaluate a segmenter on named data sets; `progress` is called with the set, the images done and their number.

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
    images: SampleSet,
    config: SinglePointConfig,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    result_log: ResultLog | None = None,
) -> SetOutcome:
    """Play the protocol on one data set, an image in memory at a time; what cannot be read is skipped and counted.

    Images that a journal (see `settings`) has are not played again; `seconds` are those of this run. Of each mask some
    thirty numbers are kept. Raises DataError where no image can be used.
    """
    began, skipped = clock(), Skipped()
    chosen = draw_images(len(images), config.max_images, seeded(config.seed, name))

    def measure(index: int) -> dict[str, list[Any]]:
        return _play(segmenter, draw_sample(images, index, config), config).to_dict()

    records = measured(name, images, chosen, measure, skipped, progress=progress, result_log=result_log)
    outcomes = {index: ProtocolResult.from_dict(record) for index, record in records}
    places = [(index, number) for index, outcome in outcomes.items() for number in range(len(outcome.box))]
    return SetOutcome(
        outcome=ProtocolResult.join(list(outcomes.values())),
        places=np.array(places, np.int64),
        num_images=len(outcomes),
        num_skipped=skipped.total,
        seconds=clock() - began,
    )


def draw_sample(images: SampleSet, index: int, config: SinglePointConfig) -> Sample:
    """Read an image with the masks that a config draws of it, none of them empty; raises AnymaskError."""
    key = images.key(index)
    sample = images.sample(index, max_masks=config.max_masks, rng=seeded(config.seed, key))
    kept = sample.masks.any(axis=(1, 2))
    if not kept.any():
        raise DataError(f"{key}: all its masks are empty")
    return Sample(key=key, image=sample.image, masks=sample.masks[kept])


def settings(segmenter: str, images: SampleSet, config: SinglePointConfig) -> dict[str, Any]:
    """Return what an image's outcome depends on, for a journal; `segmenter` must name weights, not just a model."""
    values = {"protocol": "single-point", "protocol_version": SETTINGS_VERSION, "segmenter": segmenter}
    return {**values, "images": images.fingerprint(), "config": dataclasses.asdict(config)}


def _play(segmenter: Segmenter, sample: Sample, config: SinglePointConfig) -> ProtocolResult:
    rng = seeded(config.seed, f"first click on {sample.key}") if config.first == "random" else None
    return run_protocol(segmenter.prepare(sample.image), sample.masks, config.max_clicks, rng=rng)


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
            histogram=histogram(found.outcome.clicks[:, 0], NUM_HISTOGRAM_BINS),
            calibration=_calibration(found.outcome),
        )
        for name, found in outcomes.items()
    )
    return SinglePointResult(
        config=config,
        sets=sets,
        mean=_mean([result.scores for result in sets], config),
        calibration=_calibration(ProtocolResult.join([found.outcome for found in outcomes.values()])),
        seconds=sum(found.seconds for found in outcomes.values()),
    )


def quick_validation(
    model: AnyModel,
    sets: Mapping[str, SampleSet],
    *,
    num_images: int = 6,
    num_masks: int = 8,
    seed: int = 0,
) -> dict[str, float]:
    """Score a model's plain answers on a few masks of every set, the same ones each time, for use during training.

    Returns miou_1, miou_3, miou_5, box, oracle and iou_correlation.
    """
    config = SinglePointConfig(clicks=(1, 3, 5), max_clicks=5, max_images=num_images, max_masks=num_masks, seed=seed)
    result = evaluate(ModelSegmenter(model, refinement=PLAIN), sets, config)
    assert result.calibration is not None
    return {
        **{f"miou_{clicks}": value for clicks, value in result.mean.miou.items()},
        "box": result.mean.box,
        "oracle": result.mean.oracle,
        "iou_correlation": result.calibration.correlation,
    }


def _scores(outcome: ProtocolResult, config: SinglePointConfig) -> Scores:
    ious = outcome.clicks
    return Scores(
        miou={clicks: float(ious[:, clicks - 1].mean()) for clicks in config.clicks},
        boundary={
            clicks: float(outcome.boundary[:, clicks - 1].mean())
            for clicks in BOUNDARY_CLICKS
            if clicks in config.clicks
        },
        box=float(outcome.box.mean()),
        oracle=float(outcome.oracle.mean()),
        noc={percent: float(number_of_clicks(ious, percent / 100).mean()) for percent in config.thresholds},
    )


def _mean(scores: Sequence[Scores], config: SinglePointConfig) -> Scores:
    return Scores(
        miou={clicks: float(np.mean([s.miou[clicks] for s in scores])) for clicks in config.clicks},
        boundary={clicks: float(np.mean([s.boundary[clicks] for s in scores])) for clicks in scores[0].boundary},
        box=float(np.mean([s.box for s in scores])),
        oracle=float(np.mean([s.oracle for s in scores])),
        noc={percent: float(np.mean([s.noc[percent] for s in scores])) for percent in config.thresholds},
    )


def _calibration(outcome: ProtocolResult) -> Calibration | None:
    if not outcome.predicted.size:
        return None
    first = outcome.turn == 1
    bins = calibration(outcome.predicted, outcome.true)
    return Calibration(
        correlation=correlation(outcome.predicted, outcome.true),
        correlation_first=correlation(outcome.predicted[first], outcome.true[first]),
        error=calibration_error(bins),
        bins=bins,
    )


_PROMPTS_AT_ONCE = 8
"""More prompts per call make the decoder slower per prompt on a CPU, as its activations then leave the caches."""


class ModelSegmenter:
    """A model as a segmenter: the best mask's logits go back with every further click.

    The first click gets three masks, ranked by predicted IoU; everything else one (SAM, sec. 3). `refinement` is that
    of `Predictor`, and by default what people get.
    """

    def __init__(self, model: AnyModel, *, refinement: Refinement | None = None) -> None:
        self.model = model
        self.refinement = refinement or Refinement()

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> PreparedImage:
        """Encode the image."""
        predictor = Predictor(self.model, refinement=self.refinement)
        predictor.set_image(image)
        return EncodedForPrompts(predictor)


class EncodedForPrompts:
    """A predictor whose image is set, as a `PreparedImage`."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def segment(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer in batches of a few prompts, one full-size answer held at a time."""
        prompts = [
            Prompt(points=r.points, labels=r.labels, mask=_logits(r.memory)) if r.box is None else Prompt(box=r.box)
            for r in requests
        ]
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
            for answer in self._predictor.iterate(prompts[start : start + _PROMPTS_AT_ONCE]):
                yield Reply(masks=answer.masks, scores=answer.scores, memory=answer.logits[0])


def _logits(memory: object) -> Float[np.ndarray, "h w"] | None:
    assert memory is None or isinstance(memory, np.ndarray)
    return memory
