"""Masks along the image's edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from anymask.geometry.frames import Frame
from anymask.inference import PLAIN, Predictor, Refinement
from anymask.inference.edge_filter import guide_of, guided_filter, mask_along_edges
from anymask.inference.resize import upsample_logits
from anymask.model import Sam


def plain_guided_filter(values: np.ndarray, guide: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """The filter as its paper has it, a window and a 3 × 3 system at a time."""
    height, width = values.shape
    colours = np.pad(guide / 255.0, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    padded = np.pad(values.astype(np.float64), radius, mode="symmetric")
    fits = np.zeros((height, width, 4))
    for y in range(height):
        for x in range(width):
            window = np.s_[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
            seen, said = colours[window].reshape(-1, 3), padded[window].ravel()
            spread = np.cov(seen.T, bias=True) + epsilon * np.eye(3)
            slope = np.linalg.solve(spread, (seen * said[:, None]).mean(0) - seen.mean(0) * said.mean())
            fits[y, x] = [*slope, said.mean() - slope @ seen.mean(0)]
    fits = np.pad(fits, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            fit = fits[y : y + 2 * radius + 1, x : x + 2 * radius + 1].reshape(-1, 4).mean(0)
            result[y, x] = fit[:3] @ (guide[y, x] / 255.0) + fit[3]
    return result


@pytest.mark.parametrize(("size", "radius"), [((12, 17), 2), ((9, 8), 3)])
def test_the_filter_matches_its_plain_reading(size: tuple[int, int], radius: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 4, size).astype(np.float32)
    guide = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    found = guided_filter(values, guide, radius, 1e-2)
    assert_allclose(found, plain_guided_filter(values, guide, radius, 1e-2), atol=2e-3)


def disc(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.asarray((x - width / 2) ** 2 + (y - height / 2) ** 2 < radius**2)


@pytest.mark.parametrize("scale", [1, 8])
def test_a_rough_mask_comes_to_lie_on_the_edge(scale: int) -> None:
    truth = disc(240 * scale, 320 * scale, 70 * scale)
    image = np.where(truth[..., None], np.uint8([200, 60, 40]), np.uint8([40, 120, 160]))
    frame, side = Frame(truth.shape, 320), 80
    jagged = disc(60, side, 17.5)  # of samples four pixels wide
    logits = torch.full((side, side), -6.0)
    logits[:60] = torch.from_numpy(np.where(jagged, 6.0, -6.0))
    found = mask_along_edges(logits, guide_of(image), frame)
    assert found.shape == truth.shape
    plain = upsample_logits(logits[None, None], model_size=320, resized=frame.resized, original=frame.original)
    assert (found != truth).mean() < 0.5 * ((plain[0, 0] > 0).numpy() != truth).mean()


def test_an_empty_mask_stays_empty_and_large_images_are_guided_by_smaller_ones() -> None:
    image = np.zeros((3000, 4000, 3), np.uint8)
    assert guide_of(image).shape == (768, 1024, 3)
    assert guide_of(image[:500, :1024]).shape == (500, 1024, 3)
    assert not mask_along_edges(torch.full((8, 8), -1.0), guide_of(image), Frame((3000, 4000), 64)).any()


def test_a_predictor_draws_to_edges_where_it_has_the_image(small_sam: Sam, picture: Any) -> None:
    predictor, image = Predictor(small_sam, refinement=PLAIN), picture(60, 100)
    predictor.set_image(image)
    plain = predictor.predict(points=[(52, 37), (20, 10)])
    predictor.refinement = Refinement(edges=True)
    found = predictor.predict(points=[(52, 37), (20, 10)])
    assert_array_equal(found.logits, plain.logits)
    frame = predictor.image.frame
    assert_array_equal(found.best, mask_along_edges(torch.from_numpy(plain.logits[0]), image, frame))
    assert (found.best != plain.best).any()
    predictor.set_embedding(predictor.image.embedding, (60, 100))
    assert_array_equal(predictor.predict(points=[(52, 37), (20, 10)]).masks, plain.masks)
