"""Results of the edge protocol as JSON for machines and Markdown for people, the published rows beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anymask.evaluation.edges.protocol import EdgeResult
from anymask.evaluation.report import table

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
