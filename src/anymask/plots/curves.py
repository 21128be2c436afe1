"""Plots of scores, as PNG. matplotlib is imported when the first one is drawn (extra `plots`)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

from anymask.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_INK = "#1f2328"
_ACCENT = "#2f6fdb"
_GREY = "#c9ced6"
_SERIES = ("#2f6fdb", "#d9662b", "#2a9d6f", "#8e5bd0", "#c43d6b", "#7a7f87")
"""Colours of models beside each other, in their order; they start again after the last."""
_DPI = 160


def calibration(
    predicted: Float[np.ndarray, " k"],
    true: Float[np.ndarray, " k"],
    counts: Shaped[np.ndarray, " k"],
    *,
    title: str = "",
) -> bytes:
    """Draw predicted against true IoU, and how many masks stand behind each point, as a PNG.

    Each of the k bins has the mean predicted and the mean true IoU of its `counts` masks. A calibrated model lies on
    the diagonal, one that underestimates above it. Raises InputError if the lengths differ, MissingPackageError without
    matplotlib.
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


def iou_by_clicks(series: Mapping[str, Mapping[int, float]], *, title: str = "") -> bytes:
    """Draw the mean IoU after 1, 2, 3, … clicks of one or more models, as a PNG."""
    figure = _figure(4.8, 3.4)
    axes = figure.subplots()
    for color, (name, values) in zip(cycle(_SERIES), series.items(), strict=False):
        axes.plot(list(values), list(values.values()), color=color, marker="o", markersize=5, linewidth=2, label=name)
    ticks = sorted({clicks for values in series.values() for clicks in values})
    axes.set(xlabel="clicks", ylabel="mIoU", ylim=(0, 1), xticks=ticks, title=title)
    axes.grid(axis="y", color="#eceef1")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _finished(figure, axes)


def iou_histograms(series: Mapping[str, Sequence[int]], *, title: str = "") -> bytes:
    """Draw the shares of masks by IoU, in bins of equal width over [0, 1], of one or more models, as a PNG."""
    figure = _figure(4.8, 3.4)
    axes = figure.subplots()
    for color, (name, counts) in zip(cycle(_SERIES), series.items(), strict=False):
        edges = np.linspace(0, 1, len(counts) + 1)
        shares = np.asarray(counts, np.float64) / max(1, sum(counts))
        axes.stairs(shares, edges, color=color, fill=len(series) == 1, linewidth=2, label=name)
    axes.set(xlabel="IoU", ylabel="share of masks", xlim=(0, 1), title=title)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return _finished(figure, axes)


def bars_by_set(sets: Sequence[str], series: Mapping[str, Sequence[float]], *, label: str, title: str = "") -> bytes:
    """Draw a number from 0 to 1 of each data set as a bar per model, as a PNG; the sets by the first model's number."""
    figure = _figure(4.8, 0.9 + len(sets) * (0.13 + 0.11 * len(series)))
    axes = figure.subplots()
    order = np.argsort(next(iter(series.values())), kind="stable")
    height = 0.8 / len(series)
    for place, (color, (name, values)) in enumerate(zip(cycle(_SERIES), series.items(), strict=False)):
        rows = np.arange(len(sets)) + 0.4 - (place + 0.5) * height
        drawn = axes.barh(rows, np.asarray(values)[order], height, color=color, label=name)
        axes.bar_label(drawn, fmt="%.2f", padding=3, fontsize=7, color=_INK)
    axes.set(xlabel=label, xlim=(0, 1), yticks=range(len(sets)), ylim=(-0.6, len(sets) - 0.4), title=title)
    axes.set_yticklabels([sets[index] for index in order])
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _finished(figure, axes)


def _finished(figure: Figure, axes: Axes) -> bytes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.set_axisbelow(True)
    axes.title.set_fontsize(10)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches that belongs to no window and no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("plots need matplotlib: pip install 'anymask[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


_BINS = 30


def masks_per_image(counts: Shaped[np.ndarray, " n"]) -> bytes:
    """Draw how many images have how many masks."""
    return _histogram(counts, "masks per image", "images")


def relative_sizes(sizes: Float[np.ndarray, " n"]) -> bytes:
    """Draw how many masks have which size: the square root of the share of the image that they cover."""
    return _histogram(sizes, "relative size of a mask", "masks", (0.0, 1.0))


def concavities(values: Float[np.ndarray, " n"]) -> bytes:
    """Draw how many masks have which concavity: one minus the share of their convex hull that they cover."""
    return _histogram(values, "concavity of a mask", "masks", (0.0, 1.0))


def centre_map(density: Float[np.ndarray, "h w"]) -> bytes:
    """Draw where in the image the centres of masks lie, all images scaled to one square."""
    figure = _figure(3.6, 3.6)
    axes = figure.subplots()
    axes.imshow(density, cmap="Blues", extent=(0, 1, 1, 0), vmin=0)
    axes.set(xlabel="x", ylabel="y", xticks=[0, 1], yticks=[0, 1], title="centres of masks")
    axes.tick_params(colors=_INK, labelsize=8)
    return _png(figure)


def _histogram(
    values: Shaped[np.ndarray, " n"], label: str, of: str, limits: tuple[float, float] | None = None
) -> bytes:
    figure = _figure(4.4, 3.0)
    axes = figure.subplots()
    axes.hist(np.asarray(values), bins=_BINS, range=limits, color=_ACCENT)
    axes.set(xlabel=label, ylabel=of)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=8)
    return _png(figure)


_GAIN, _LOSS = "#1a7f5a", "#c2452d"
_STILL = 0.01


def retention(
    sets: Sequence[str], figures: Mapping[str, Sequence[tuple[float, float]]], *, num_new: int = 0, title: str = ""
) -> bytes:
    """Draw figures from 0 to 1, each (before, after) of each set, as a PNG with a column per figure.

    Green rises and red falls by more than 0.01. The first `num_new` sets are marked off as the new data. Raises
    InputError if a figure lacks a set, or matplotlib is missing.
    """
    if any(len(values) != len(sets) for values in figures.values()):
        raise InputError(f"each figure needs a pair for each of the {len(sets)} sets")
    figure = _figure(2.0 + 1.7 * len(figures), 1.3 + 0.32 * len(sets))
    columns = figure.subplots(1, len(figures), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(columns, figures.items(), strict=True):
        _column(axes, name, values)
        if 0 < num_new < len(sets):
            axes.axhline(num_new - 0.5, color=_INK, linewidth=0.8)
    columns[0].set_yticks(range(len(sets)), sets)
    columns[0].set_ylim(len(sets) - 0.5, -0.5)
    if title:
        figure.suptitle(title, fontsize=10, color=_INK)
    return _png(figure)


def _column(axes: Axes, name: str, values: Sequence[tuple[float, float]]) -> None:
    for row, (before, after) in enumerate(values):
        change = after - before
        color = _GREY if abs(change) <= _STILL else _GAIN if change > 0 else _LOSS
        axes.plot([before, after], [row, row], color=color, linewidth=2, zorder=1)
        axes.scatter([before], [row], s=14, facecolor="white", edgecolor=color, zorder=2)
        axes.scatter([after], [row], s=22, color=color, zorder=3)
    axes.set_title(name, fontsize=9, color=_INK)
    axes.set_xlim(0, 1)
    axes.grid(axis="x", color="#eceff2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=8, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
