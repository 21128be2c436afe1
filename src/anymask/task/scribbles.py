"""Scribble prompts: several foreground points along a stroke that stays within the mask."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from anymask.task.sampling import cells_to_points, sample_cells

_TURNS = (0.0, 0.4, -0.4, 0.9, -0.9, 1.5, -1.5, 2.2, -2.2)  # radians that each step chooses from
_WOBBLE = 0.25  # standard deviation, in radians, of the drift of a stroke's direction
_STIFFNESS = 0.15  # depth that a stroke gives up for turning a radian less
_DEPTH_WINDOWS = (3, 7, 15)  # cells; a cell's depth is how much of these windows round it the mask fills
_SHORTER = 0.7  # of the step is left after a rest


def scribble_points(
    masks: Bool[Tensor, "b p h w"], num_points: int, *, image_size: int, generator: torch.Generator
) -> Float[Tensor, "b p n 2"]:
    """Points (x, y) in pixels of the padded frame along one wobbling stroke in each mask, in the stroke's
    order.

    The stroke starts uniformly in the mask in a random direction. It turns rather than leave the mask or
    follow its edge; where no turn keeps it inside it rests, doubles back and goes on in shorter steps. Its
    step is a share of the object's own size. An empty mask gives arbitrary points.
    """
    height, width = masks.shape[-2:]
    device = masks.device
    flat, depth = masks.flatten(2), _depth(masks).flatten(2)
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
        merit = depth.gather(2, tried_cells) - _STIFFNESS * turns.abs()
        pick = merit.masked_fill(~stays, -torch.inf).argmax(dim=2, keepdim=True)
        moves = stays.any(dim=2)
        cell = torch.where(moves, tried_cells.gather(2, pick)[..., 0], cell)
        angle = torch.where(moves, tried.gather(2, pick)[..., 0], angle + math.pi)
        step = torch.where(moves, step, _SHORTER * step)
        place = torch.stack((cell % width, cell // width), dim=-1).float() + 0.5
        cells.append(cell)
    return cells_to_points(torch.stack(cells, dim=2), (height, width), image_size, generator)


def _depth(masks: Tensor) -> Tensor:
    """How far inside its mask each cell is, 0 to 1: the filled share of windows of several sizes round it."""
    level = masks.float()
    shares = [F.avg_pool2d(level, side, stride=1, padding=side // 2) for side in _DEPTH_WINDOWS]
    return torch.stack(shares).mean(dim=0)
