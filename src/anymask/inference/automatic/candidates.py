"""Points to candidates: the grid asked in batches, and all that can be told at low resolution told there.

A candidate is a mask that may still be kept: its predicted IoU is above the threshold, its stability is not clearly
below. It holds only the part of its logits that its pixels are made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from anymask.geometry import arrays, boxes, masks
from anymask.geometry.arrays import Array
from anymask.geometry.crops import Box
from anymask.inference.answers import EncodedImage, chunk_size
from anymask.inference.automatic.options import AutomaticOptions
from anymask.inference.automatic.point_order import BORDERLINE, SkipRule, coarse_to_fine
from anymask.inference.automatic.upsampling import LogitWindow, cut_window, inner_box, num_samples, outer_box
from anymask.inference.prompts import lone_points
from anymask.inference.runtimes import AnyModel, runtime_of
from anymask.model import MASK_THRESHOLD


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A mask known at low resolution; pixels are those of the crop that was encoded."""

    window: LogitWindow
    """Whatever exceeds the lower cut of the stability score lies in it."""
    inner: Box
    """xyxy, inside the mask's box; its edges cross where nothing is sure to be inside."""
    outer: Box
    """xyxy, around the mask's box."""
    predicted_iou: float
    point: tuple[float, float]
    """The point (x, y) that was asked about, in pixels of the image."""

    @property
    def num_bytes(self) -> int:
        """What its logits take."""
        return int(self.window.logits.nbytes)


def find_candidates(
    model: AnyModel, image: EncodedImage, points: Float[np.ndarray, "n 2"], options: AutomaticOptions
) -> Iterator[list[Candidate]]:
    """Ask about points of the unit square and yield the candidates of each batch.

    Runs in the caller's gradient mode; the order of points is the grid's, or from coarse to fine if adaptive.
    """
    pixels = points * np.array(image.frame.original[::-1])
    grid = _Grid(image, model.mask_size, pixels)
    size = batch_size(model, options)
    if not options.adaptive:
        for start in range(0, len(points), size):
            yield _ask(model, image, grid, np.arange(start, min(start + size, len(points))), options).candidates
        return
    skip_rule = SkipRule(points)
    for depth, level in enumerate(coarse_to_fine(points)):
        waiting = np.zeros(0, np.int64)
        for start in range(0, len(level.points), size):
            chunk = level.points[start : start + size]
            # What is far between says nothing about small things: points are taken for empty from the third level on.
            waiting = np.concatenate([waiting, chunk[~skip_rule(chunk, level.reach, empty=depth > 1)]])
            while waiting.size >= size or (waiting.size and start + size >= len(level.points)):
                asked, waiting = waiting[:size], waiting[size:]
                answers = _ask(model, image, grid, asked, options)
                for point in asked.tolist():
                    own = answers.points == point
                    skip_rule.add(
                        point, answers.inside[own], answers.areas[own], borderline=point in answers.borderline
                    )
                yield answers.candidates


