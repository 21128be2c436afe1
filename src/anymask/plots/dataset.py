"""What a data set of masks looks like, as PNGs: masks an image, their sizes and concavity, where they lie.

Source: SAM, sec. 5, "Mask properties". matplotlib is imported when the first one is drawn (extra `plots`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from anymask.plots.curves import _ACCENT, _INK, _figure, _png

_BINS = 30


def masks_per_image(counts: Shaped[np.ndarray, " n"]) -> bytes:
    """Draw how many images have how many masks."""
    return _histogram(counts, "masks an image", "images")


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
