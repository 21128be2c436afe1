"""What a tuned model can do, before and after, on the new data and on data from before: the retention report.

A model tuned on one kind of prompt may lose the others unnoticed: masks of everything come out empty where predicted
IoUs have sunk. So each kind is measured: one point, three points, a box, a mask, and everything.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from anymask.data.sample import Sample, SampleSet
from anymask.errors import AnymaskError
from anymask.evaluation.metrics import iou_with
from anymask.evaluation.report import table, write_report
from anymask.evaluation.result_log import draw_images, seeded
from anymask.evaluation.single_point import ModelSegmenter, SinglePointConfig, evaluate_set
from anymask.geometry import rle
from anymask.inference import AutomaticMasks, AutomaticOptions, Predictor, Prompt
from anymask.model import Sam
from anymask.task.degraded import degrade_masks

FOUND_AT = 0.5
"""IoU from which a mask of everything counts as having found a true one."""
ALLOWED = 0.01
"""A figure may fall by this much before the report says so."""
_PROMPTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """On how much of each set a model is measured, and how its masks of everything are made.

    Images of a set and masks of an image are drawn by `seed`, the same for each model; everything is compared with
    all of an image's masks.
    """

    max_images: int = 6
    max_masks: int = 12
    points_per_side: int = 16
    """Points per side of the grid for masks of everything: more find smaller things, and take longer."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """What a model reached on one set: mean IoU by the kind of prompt, and what it found without any."""

    point_1: float
    point_3: float
    box: float
    mask: float
    """After a spoilt copy of the true mask: shifted, coarse, with holes and islands."""
    everything: float
    """Share of the true masks of which masks of everything have one with an IoU of 0.5."""
    count: float
    """Mean number of masks of everything per image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """One set, before and after."""

    name: str
    is_new: bool
    num_images: int
    num_masks: int
    """Number of masks that were asked for by prompts."""
    before: Skill
    after: Skill


KINDS = {
    "point_1": "1 point",
    "point_3": "3 points",
    "box": "box",
    "mask": "mask",
    "everything": "everything",
}
"""Figures from 0 to 1, by their names in the report."""


def measure(
    before: Sam,
    after: Sam,
    new: Mapping[str, SampleSet],
    old: Mapping[str, SampleSet],
    config: RetentionConfig | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Retained]:
    """Measure two models on the same masks of every set, new ones first; `progress` is called after each set.

    Raises DataError for a set of which no image can be used.
    """
    config = config or RetentionConfig()
    rows: list[Retained] = []
    sets = [*((name, files, True) for name, files in new.items()), *((n, files, False) for n, files in old.items())]
    for done, (name, files, is_new) in enumerate(sets, start=1):
        (first, counts), (second, _) = (skill_on(model, name, files, config) for model in (before, after))
        rows.append(
            Retained(name=name, is_new=is_new, num_images=counts[0], num_masks=counts[1], before=first, after=second)
        )
        if progress is not None:
            progress(name, done, len(sets))
    return rows


def skill_on(model: Sam, name: str, files: SampleSet, config: RetentionConfig) -> tuple[Skill, tuple[int, int]]:
    """Measure one model on one set; the counts are those of images and of masks that were asked for."""
    protocol = SinglePointConfig(
        clicks=(1, 3), max_clicks=3, max_images=config.max_images, max_masks=config.max_masks, seed=config.seed
    )
    played = evaluate_set(ModelSegmenter(model), name, files, protocol)
    options = AutomaticOptions(points_per_side=config.points_per_side, adaptive=config.points_per_side >= 16)
    generator = AutomaticMasks(model, options)
    ious: list[float] = []
    found = total = masks = images = 0
    for sample in _drawn(name, files, config):
        ious += _mask_prompts(model, sample, config)
        records = [record.rle for record in generator.generate(sample.image)]
        truth = rle.encode_many(sample.masks[sample.masks.any(axis=(1, 2))])
        if records and truth:
            found += int((rle.pairwise_iou(truth, records).max(1) >= FOUND_AT).sum())
        total, masks, images = total + len(truth), masks + len(records), images + 1
    clicks = played.outcome.clicks
    skill = Skill(
        point_1=float(clicks[:, 0].mean()),
        point_3=float(clicks[:, 2].mean()),
        box=float(played.outcome.box.mean()),
        mask=float(np.mean(ious)) if ious else 0.0,
        everything=found / max(total, 1),
        count=masks / max(images, 1),
    )
    return skill, (played.num_images, len(clicks))


def _drawn(name: str, files: SampleSet, config: RetentionConfig) -> Iterator[Sample]:
    """Yield the images that `evaluate_set` draws, with all of their masks; those that cannot be read are left out."""
    for index in draw_images(len(files), config.max_images, seeded(config.seed, name)):
        try:
            yield files.sample(index)
        except AnymaskError:
            continue


