"""The report of several models on all protocols: a page to look at, and the same figures as JSON and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anymask.evaluation import report
from anymask.evaluation.coco import report as coco_report
from anymask.evaluation.coco.instances import InstanceResult
from anymask.evaluation.coco.proposals import ProposalResult
from anymask.evaluation.edges import protocol as edge_protocol
from anymask.evaluation.edges.protocol import EdgeResult
from anymask.evaluation.page import Page
from anymask.evaluation.single_point import Scores, SinglePointResult

Pictures = Sequence[tuple[bytes, str]]
"""PNG or JPEG files with captions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FullReport:
    """What was measured, by model; a protocol that was not run is empty."""

    facts: Sequence[tuple[str, str]]
    """Names and values for the top of the page: date, weights, data."""
    single_point: Mapping[str, SinglePointResult]
    proposals: Mapping[str, Sequence[ProposalResult]] = field(default_factory=dict)
    instances: Mapping[str, InstanceResult] = field(default_factory=dict)
    edges: Mapping[str, EdgeResult] = field(default_factory=dict)
    plots: Pictures = ()
    examples: Mapping[str, Pictures] = field(default_factory=dict)
    """Pictures of single masks, by the heading over them."""


def to_dict(found: FullReport) -> dict[str, Any]:
    """Return all figures as plain values."""
    return {
        "facts": dict(found.facts),
        "single_point": {name: report.to_dict(result) for name, result in found.single_point.items()},
        "proposals": {name: coco_report.proposals_to_dict(part) for name, part in found.proposals.items()},
        "instances": {name: coco_report.instances_to_dict([part]) for name, part in found.instances.items()},
        "edges": {name: edge_protocol.to_dict(part) for name, part in found.edges.items()},
    }


def to_markdown(found: FullReport) -> str:
    """Return the facts and every table."""
    parts = ["# Evaluation", "\n".join(f"- {name}: {value}" for name, value in found.facts)]
    parts += ["## Clicks and boxes", report.table(*_means(found.single_point)), report.NOTE]
    for name, result in found.single_point.items():
        parts += [f"### {name}, by data set", report.to_markdown(result).split("\n\nThe published row")[0]]
    for name, proposals in found.proposals.items():
        parts += [f"## Proposals: {name}", coco_report.proposals_to_markdown(proposals).strip()]
    for name, instances in found.instances.items():
        parts += [f"## Instances: {name}", coco_report.instances_to_markdown([instances]).strip()]
    if found.edges:
        parts += ["## Edges", edge_protocol.to_markdown(list(found.edges.values())).strip()]
    return "\n\n".join(parts) + "\n"


def to_html(found: FullReport) -> str:
    """Return the page."""
    page = Page("Evaluation of " + " and ".join(found.single_point))
    page.facts(found.facts)
    _single_point(page, found)
    for heading, pictures in found.examples.items():
        page.heading(heading, level=3).pictures(pictures, layout="cases")
    if found.proposals:
        _proposals(page, found.proposals)
    if found.instances:
        _instances(page, found.instances)
    if found.edges:
        _edges(page, found.edges)
    return page.html()


def _single_point(page: Page, found: FullReport) -> None:
    header, rows = _means(found.single_point)
    count = len(found.single_point)
    page.heading("Clicks and boxes").text(
        "Mean IoU of the mask that the model itself ranks first, after clicks where a patient annotator would make "
        "them, and for the true box alone; averaged over each data set's masks, then over data sets."
    )
    page.table(header, rows, marked=range(count), soft=range(count, len(rows))).text(report.NOTE, is_note=True)
    page.pictures(found.plots)
    page.heading("By data set", level=3)
    for title, value in _COLUMNS:
        page.text(title).table(*_by_set(found.single_point, value), marked=[len(_sets(found.single_point))])
    honest = {name: result.calibration for name, result in found.single_point.items() if result.calibration is not None}
    if honest:
        page.heading("Predicted against true IoU", level=3).table(
            ["model", "correlation", "first click", "mean gap"],
            [
                [name, *(f"{v:.3f}" for v in (h.correlation, h.correlation_first, h.error))]
                for name, h in honest.items()
            ],
        )


