"""Results as JSON for machines and Markdown for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymask.data.files import make_folder, write_text_atomic
from anymask.evaluation.single_point import Scores, SetResult, SinglePointResult

PUBLISHED: dict[str, dict[int, float]] = {"SAM ViT-H": {1: 0.581, 5: 0.813}}
"""mIoU by the number of clicks, averaged over SAM's 23 data sets, as SAM 2 (its table of zero-shot accuracy) has it."""

NOTE = (
    "The published row is of 23 public data sets, none of which need be among these: it says what a large model "
    "reaches on average, not what it would reach here. SAM itself draws this mean as a curve (sec. 7.1). As there, "
    "each mask counts once within its set, each set once in the mean, and the best of three masks is taken by "
    "predicted IoU; “oracle” takes it by the truth. What differs: an image's masks are all of those annotated unless "
    "a limit is given; the error region of a later click is the missing or the surplus pixels, whichever lie deeper."
)


def to_dict(result: SinglePointResult) -> dict[str, Any]:
    """Return plain values, keys all strings, as they come back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))
    return plain


def to_markdown(result: SinglePointResult) -> str:
    """Return a table of one row per data set and one for the mean, then what predicted IoUs are worth."""
    config = result.config
    header = [
        *("set", "images", "masks"),
        *(f"{n} click{'s' if n > 1 else ''}" for n in config.clicks),
        *("box", "oracle", *(f"NoC@{percent}" for percent in config.thresholds)),
        *(f"boundary@{n}" for n in result.mean.boundary),
    ]
    rows = [[r.name, str(r.num_images), str(r.num_masks), *_cells(r.scores)] for r in result.sets]
    rows.append(["**mean**", _total(result.sets, "num_images"), _total(result.sets, "num_masks"), *_cells(result.mean)])
    rows += [[f"{name} (published)", "", "", *_published(row, result)] for name, row in PUBLISHED.items()]
    how = {"centre": "the mask's most central pixel", "random": "a random pixel of the mask"}[config.first]
    lines = [table(header, rows), "", f"mIoU; NoC of at most {config.max_clicks} clicks. The first click is {how}."]
    lines += ["Boundary IoU in a band of 2 % of the image's diagonal."] if result.mean.boundary else []
    skipped = sum(r.num_skipped for r in result.sets)
    if skipped:
        lines.append(f"{skipped} images could not be used.")
    if result.calibration is not None:
        calibration = result.calibration
        lines += [
            "",
            f"Predicted against true IoU: correlation {calibration.correlation:.3f} over all returned masks, "
            f"{calibration.correlation_first:.3f} over those of the first click; mean gap {calibration.error:.3f}.",
            "",
            table(
                ["predicted IoU", "masks", "mean predicted", "mean true"],
                [
                    [f"{b.low:.1f}–{b.high:.1f}", str(b.count), f"{b.predicted:.3f}", f"{b.true:.3f}"]
                    for b in calibration.bins
                ],
            ),
        ]
    return "\n".join([*lines, "", NOTE]) + "\n"


def write(result: SinglePointResult, folder: str | Path, stem: str = "single_point") -> None:
    """Write <stem>.json and <stem>.md into a folder, made if need be; raises OutputError."""
    write_report(folder, stem, to_dict(result), to_markdown(result))


def write_report(folder: str | Path, stem: str, values: Mapping[str, Any], text: str) -> list[Path]:
    """Write values as <stem>.json and a text as <stem>.md into a folder, made if need be; raises OutputError."""
    target = make_folder(folder)
    paths = [target / f"{stem}.md", target / f"{stem}.json"]
    write_text_atomic(paths[0], text)
    write_text_atomic(paths[1], json.dumps(values, indent=2, allow_nan=False) + "\n")
    return paths


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, first column left and the others right, aligned as plain text too."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        + " |"
        for row in [header, rule, *rows]
    )


def _cells(scores: Scores) -> list[str]:
    shares = [*scores.miou.values(), scores.box, scores.oracle]
    return [
        *(f"{value:.3f}" for value in shares),
        *(f"{value:.2f}" for value in scores.noc.values()),
        *(f"{value:.3f}" for value in scores.boundary.values()),
    ]


def _published(row: dict[int, float], result: SinglePointResult) -> list[str]:
    clicks = [f"{row[n]:.3f}" if n in row else "" for n in result.config.clicks]
    return [*clicks, "", "", *("" for _ in result.config.thresholds), *("" for _ in result.mean.boundary)]


def _total(sets: tuple[SetResult, ...], name: str) -> str:
    return str(sum(getattr(result, name) for result in sets))
