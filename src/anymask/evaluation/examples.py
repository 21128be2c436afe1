"""Single masks to look at: those a model did best and worst on, and those on which two models differ most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.data.sample import SampleSet
from anymask.errors import AnymaskError
from anymask.evaluation.metrics import iou_with
from anymask.evaluation.protocol import PreparedImage, Request, Segmenter
from anymask.evaluation.result_log import seeded
from anymask.evaluation.single_point import SetOutcome, SinglePointConfig, draw_sample
from anymask.geometry import points

Order = Literal["best", "middle", "worst"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One mask, the first click on it, and what each segmenter made of that."""

    set_name: str
    image: UInt8[np.ndarray, "h w 3"]
    truth: Bool[np.ndarray, "h w"]
    point: tuple[int, int]
    masks: dict[str, Bool[np.ndarray, "h w"]]
    ious: dict[str, float]


def select_masks(values: Mapping[str, Float[np.ndarray, " n"]], order: Order, count: int) -> list[tuple[str, int]]:
    """Return (set, mask) of the most extreme values, from each set in turn so that all sets are seen.

    The middle is what lies nearest to the set's median. Ties go to the first.
    """
    ranked: dict[str, list[int]] = {}
    for name, numbers in values.items():
        keys = {"best": -numbers, "worst": numbers, "middle": np.abs(numbers - np.median(numbers))}
        ranked[name] = np.argsort(keys[order], kind="stable").tolist()
    chosen: list[tuple[str, int]] = []
    for turn in range(max(map(len, ranked.values()), default=0)):
        layer = [(name, found[turn]) for name, found in ranked.items() if turn < len(found)]
        sign = {"best": -1, "worst": 1, "middle": 0}[order]
        layer.sort(key=lambda place: sign * float(values[place[0]][place[1]]))
        chosen += layer
        if len(chosen) >= count:
            break
    return chosen[:count]


def first_ious(outcomes: Mapping[str, SetOutcome]) -> dict[str, Float[np.ndarray, " n"]]:
    """Return each set's IoU after one click, mask by mask."""
    return {name: found.outcome.clicks[:, 0] for name, found in outcomes.items()}


def same_masks(one: Mapping[str, SetOutcome], other: Mapping[str, SetOutcome]) -> bool:
    """Whether two segmenters were measured on the same masks of the same sets."""
    return one.keys() == other.keys() and all(np.array_equal(one[name].places, other[name].places) for name in one)


def collect_examples(
    places: Sequence[tuple[str, int]],
    sets: Mapping[str, Mapping[str, SampleSet]],
    outcomes: Mapping[str, Mapping[str, SetOutcome]],
    segmenters: Mapping[str, Callable[[], Segmenter]],
    config: SinglePointConfig,
) -> list[Example]:
    """Play the first click of some masks, at their centre, again for every segmenter; return the answers.

    `sets` and `outcomes`, of the same masks, are by segmenter, then by set: segmenters may see an image in colours of
    their own, and it is shown in the first's. A segmenter is made when its turn comes, so that one is held at a time.
    """
    examples: list[Example] = []
    for segmenter_name, make in segmenters.items():
        segmenter, played = make(), outcomes[segmenter_name]
        for number, (name, mask) in enumerate(places):
            index, place = played[name].places[mask].tolist()
            sample = draw_sample(sets[segmenter_name][name], index, config)
            if number == len(examples):
                point = points.centre(sample.masks[place])
                assert point is not None  # as `draw_sample` leaves empty masks out
                truth = sample.masks[place].copy()
                examples.append(Example(set_name=name, image=sample.image, truth=truth, point=point, masks={}, ious={}))
            example = examples[number]
            example.masks[segmenter_name] = _after_one_click(segmenter.prepare(sample.image), example.point)
            example.ious[segmenter_name] = float(played[name].outcome.clicks[mask, 0])
    return examples


def _after_one_click(image: PreparedImage, point: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    request = Request(points=np.array([point], np.float32), labels=np.ones(1, np.int64))
    (reply,) = image.segment([request])
    mask: Bool[np.ndarray, "h w"] = reply.masks[0]
    return mask


def draw_examples(
    segmenter: Segmenter, name: str, sets: Mapping[str, SampleSet], count: int, min_area: int, seed: int
) -> Iterator[Example]:
    """Yield up to `count` masks of each set, drawn by `seed`, one per image, with a segmenter's answer to one click.

    Masks of fewer than `min_area` pixels, and images that cannot be read, are left out.
    """
    for set_name, images in sets.items():
        made = 0
        for index in seeded(seed, set_name).permutation(len(images)).tolist():
            if made == count:
                break
            try:
                sample = images.sample(index)
            except AnymaskError:
                continue
            large = np.flatnonzero(sample.masks.sum(axis=(1, 2)) >= min_area)
            if not large.size:
                continue
            made += 1
            truth = sample.masks[int(seeded(seed, sample.key).choice(large))]
            point = points.centre(truth)
            assert point is not None
            mask = _after_one_click(segmenter.prepare(sample.image), point)
            iou = float(iou_with(mask[None], truth)[0])
            yield Example(
                set_name=set_name, image=sample.image, truth=truth, point=point, masks={name: mask}, ious={name: iou}
            )
