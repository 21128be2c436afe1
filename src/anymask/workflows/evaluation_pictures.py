"""Pictures of an evaluation: plots of models side by side, and masks on their surroundings."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from anymask.evaluation.examples import Example
from anymask.evaluation.single_point import SinglePointResult
from anymask.geometry import boxes
from anymask.plots import contact_sheet, curves, draw_answer

_CASE_SIDE = 320


def evaluation_plots(results: Mapping[str, SinglePointResult]) -> dict[str, bytes]:
    """Return the plots of one or more models by name, as PNG; raises MissingPackageError without matplotlib."""
    names = [found.name for found in next(iter(results.values())).sets]
    drawn = {
        "clicks": curves.iou_by_clicks({label: result.mean.miou for label, result in results.items()}),
        "histogram": curves.iou_histograms(
            {
                label: np.sum([found.histogram for found in result.sets], axis=0).tolist()
                for label, result in results.items()
            },
            title="IoU after one click",
        ),
        "sets": curves.bars_by_set(
            names,
            {label: [found.scores.miou[1] for found in result.sets] for label, result in results.items()},
            label="mIoU after one click",
        ),
    }
    for label, result in results.items():
        if result.calibration is not None:
            bins = result.calibration.bins
            values = [np.array([getattr(b, name) for b in bins]) for name in ("predicted", "true", "count")]
            name = "calibration" if len(results) == 1 else f"calibration_{label}"
            drawn[name] = curves.calibration(*values, title=label)
    return drawn


def draw_example(example: Example) -> tuple[bytes, str]:
    """Return a JPEG of the mask's surroundings, first the truth, then each answer, and a caption."""
    window = _window(example)
    left, top = window[1].start, window[0].start
    point = [(example.point[0] - left, example.point[1] - top)]
    drawn = [
        draw_answer(np.ascontiguousarray(example.image[window]), mask[window][None], points=point, labels=[1])
        for mask in (example.truth, *example.masks.values())
    ]
    sheet = contact_sheet(drawn, len(drawn), cell=_CASE_SIDE, gap=4)
    values = " · ".join(f"{name} {iou:.2f}" for name, iou in example.ious.items())
    return _jpeg(sheet), f"{example.set_name}: annotated · {values}"


def draw_panel(example: Example, mask: Bool[np.ndarray, "h w"]) -> bytes:
    """Return a JPEG of one mask on its surroundings, with the click."""
    rows, columns = _window(example)
    point = [(example.point[0] - columns.start, example.point[1] - rows.start)]
    image = np.ascontiguousarray(example.image[rows, columns])
    return _jpeg(contact_sheet([draw_answer(image, mask[rows, columns][None], points=point, labels=[1])], 1, cell=640))


def _window(example: Example) -> tuple[slice, slice]:
    """Return the rows and columns around the truth and the answers, with a margin, at least a quarter of the image."""
    size = example.truth.shape
    height, width = size
    x0, y0, x1, y1 = boxes.from_masks(np.any([example.truth, *example.masks.values()], axis=0)).tolist()
    side = max(1.3 * max(x1 - x0, y1 - y0), max(size) / 4)
    spans = []
    for low, high, full in ((y0, y1, height), (x0, x1, width)):
        reach = min(side, full)
        start = int(np.clip((low + high - reach) / 2, 0, full - reach))
        spans.append(slice(start, start + max(1, round(reach))))
    return spans[0], spans[1]


def _jpeg(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()
