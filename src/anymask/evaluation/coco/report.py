"""Results of the protocols on proposals, instances and text as JSON and Markdown, published rows beside them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from anymask.evaluation.coco.instances import InstanceResult
from anymask.evaluation.coco.proposals import RANGES, ProposalResult
from anymask.evaluation.coco.text_to_mask import TextResult
from anymask.evaluation.report import table

PUBLISHED_PROPOSALS: dict[str, dict[str, float]] = {
    "SAM ViT-H on LVIS v1": {
        **{"all": 0.593, "small": 0.455, "medium": 0.816, "large": 0.869},
        **{"frequent": 0.591, "common": 0.639, "rare": 0.658},
    },
    "ViTDet-H on LVIS v1": {"all": 0.630},
}
"""AR@1000 by range (SAM, sec. 7.3)."""

PROPOSALS_NOTE = (
    "Average recall over IoU .50 to .95, categories disregarded; by range it is that of the most masks. The published "
    "rows are of LVIS v1, on which each category's objects are annotated on some images only: other data are not "
    "comparable. As in the paper: no crops, no filters, masks ranked by the mean of predicted IoU and stability. What "
    "differs: duplicates are dropped by the IoU of boxes, the paper does not say of what; masks of another frequency "
    "than is asked for are treated as COCO treats those of another size."
)

PUBLISHED_INSTANCES: dict[str, float] = {
    "SAM ViT-H with ViTDet-H's boxes, COCO": 0.465,
    "SAM ViT-H with ViTDet-H's boxes, LVIS v1": 0.447,
    "ViTDet-H, COCO": 0.510,
    "ViTDet-H, LVIS v1": 0.466,
}
"""Mask AP (SAM, sec. 7.4)."""

INSTANCES_NOTE = (
    "Mask AP as COCO and LVIS define it. Published rows hold for ViTDet-H's boxes on these data alone: boxes of "
    "another detector bound what any masks can reach. As in the paper each box is answered once, then once more with "
    "the earlier mask, and keeps its detector's score."
)

TEXT_NOTE = (
    "Each class annotated on an image is asked about alone, by its name. IoU is that of the first mask with the object "
    "of that name that it fits best, a hit an IoU of .5, chance the hits of one who points at any annotated object; "
    "union is the IoU of all masks with all objects of the name. AP, of detectors alone: all names are asked at once, "
    "masks have the detector's scores, and of overlapping boxes the best is kept, whatever its name. SAM shows masks "
    "of words as pictures (sec. 7.5): there is no published row."
)

Results = Sequence[ProposalResult] | Sequence[InstanceResult] | Sequence[TextResult]

_SHORT = {"small": "S", "medium": "M", "large": "L", "rare": "rare", "common": "common", "frequent": "frequent"}


def proposals_to_dict(results: Sequence[ProposalResult]) -> dict[str, Any]:
    """Return plain values, keys all strings."""
    return _plain("proposals", results)


def instances_to_dict(results: Sequence[InstanceResult]) -> dict[str, Any]:
    """Return plain values, keys all strings."""
    return _plain("instances", results)


def text_to_dict(results: Sequence[TextResult]) -> dict[str, Any]:
    """Return plain values, keys all strings."""
    return _plain("text", results)


def proposals_to_markdown(results: Sequence[ProposalResult]) -> str:
    """Return a table of a row per data set, the published rows below, a note on what differs."""
    header, rows, published = proposal_rows(results)
    return "\n".join([table(header, [*rows, *published]), "", *_losses(results), PROPOSALS_NOTE]) + "\n"


def instances_to_markdown(results: Sequence[InstanceResult]) -> str:
    """Return a table of a row per data set, the published rows below, a note on what differs."""
    header, rows, published = instance_rows(results)
    return "\n".join([table(header, [*rows, *published]), "", *_losses(results), INSTANCES_NOTE]) + "\n"


def text_to_markdown(results: Sequence[TextResult]) -> str:
    """Return a table of a row per data set, and a note on what was measured."""
    return "\n".join([table(*text_rows(results)), "", *_losses(results), TEXT_NOTE]) + "\n"


Rows = tuple[list[str], list[list[str]], list[list[str]]]
"""A table's header, its rows, and the published ones."""


def proposal_rows(results: Sequence[ProposalResult]) -> Rows:
    """Return a row per data set; ranges of which nothing is annotated anywhere are left out."""
    limits = list(results[0].recall["all"])
    shown = [r for r in RANGES[1:] if any(result.recall[r][limits[-1]] is not None for result in results)]
    header = ["set", "images", "masks", *(f"AR@{limit}" for limit in limits), *(_SHORT[r] for r in shown)]
    rows = [
        [
            *(result.name, str(result.num_images), str(result.num_masks)),
            *(_cell(value) for value in result.recall["all"].values()),
            *(_cell(result.recall[r][limits[-1]]) for r in shown),
        ]
        for result in results
    ]
    published = []
    for name, row in PUBLISHED_PROPOSALS.items():
        blank = [""] * (len(limits) - 1)
        published.append([f"{name} (published)", "", "", *blank, *(_cell(row.get(r)) for r in ("all", *shown))])
    return header, rows, published


def instance_rows(results: Sequence[InstanceResult]) -> Rows:
    """Return a row per data set; figures that no set has are left out."""
    names = [field.name for field in dataclasses.fields(results[0].scores)]
    names = [n for n in names if any(getattr(r.scores, n) is not None for r in results)] or ["ap"]
    header = ["set", "images", "boxes", *(_heading(name) for name in names)]
    rows = [
        [
            *(result.name, str(result.num_images), str(result.num_boxes)),
            *(_cell(getattr(result.scores, name)) for name in names),
        ]
        for result in results
    ]
    published = [
        [f"{name} (published)", "", "", *(_cell(ap if n == "ap" else None) for n in names)]
        for name, ap in PUBLISHED_INSTANCES.items()
    ]
    return header, rows, published


def text_rows(results: Sequence[TextResult]) -> tuple[list[str], list[list[str]]]:
    """Return a header and a row per data set; AP where any of them has it."""
    precisions = ["ap", "ap50", "ap75"] if any(result.scores is not None for result in results) else []
    header = ["set", "images", "phrases", "IoU", "hits", "chance", "union", *(_heading(name) for name in precisions)]
    rows = [
        [
            *(result.name, str(result.num_images), str(result.num_phrases)),
            *(_cell(value) for value in (result.best, result.hit, result.chance, result.union)),
            *(_cell(None if result.scores is None else getattr(result.scores, name)) for name in precisions),
        ]
        for result in results
    ]
    return header, rows


def _plain(protocol: str, results: Results) -> dict[str, Any]:
    sets = [dataclasses.asdict(result) for result in results]
    plain: dict[str, Any] = json.loads(json.dumps({"protocol": protocol, "sets": sets}, allow_nan=False))
    return plain


def _losses(results: Results) -> list[str]:
    """Say what could not be used, a line per data set that had such."""
    lines = []
    for result in results:
        parts = [f"{result.num_skipped} images"] if result.num_skipped else []
        parts += [f"{count} {reason}" for reason, count in result.left_out.items()]
        if parts:
            lines += [f"{result.name}: not used: {'; '.join(parts)}.", ""]
    return lines


def _heading(name: str) -> str:
    _, _, kind = name.partition("_")
    return f"AP {_SHORT[kind]}" if kind else name.upper()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
