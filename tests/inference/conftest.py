"""A small model with random weights, and pictures with something in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from anymask.inference import Predictor
from anymask.model import SIZES, Sam, build_sam

Picture = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def small_sam() -> Sam:
    """The smoke size, seeded; its mask tokens are stirred so that the masks of one prompt differ."""
    torch.manual_seed(0)
    sam = build_sam(SIZES["smoke"]).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sam.mask_decoder.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return sam


@pytest.fixture
def predictor(small_sam: Sam) -> Predictor:
    """A predictor with the 60 × 100 picture set."""
    made = Predictor(small_sam)
    made.set_image(_picture(60, 100))
    return made


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Smooth waves of colour of any size: picture(height, width, seed=0)."""
    return _picture


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(3, 12, (3, 3))]
    return np.stack([127 + 120 * wave for wave in waves], -1).astype(np.uint8)