def batch_size(model: AnyModel, options: AutomaticOptions) -> int:
    """Return how many points to ask about at a time: the option, unless memory allows fewer."""
    logits = 3 * model.mask_size**2 * 4
    return max(1, min(options.points_per_batch, chunk_size(model), options.memory_limit // (4 * logits)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answers:
    """The confident masks of a batch of points."""

    candidates: list[Candidate]
    points: Int[np.ndarray, " k"]
    """Index of the point that each mask answers."""
    inside: Bool[np.ndarray, "k n"]
    """Which points of the grid lie in each; nothing unless adaptive."""
    areas: Int[np.ndarray, " k"]
    """Area of each mask, in samples."""
    borderline: set[int]
    """Points one of whose masks, confident or not, came near the thresholds; unless adaptive, only confident ones."""


class _Grid:
    """The points in each frame that they are needed in."""

    def __init__(self, image: EncodedImage, mask_size: int, pixels: Float[np.ndarray, "n 2"]) -> None:
        frame = image.frame
        self.pixels = pixels
        moved = frame.points_to_model(pixels)
        self.model = moved
        self.samples = num_samples(frame, mask_size)
        centres = np.rint(np.multiply(frame.resized, mask_size / frame.model_size)).astype(int)
        self.rows, self.columns = (max(int(side), 1) for side in centres)
        """Samples whose centres lie in the image."""
        stride = frame.model_size / mask_size
        at = np.minimum((moved / stride).astype(np.int64), np.array(self.samples[::-1]) - 1)
        self.at = at


def _ask(
    model: AnyModel, image: EncodedImage, grid: _Grid, asked: Int[np.ndarray, " p"], options: AutomaticOptions
) -> _Answers:
    logits, iou = runtime_of(model).decode(image.embedding, lone_points(grid.model[asked]), multimask=True)
    predicted, num_masks = arrays.to_numpy(arrays.float32(iou[0])).reshape(-1), iou.shape[-1]
    least_iou, least = options.thresholds
    least_iou = least_iou if least_iou > 0 else -math.inf
    kept = np.flatnonzero(predicted > least_iou - (BORDERLINE if options.adaptive else 0))
    of_all = logits[0].reshape(-1, *logits.shape[-2:])
    logits_KHW = arrays.float32(of_all if len(kept) == len(of_all) else arrays.take(of_all, kept, 0))
    seen = logits_KHW[:, : grid.rows, : grid.columns]
    stability = masks.any_stability_score(seen, MASK_THRESHOLD, options.stability_score_offset)
    reaching = logits_KHW[:, : grid.samples[0], : grid.samples[1]]
    above = boxes.from_any_masks(reaching > MASK_THRESHOLD)
    wide = boxes.from_any_masks(reaching > MASK_THRESHOLD - options.stability_score_offset)
    inside_KHW = seen > MASK_THRESHOLD
    rows_KHW = inside_KHW[:, 1:] & inside_KHW[:, :-1]
    blocks = boxes.from_any_masks(rows_KHW[..., 1:] & rows_KHW[..., :-1])
    areas = masks.any_area(inside_KHW)
    measured = [arrays.to_numpy(each) for each in (areas[:, None], above, blocks, wide)]
    numbers = np.concatenate([kept[:, None], *measured], 1)
    scores = np.stack([predicted[kept], arrays.to_numpy(stability)], 1)
    owners = asked[numbers[:, 0] // num_masks]
    good = (scores[:, 0] > least_iou) & (numbers[:, 4] > 0)
    stays = np.flatnonzero(good & (scores[:, 1] >= least - _margin(numbers[:, 1])))
    candidates = [
        _candidate(logits_KHW[k], numbers[k], float(scores[k, 0]), image, grid.pixels[owners[k]])
        for k in stays.tolist()
    ]
    confident = np.flatnonzero(good & (scores[:, 1] >= least))
    inside = np.zeros((confident.size, len(grid.at)), bool)
    if options.adaptive and confident.size:
        rows, columns = (arrays.like(grid.at[:, axis], logits_KHW) for axis in (1, 0))
        inside = arrays.to_numpy(arrays.take(logits_KHW, confident, 0)[:, rows, columns] > MASK_THRESHOLD)
    return _Answers(
        candidates=candidates,
        points=owners[confident],
        inside=inside,
        areas=numbers[confident, 1],
        borderline=set(owners[scores[:, 1] >= least - BORDERLINE].tolist()),
    )


def _margin(areas: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return by how much the stability at the original size may exceed that at low resolution, at most."""
    return np.asarray(0.02 + 1.0 / np.sqrt(np.maximum(areas, 1)))


def _candidate(
    logits: Float[Array, "hm wm"],
    numbers: Int[np.ndarray, " 14"],
    predicted_iou: float,
    image: EncodedImage,
    point: Float[np.ndarray, " 2"],
) -> Candidate:
    above, blocks, wide = ((int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in numbers[2:].reshape(3, 4))
    size = logits.shape[-1]
    return Candidate(
        window=cut_window(logits, wide, image.frame),
        inner=inner_box(blocks, image.frame, size) if blocks[2] else (0, 0, 0, 0),
        outer=outer_box(above, image.frame, size),
        predicted_iou=predicted_iou,
        point=(float(point[0]), float(point[1])),
    )
