"""Other right answers to an ambiguous point: the masks of the same image that it lies in too.

The paper teaches a lone point's three candidates by the best of them alone, and leaves it to millions of images
that they come to mean whole, part and subpart (SAM, sec. 3). From few images they do not: here each of the masks round
the point may have a candidate of its own. Shape legend: B images, P prompts an image, O masks known of an image, h × w
their grid.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NUM_OTHERS = 2
"""Right answers beside the one asked for: three candidates have no room for more."""

_SAME_IOU = 0.9


@torch.no_grad()
def nested_truths(
    points: Float[Tensor, "b p 2"],
    truth: Bool[Tensor, "b p h w"],
    masks: Bool[Tensor, "b o h w"],
    *,
    image_size: int,
    generator: torch.Generator,
) -> tuple[Bool[Tensor, "b p 2 h w"], Bool[Tensor, "b p 2"]]:
    """Two of the masks that hold each point and are not its truth, drawn at random, and which of the two there are.

    Points are pixels (x, y) of the padded frame; a mask of IoU 0.9 or more with the truth counts as the truth.
    """
    height, width = masks.shape[-2:]
    shortfall = max(NUM_OTHERS - masks.shape[1], 0)
    masks = torch.nn.functional.pad(masks, (0, 0, 0, 0, 0, shortfall))
    cells_per_pixel = points.new_tensor((width / image_size, height / image_size))
    cell = ((points + 0.5) * cells_per_pixel).long()
    column, row = cell[..., 0].clamp(0, width - 1), cell[..., 1].clamp(0, height - 1)
    index_BOP = (row * width + column)[:, None].expand(-1, masks.shape[1], -1)
    holds_BPO = masks.flatten(2).gather(2, index_BOP).transpose(1, 2)
    answers = holds_BPO & (_iou(truth, masks) < _SAME_IOU)
    order = torch.rand(answers.shape, generator=generator, device=answers.device).masked_fill(~answers, -1.0)
    drawn = order.topk(NUM_OTHERS, dim=2)
    image = torch.arange(len(masks), device=masks.device)[:, None, None]
    return masks[image, drawn.indices], drawn.values >= 0


def _iou(a: Bool[Tensor, "b p h w"], b: Bool[Tensor, "b o h w"]) -> Float[Tensor, "b p o"]:
    flat_a, flat_b = a.flatten(2).float(), b.flatten(2).float()
    intersection = flat_a @ flat_b.transpose(1, 2)
    union = flat_a.sum(2)[:, :, None] + flat_b.sum(2)[:, None] - intersection
    return intersection / union.clamp(min=1)
