"""Scribble prompts: several foreground points along a stroke that stays within the mask."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anymask.task.sampling import cells_to_points, sample_cells

_TURNS = (0.0, 0.35, -0.35, 0.8, -0.8, 1.4, -1.4)  # radians tried in turn at each step
_WOBBLE = 0.25  # standard deviation, in radians, of the drift of a stroke's direction


def scribble_points(
    masks: Bool[Tensor, "b p h w"], num_points: int, *, image_size: int, generator: torch.Generator
) -> Float[Tensor, "b p n 2"]:
    """Points (x, y) in pixels of the padded frame along one wobbling stroke in each mask, in the stroke's
    order.

    The stroke starts uniformly in the mask in a random direction, and turns rather than leave it; where no
    turn helps it rests a step and doubles back. Its step is a share of the object's own size. An empty mask
    gives arbitrary points.
    """
    height, width = masks.shape[-2:]
    device = masks.device
    flat = masks.flatten(2)
    cell, _ = sample_cells(masks, generator)
    place = torch.stack((cell % width, cell // width), dim=-1).float() + 0.5
    share = 0.1 + 0.25 * torch.rand(cell.shape, generator=generator, device=device)
    step = (share * flat.sum(dim=2).float().sqrt()).clamp(min=1.0)
    angle = 2 * math.pi * torch.rand(cell.shape, generator=generator, device=device)
    turns = torch.tensor(_TURNS, device=device)
    limit = place.new_tensor((width, height)) - 1
    cells = [cell]
    for _ in range(num_points - 1):
        angle = angle + _WOBBLE * torch.randn(cell.shape, generator=generator, device=device)
        tried = angle[..., None] + turns
        ahead = place[..., None, :] + step[..., None, None] * torch.stack((tried.cos(), tried.sin()), dim=-1)
        column_row = torch.minimum(ahead.floor().clamp(min=0.0), limit).long()
        tried_cells = column_row[..., 1] * width + column_row[..., 0]
        stays = flat.gather(2, tried_cells)
        pick = stays.to(torch.uint8).argmax(dim=2, keepdim=True)
        moves = stays.any(dim=2)
        cell = torch.where(moves, tried_cells.gather(2, pick)[..., 0], cell)
        angle = torch.where(moves, tried.gather(2, pick)[..., 0], angle + math.pi)
        place = torch.stack((cell % width, cell // width), dim=-1).float() + 0.5
        cells.append(cell)
    return cells_to_points(torch.stack(cells, dim=2), (height, width), image_size, generator)