def _mask_prompts(model: Sam, sample: Sample, config: RetentionConfig) -> list[float]:
    """Return the IoU of the answer to each of some masks, spoilt, alone; the same for every model."""
    seed = zlib.crc32(f"{config.seed} {sample.key}".encode())
    usable = np.flatnonzero(sample.masks.any(axis=(1, 2)))
    chosen = np.random.default_rng(seed).permutation(usable)[: config.max_masks]
    truth = sample.masks[chosen]
    spoilt = spoil(truth, seed)
    asked = [index for index in range(len(truth)) if spoilt[index].any()]
    predictor = Predictor(model)
    predictor.set_image(sample.image)
    ious: list[float] = []
    for start in range(0, len(asked), _PROMPTS_AT_ONCE):
        some = asked[start : start + _PROMPTS_AT_ONCE]
        answers = predictor.iterate([Prompt(mask=spoilt[index]) for index in some])
        ious += [float(iou_with(a.masks[:1], truth[i])[0]) for i, a in zip(some, answers, strict=True)]
    return ious


def spoil(masks: Bool[np.ndarray, "n h w"], seed: int) -> Bool[np.ndarray, "n h w"]:
    """Return masks as a hasty user's or another model's would be (`anymask.task.degraded`).

    One after the other: each takes some ten float32 squares of the image's long side.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = masks.shape[1:]
    spoilt = np.empty_like(masks)
    for mask, result in zip(masks, spoilt, strict=True):
        square = torch.zeros(1, 1, max(height, width), max(height, width), dtype=torch.bool)
        square[0, 0, :height, :width] = torch.from_numpy(mask)
        result[:] = (degrade_masks(square, generator=generator)[0, 0, :height, :width] > 0).numpy()
    return spoilt


def remarks(rows: Sequence[Retained]) -> list[str]:
    """Say what fell by more than `ALLOWED`, and where masks of everything have become half as many or fewer."""
    said: list[str] = []
    for row in rows:
        for key, name in KINDS.items():
            was, now = getattr(row.before, key), getattr(row.after, key)
            if now < was - ALLOWED:
                said.append(f"{row.name}: {name} fell from {was:.3f} to {now:.3f}.")
        if row.before.count and row.after.count <= row.before.count / 2:
            said.append(
                f"{row.name}: masks of everything fell from {row.before.count:.1f} to {row.after.count:.1f} an image; "
                "lower the thresholds (--pred-iou-thresh, --stability-score-thresh), or tune with a smaller rate."
            )
    return said


def mean_of(rows: Sequence[Retained], key: str) -> tuple[float, float]:
    """Return the mean of a figure over sets, before and after; each set weighs the same."""
    return tuple(float(np.mean([getattr(getattr(row, when), key) for row in rows])) for when in ("before", "after"))  # type: ignore[return-value]


def to_markdown(rows: Sequence[Retained], notes: Sequence[str] = ()) -> str:
    """Return the report: the notes, a table before → after, and remarks on what was lost."""
    header = ["set", "images", "masks", *KINDS.values(), "masks per image"]
    lines = [
        [f"{row.name} (new)" if row.is_new else row.name, str(row.num_images), str(row.num_masks), *_cells([row])]
        for row in rows
    ]
    for title, part in (("new", [r for r in rows if r.is_new]), ("before", [r for r in rows if not r.is_new])):
        if len(part) > 1:
            totals = [str(sum(r.num_images for r in part)), str(sum(r.num_masks for r in part))]
            lines.append([f"**mean, {title}**", *totals, *_cells(part)])
    said = remarks(rows) or ["Nothing fell by more than 0.01."]
    return "\n".join(
        [
            "# Retention report",
            "",
            *(f"{note}\n" for note in notes),
            table(header, lines),
            "",
            "Before → after. Points, box and mask: mean IoU. Everything: share of true masks found at an IoU of 0.5.",
            "",
            *(f"- {line}" for line in said),
            "",
        ]
    )


def to_dict(rows: Sequence[Retained], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return plain values, as they come back from JSON."""
    return {"sets": [dataclasses.asdict(row) for row in rows], "notes": list(notes), "remarks": remarks(rows)}


def write(rows: Sequence[Retained], stem: Path, notes: Sequence[str] = ()) -> list[Path]:
    """Write <stem>.md and <stem>.json; raises OutputError."""
    return write_report(stem.parent, stem.name, to_dict(rows, notes), to_markdown(rows, notes))


def _cells(rows: Sequence[Retained]) -> list[str]:
    shares = ["{:.3f} → {:.3f}".format(*mean_of(rows, key)) for key in KINDS]
    return [*shares, "{:.1f} → {:.1f}".format(*mean_of(rows, "count"))]


def own_masks(model: Sam, images: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> list[Sample]:
    """Return images with the model's own masks of everything for truth: what changes on them is reported as a loss.

    Images in which it finds nothing are left out.
    """
    generator = AutomaticMasks(model, AutomaticOptions.preset("fast"))
    samples: list[Sample] = []
    for key, image in images.items():
        records = generator.generate(image)
        if records:
            masks = np.stack([rle.decode(record.rle) for record in records])
            samples.append(Sample(key=key, image=image, masks=masks))
    return samples
