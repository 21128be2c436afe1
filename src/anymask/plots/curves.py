"""Plots of scores, as PNG. matplotlib is imported when the first one is drawn (extra `plots`)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

from anymask.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#1f2328"
_ACCENT = "#2f6fdb"
_GREY = "#c9ced6"
_DPI = 160


def calibration(
    predicted: Float[np.ndarray, " k"],
    true: Float[np.ndarray, " k"],
    counts: Shaped[np.ndarray, " k"],
    *,
    title: str = "",
) -> bytes:
    """Draw predicted against true IoU, and how many masks stand behind each point, as a PNG.

    Each of the k bins has the mean predicted and the mean true IoU of its `counts` masks. An honest model lies on the
    diagonal, a modest one above it. Raises InputError if the lengths differ or matplotlib is missing.
    """
    if not len(predicted) == len(true) == len(counts):
        raise InputError(f"{len(predicted)} predicted, {len(true)} true values and {len(counts)} counts do not match")
    figure = _figure(4.4, 4.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], color=_GREY, linewidth=1.5, zorder=1)
    upper.text(0.97, 0.92, "honest", color="#6a737d", ha="right", rotation=45, rotation_mode="anchor", fontsize=8)
    upper.plot(predicted, true, color=_ACCENT, marker="o", markersize=5, linewidth=2, zorder=2)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="true IoU", title=title)
    lower.bar(predicted, counts, width=0.06, color=_GREY)
    lower.set(xlabel="predicted IoU", ylabel="masks")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK, labelsize=8)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches that belongs to no window and no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'anymask[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
