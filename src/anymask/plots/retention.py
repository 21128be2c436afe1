"""The picture of a retention report: an arrow a set and kind of prompt, from before to after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anymask.errors import InputError
from anymask.plots.curves import _figure, _png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _GREY, _GAIN, _LOSS = "#1f2328", "#c9ced6", "#1a7f5a", "#c2452d"
_STILL = 0.01


def retention(
    sets: Sequence[str], figures: Mapping[str, Sequence[tuple[float, float]]], *, num_new: int = 0, title: str = ""
) -> bytes:
    """Draw figures from 0 to 1, each (before, after) of each set, as a PNG with a column a figure.

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