_COLUMNS: tuple[tuple[str, Callable[[Scores], float]], ...] = (
    ("One click", lambda scores: scores.miou[1]),
    ("Box", lambda scores: scores.box),
)


def _sets(results: Mapping[str, SinglePointResult]) -> list[str]:
    return [found.name for found in next(iter(results.values())).sets]


def _by_set(
    results: Mapping[str, SinglePointResult], value: Callable[[Scores], float]
) -> tuple[list[str], list[list[str]]]:
    """Return a table of data sets by models."""
    first = next(iter(results.values()))
    rows = [
        [found.name, str(found.num_images), str(found.num_masks)]
        + [f"{value(result.sets[index].scores):.3f}" for result in results.values()]
        for index, found in enumerate(first.sets)
    ]
    totals = [str(sum(found.num_images for found in first.sets)), str(sum(found.num_masks for found in first.sets))]
    rows.append(["mean of sets", *totals, *(f"{value(result.mean):.3f}" for result in results.values())])
    return ["set", "images", "masks", *results], rows


def _means(results: Mapping[str, SinglePointResult]) -> tuple[list[str], list[list[str]]]:
    """Return a table of models by figures, the published rows last."""
    first = next(iter(results.values()))
    config, edges = first.config, first.mean.boundary
    clicks = [f"{n} click{'s' if n > 1 else ''}" for n in config.clicks]
    header = ["model", *clicks, "box", "oracle", *(f"NoC@{percent}" for percent in config.thresholds)]
    header += [f"boundary@{n}" for n in edges]
    rows = [
        [
            name,
            *(f"{value:.3f}" for value in (*result.mean.miou.values(), result.mean.box, result.mean.oracle)),
            *(f"{value:.2f}" for value in result.mean.noc.values()),
            *(f"{value:.3f}" for value in result.mean.boundary.values()),
        ]
        for name, result in results.items()
    ]
    blank = [""] * (2 + len(config.thresholds) + len(edges))
    for name, row in report.PUBLISHED.items():
        rows.append([f"{name} (published)", *(f"{row[n]:.3f}" if n in row else "" for n in config.clicks), *blank])
    return header, rows


def _proposals(page: Page, results: Mapping[str, Sequence[ProposalResult]]) -> None:
    page.heading("Proposals")
    for name, found in results.items():
        header, rows, published = coco_report.proposal_rows(found)
        page.heading(name, level=3).table(
            header, [*rows, *published], soft=range(len(rows), len(rows) + len(published))
        )
    page.text(coco_report.PROPOSALS_NOTE, is_note=True)


def _instances(page: Page, results: Mapping[str, InstanceResult]) -> None:
    page.heading("Instances")
    for name, found in results.items():
        header, rows, published = coco_report.instance_rows([found])
        page.heading(name, level=3).table(
            header, [*rows, *published], soft=range(len(rows), len(rows) + len(published))
        )
    page.text(coco_report.INSTANCES_NOTE, is_note=True)


def _edges(page: Page, results: Mapping[str, EdgeResult]) -> None:
    rows = [
        [name, str(r.num_images), *(f"{v:.3f}" for v in (r.scores.ods, r.scores.ois, r.scores.ap, r.scores.r50))]
        for name, r in results.items()
    ]
    published = [
        [f"{name} (published)", "200", *("" if v is None else f"{v:.3f}" for v in row)]
        for name, row in edge_protocol.PUBLISHED.items()
    ]
    header = ["method", "images", "ODS", "OIS", "AP", "R50"]
    _with_published(page.heading("Edges"), header, rows, published)
    page.text(edge_protocol.NOTE, is_note=True)


def _with_published(page: Page, header: list[str], rows: list[list[str]], published: list[list[str]]) -> None:
    page.table(header, [*rows, *published], soft=range(len(rows), len(rows) + len(published)))
