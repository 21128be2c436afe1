"""Regions pixel by pixel, which tests compare those in runs and outlines with."""

import numpy as np

from anymask.geometry import regions


def count(mask: np.ndarray) -> int:
    """Return how many regions per mask has."""
    return len(regions.components(mask)[1])


def clean(mask: np.ndarray, min_area: float) -> tuple[np.ndarray, bool]:
    """Fill small holes, then drop small islands; also return whether anything changed."""
    filled, any_hole = regions.remove_small(mask, min_area, "holes")
    cleaned, any_island = regions.remove_small(filled, min_area, "islands")
    return cleaned, any_hole or any_island
