"""Results as JSON for machines and Markdown for people."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from anymask.data.files import write_text_atomic
from anymask.evaluation.single_point import Scores, SetResult, SinglePointResult


def to_dict(result: SinglePointResult) -> dict[str, Any]:
    """Return plain values, keys all strings, as they come back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))
    return plain


def to_markdown(result: SinglePointResult) -> str:
    """Return a table of one row a data set and one for the mean, then what predicted IoUs are worth."""
    config = result.config
    header = [
        *("set", "images", "masks"),
        *(f"{n} click{'s' if n > 1 else ''}" for n in config.clicks),
        *("box", "oracle", *(f"NoC@{percent}" for percent in config.thresholds)),
    ]
    rows = [[r.name, str(r.num_images), str(r.num_masks), *_cells(r.scores)] for r in result.sets]
    rows.append(["**mean**", _total(result.sets, "num_images"), _total(result.sets, "num_masks"), *_cells(result.mean)])
    lines = [table(header, rows), "", f"mIoU; NoC of at most {config.max_clicks} clicks."]
    skipped = sum(r.num_skipped for r in result.sets)
    if skipped:
        lines.append(f"{skipped} images could not be used.")
    if result.honesty is not None:
        honesty = result.honesty
        lines += [
            "",
            f"Predicted against true IoU: correlation {honesty.correlation:.3f} over all returned masks, "
            f"{honesty.correlation_first:.3f} over those of the first click; mean gap {honesty.error:.3f}.",
            "",
            table(
                ["predicted IoU", "masks", "mean predicted", "mean true"],
                [
                    [f"{b.low:.1f}–{b.high:.1f}", str(b.count), f"{b.predicted:.3f}", f"{b.true:.3f}"]
                    for b in honesty.bins
                ],
            ),
        ]
    return "\n".join(lines) + "\n"


def write(result: SinglePointResult, folder: str | Path) -> None:
    """Write single_point.json and single_point.md into an existing folder; raises OutputError."""
    write_text_atomic(Path(folder) / "single_point.json", json.dumps(to_dict(result), indent=2) + "\n")
    write_text_atomic(Path(folder) / "single_point.md", to_markdown(result))


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
    return [*(f"{value:.3f}" for value in shares), *(f"{value:.2f}" for value in scores.noc.values())]


def _total(sets: tuple[SetResult, ...], name: str) -> str:
    return str(sum(getattr(result, name) for result in sets))
