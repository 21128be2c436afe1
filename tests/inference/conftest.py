"""A small model with random weights, and pictures with something in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from anymask.inference import Predictor
from anymask.model import MASK_THRESHOLD, SIZES, Answer, Embedding, Prompts, Sam, build_sam

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


class SceneSam(Sam):
    """Answers a point with the connected bright regions around it: those of at least 1, 2 and 3 quarters of white.

    Whole, part and subpart are certain where the point lies in them, and nothing is elsewhere. Its embedding is the
    image itself; it counts the points that it was asked about.
    """

    asked: int = 0

    def encode(self, images: Tensor) -> Embedding:
        return Embedding(features=images)

    def prepare(self, embedding: Embedding) -> Embedding:
        return embedding

    def answer(self, embedding: Embedding, prompts: Prompts, **_: Any) -> Answer:
        pixels, side = embedding.features[0], self.mask_size
        grey = (pixels * self.pixel_std + self.pixel_mean).mean(0) * (pixels != 0).any(0)  # padding is black
        rows, columns = (max(int(pixels.ne(0).any(0).any(axis).sum()) // 2, 1) for axis in (1, 0))
        levels = np.rint(cv2.resize(grey.numpy(), (side, side), interpolation=cv2.INTER_NEAREST) / 64).astype(int)
        points = prompts.points[0, :, 0]
        self.asked += len(points)
        logits = np.full((len(points), 3, side, side), -8, np.float32)
        iou = np.full((len(points), 3), 0.1, np.float32)
        for index, (x, y) in enumerate((points * side / self.image_size).long().clamp(max=side - 1).tolist()):
            for level in range(1, min(levels[y, x], 3) + 1):
                _, regions = cv2.connectedComponents((levels >= level).astype(np.uint8))
                inside = (regions == regions[y, x]).astype(np.float32)
                seen = cv2.blur(inside[:rows, :columns], (3, 3), borderType=cv2.BORDER_REPLICATE)
                padded = np.pad(seen, ((0, side - rows), (0, side - columns)), mode="edge")
                logits[index, level - 1] = 16 * padded - 8 + MASK_THRESHOLD
                iou[index, level - 1] = 0.9 + 0.02 * level
        return Answer(torch.from_numpy(logits)[None], torch.from_numpy(iou)[None])


@pytest.fixture
def scene_sam() -> SceneSam:
    """A model of 128 pixels that sees brightness alone."""
    return SceneSam(SIZES["smoke"]).eval()


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """200 × 300: a disc that holds a disc that holds a disc, and a square apart."""
    y, x = np.mgrid[:200, :300]
    grey = np.zeros((200, 300), np.uint8)
    for radius, value in ((80, 64), (50, 128), (20, 192)):
        grey[(x - 100) ** 2 + (y - 100) ** 2 < radius**2] = value
    grey[60:120, 220:280] = 64
    return np.repeat(grey[..., None], 3, axis=2)
