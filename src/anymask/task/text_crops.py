"""Crops of masked objects, as CLIP is shown them in training (SAM, app. D.5).

Frame: pixels of the padded model input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional as F

from anymask.task.sampling import masks_to_boxes


@dataclass(frozen=True, slots=True, kw_only=True)
class CropConfig:
    """How an object is cut out: the sides of its box times `enlarge`, and how often all around it is black."""

    enlarge: tuple[float, float] = (1.0, 2.0)
    blank: float = 0.5
    """Chance that pixels off the object are zero."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense; raises ValueError."""
        low, high = self.enlarge
        if not 0 < low <= high:
            raise ValueError(f"enlarge is {self.enlarge}; it must be a low and a high factor above 0")
        if not 0 <= self.blank <= 1:
            raise ValueError(f"blank is {self.blank}; it must be from 0 to 1")


@torch.no_grad()
def crop_objects(
    images: UInt8[Tensor, "b 3 s s"],
    masks: Bool[Tensor, "b p g g"],
    config: CropConfig,
    *,
    side: int,
    generator: torch.Generator,
) -> tuple[UInt8[Tensor, "n 3 side side"], Bool[Tensor, "n side side"]]:
    """Cut out each mask's object as a square of `side` pixels, with its mask; the objects of the first image first.

    The mask's box is enlarged by a random factor about its centre and made square; what lies outside the image is
    black. Masks may be on a coarser grid than the images. Randomness comes from the generator, on the images' device.
    """
    size, count = images.shape[-1], masks.shape[0] * masks.shape[1]
    low, high = config.enlarge
    draw = torch.rand(2, count, generator=generator, device=images.device)
    boxes = masks_to_boxes(masks, size).flatten(0, 1)
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1) / 2 * (low + (high - low) * draw[0])
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2
    corners = torch.cat([centre - half[:, None], centre + half[:, None]], 1).round().long().tolist()
    crops = torch.empty(count, 3, side, side, device=images.device)
    inside = torch.empty(count, side, side, dtype=torch.bool, device=images.device)
    for index, (x0, y0, x1, y1) in enumerate(corners):
        image, mask = images[index // masks.shape[1]], masks.flatten(0, 1)[index]
        full = F.interpolate(mask[None, None].float(), (size, size), mode="nearest")[0]
        both = _cut(torch.cat([image.float(), full * 255]), x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        small = F.interpolate(both[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
        crops[index], inside[index] = small[:3], small[3] >= 127.5
    blank = (draw[1] < config.blank)[:, None, None] & ~inside
    return crops.masked_fill(blank[:, None], 0.0).round().clamp(0, 255).to(torch.uint8), inside


def _cut(planes: Tensor, x0: int, y0: int, x1: int, y1: int) -> Tensor:
    """Cut a box out of (c, h, w), zero where it reaches outside."""
    height, width = planes.shape[-2:]
    part = planes[:, max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    return F.pad(part, (max(-x0, 0), max(x1 - width, 0), max(-y0, 0), max(y1 - height, 0)))
