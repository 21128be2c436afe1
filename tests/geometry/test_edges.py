from __future__ import annotations

import cv2
import numpy as np
import pytest

from anymask.geometry.edges import ridge_normals, suppress, thin, thin_ridges


def test_thinning_equals_that_of_scikit_image() -> None:
    reference = pytest.importorskip("skimage.morphology").thin
    rng = np.random.default_rng(0)
    for trial in range(60):
        mask = rng.random(rng.integers(1, 40, 2)) < rng.random()
        if trial % 2:
            mask = cv2.blur(mask.astype(np.float32), (5, 5)) > 0.5
        np.testing.assert_array_equal(thin(mask), reference(mask))


def test_thinning_leaves_thin_lines_alone_and_does_not_change_its_input() -> None:
    line = np.zeros((9, 12), bool)
    line[4, 2:10] = True
    np.testing.assert_array_equal(thin(line), line)
    bar = np.zeros((9, 12), bool)
    bar[2:7, 1:11] = True
    before = bar.copy()
    thinned = thin(bar)
    np.testing.assert_array_equal(bar, before)
    assert thinned.any() and thinned.sum(axis=0).max() == 1


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 135])
def test_normals_point_across_a_ridge(degrees: int) -> None:
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[-20:21, -20:21]
    away = x * np.cos(angle) + y * np.sin(angle)
    across_x, across_y = ridge_normals(np.exp(-(away**2) / 4).astype(np.float32))
    assert abs(across_x[20, 20] * np.cos(angle) + across_y[20, 20] * np.sin(angle)) > 0.99


def test_a_blurred_line_is_thinned_to_its_crest() -> None:
    x = np.mgrid[:30, :40][1]
    strength = np.exp(-((x - 17.0) ** 2) / 8).astype(np.float32)
    thinned = thin_ridges(strength)
    np.testing.assert_array_equal(np.flatnonzero(thinned.any(axis=0)), [17])
    np.testing.assert_array_equal(thinned[:, 17], strength[:, 17])


def test_suppression_compares_across_the_edge_alone() -> None:
    strength = np.array([[0, 1, 0], [0, 3, 0], [0, 2, 0]], np.float32)
    one, none = np.ones_like(strength), np.zeros_like(strength)
    np.testing.assert_array_equal(suppress(strength, one, none), strength)
    np.testing.assert_array_equal(suppress(strength, none, one), [[0, 0, 0], [0, 3, 0], [0, 0, 0]])
