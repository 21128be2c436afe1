"""Numbers of the interactive protocols: clicks needed, and how well predicted IoUs are calibrated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from anymask.errors import InputError
from anymask.geometry import masks


def number_of_clicks(ious: Float[np.ndarray, "n c"], threshold: float) -> Int[np.ndarray, " n"]:
    """Return after how many of its c clicks each mask first reached an IoU of `threshold`; c if it never did.

    This is NoC@threshold as papers on interactive segmentation report it: failures count as the limit c, so a
    value means little without it.
    """
    if ious.shape[1] < 1:
        raise InputError("the number of clicks needs the IoU after at least one click")
    reached = ious >= threshold
    first = reached.argmax(axis=1) + 1
    return np.asarray(np.where(reached.any(axis=1), first, ious.shape[1]))


def histogram(values: Float[np.ndarray, " n"], num_bins: int) -> tuple[int, ...]:
    """Return how many values lie in each of some bins of equal width over [0, 1]; 1 counts in the last."""
    if num_bins < 1:
        raise InputError(f"a histogram of {num_bins} bins cannot be made; 1 is the least")
    place = np.clip(np.floor(values * num_bins), 0, num_bins - 1).astype(np.int64)
    return tuple(np.bincount(place, minlength=num_bins).tolist())


def iou_with(candidates: Bool[np.ndarray, "m h w"], truth: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, " m"]:
    """Return the IoU of each candidate with one true mask."""
    return masks.pair_iou(candidates, np.broadcast_to(truth, candidates.shape))


def boundary_iou(candidate: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], share: float = 0.02) -> float:
    """Return the IoU of the bands along the inside of two masks' boundaries, `share` of the image's diagonal wide.

    The band is at least one pixel wide. Source: Cheng et al. 2021, Boundary IoU, with its 2 % of the diagonal.
    """
    width = max(1, round(share * float(np.hypot(*truth.shape))))
    return float(masks.pair_iou(masks.inner_band(candidate, width), masks.inner_band(truth, width)))


def correlation(predicted: Float[np.ndarray, " k"], true: Float[np.ndarray, " k"]) -> float:
    """Return Pearson's correlation; 0 where either side is constant, since it then says nothing of the other."""
    if predicted.shape != true.shape:
        raise InputError(f"{predicted.size} predicted and {true.size} true values: give as many of each")
    if predicted.size == 0:
        return 0.0
    a, b = (np.asarray(side, np.float64) - np.mean(side, dtype=np.float64) for side in (predicted, true))
    spread = float(np.sqrt((a**2).mean()) * np.sqrt((b**2).mean()))
    return float(np.clip((a * b).mean() / spread, -1, 1)) if spread > 1e-12 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Masks whose predicted IoU lies from `low` to below `high`: how many, and what was predicted and true."""

    low: float
    high: float
    count: int
    predicted: float
    true: float


def calibration(
    predicted: Float[np.ndarray, " k"], true: Float[np.ndarray, " k"], num_bins: int = 10
) -> tuple[CalibrationBin, ...]:
    """Return bins of equal width over [0, 1], by the predicted IoU; those without a mask are left out.

    Predictions outside [0, 1], which a regression may give, count in the outermost bins.
    """
    if num_bins < 1 or predicted.shape != true.shape:
        raise InputError(
            f"{predicted.size} predictions, {true.size} true values and {num_bins} bins do not go together"
        )
    place = np.clip(np.floor(predicted * num_bins), 0, num_bins - 1).astype(np.int64)
    bins = []
    for index in np.unique(place).tolist():
        inside = place == index
        bins.append(
            CalibrationBin(
                low=index / num_bins,
                high=(index + 1) / num_bins,
                count=int(inside.sum()),
                predicted=float(np.mean(predicted[inside], dtype=np.float64)),
                true=float(np.mean(true[inside], dtype=np.float64)),
            )
        )
    return tuple(bins)


def calibration_error(bins: tuple[CalibrationBin, ...]) -> float:
    """Return the mean gap between predicted and true IoU over the bins, each counting by its masks."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.predicted - b.true) for b in bins) / total if total else 0.0
