"""Prompts of the simulated annotator: how an interaction begins, and how a click corrects a prediction.

All coordinates are pixels (x, y) of the padded model frame, a square of `image_size` pixels. Shape legend: B
images, P prompts per image, N points per prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anymask.prompts import PointLabel, SimulatedPrompts
from anymask.task.degraded import degrade_masks
from anymask.task.sampling import cells_to_points, click_cells, jitter_boxes, masks_to_boxes, sample_cells

ABSENT, NOT_A_POINT, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = map(int, PointLabel)
"""The labels of points as plain numbers, which torch takes."""
_POINT, _BOX, _SCRIBBLE, _MASK = range(4)
_TURNS = (0.0, 0.4, -0.4, 0.9, -0.9, 1.5, -1.5, 2.2, -2.2)  # radians that each step chooses from
_WOBBLE = 0.25  # standard deviation, in radians, of the drift of a stroke's direction
_STIFFNESS = 0.15  # depth that a stroke gives up for turning a radian less
_DEPTH_WINDOWS = (3, 7, 15)  # cells; a cell's depth is how much of these windows round it the mask fills
_SHORTER = 0.7  # of the step is left after a rest


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """How interactions begin: relative weights of the four kinds, drawn for each mask, and their noise.

    The defaults are the paper's (SAM, app. A): a point or a box with equal chance, box noise of 10 % of the
    side and at most 20 px at an image size of 1024, proportionally less below. Scribbles and masks alone are
    extensions, as is `centre`, the share of clicks, first and later ones, that are made where people make them: in the
    middle of the object or of the largest error, not anywhere in it.
    """

    point: float = 1.0
    box: float = 1.0
    scribble: float = 0.0
    mask: float = 0.0
    box_noise: float = 0.1
    max_box_noise: float = 20.0
    scribble_length: int = 6
    centre: float = 0.0

    @property
    def weights(self) -> tuple[float, float, float, float]:
        """Weights of point, box, scribble and mask."""
        return self.point, self.box, self.scribble, self.mask


def no_prompts(truth: Bool[Tensor, "b p h w"]) -> SimulatedPrompts:
    """First prompts without point, box or mask, for a decoder that is told the object in another way: in words."""
    shape, device = truth.shape[:2], truth.device
    return SimulatedPrompts(
        points=torch.zeros(*shape, 2, 2, device=device),
        labels=torch.full((*shape, 2), ABSENT, device=device),
        single=torch.zeros(shape, dtype=torch.bool, device=device),
    )


def initial_prompts(
    truth: Bool[Tensor, "b p h w"],
    config: PromptConfig,
    *,
    image_size: int,
    mask_size: int | None = None,
    valid: Bool[Tensor, "b h w"] | None = None,
    generator: torch.Generator,
) -> SimulatedPrompts:
    """First prompts: for each mask a foreground point, noisy box, scribble or degraded mask (SAM, app. A).

    Slots 0 and 1 hold a point and the "not a point" token, or a box's corners; a scribble's further points
    follow. `mask_size` is the side of mask prompts, by default that of the truth's grid. `valid` marks the
    image's cells in the padded frame. An empty truth gets no point, box or scribble (labels −2). Raises
    ValueError on bad weights.
    """
    kind = _draw_kinds(truth, config, generator)
    is_point, is_box = kind == _POINT, kind == _BOX
    index, found = click_cells(truth[:, :, None], config.centre, generator)
    click = cells_to_points(index, (truth.shape[-2], truth.shape[-1]), image_size, generator)
    boxes = _noisy_boxes(truth, config, image_size, valid, generator)
    points = torch.where(is_box[..., None, None], boxes.view(*kind.shape, 2, 2), 0.0)
    first = torch.where(is_box[..., None], points[:, :, 0], click)
    points = torch.stack((first, points[:, :, 1]), dim=2)
    labels = torch.where(
        is_box[..., None],
        kind.new_tensor((TOP_LEFT, BOTTOM_RIGHT)),
        kind.new_tensor((FOREGROUND, NOT_A_POINT)),
    )
    if config.scribble > 0:
        strokes = scribble_points(truth, config.scribble_length, image_size=image_size, generator=generator)
        is_scribble = (kind == _SCRIBBLE)[..., None]
        points[:, :, 0] = torch.where(is_scribble, strokes[:, :, 0], points[:, :, 0])
        points = torch.cat((points, strokes[:, :, 1:]), dim=2)
        extra = torch.where(is_scribble, FOREGROUND, ABSENT).expand(-1, -1, config.scribble_length - 1)
        labels = torch.cat((labels, extra), dim=2)
    absent = ~found | (kind == _MASK)
    labels = labels.masked_fill(absent[..., None], ABSENT)
    points = points.masked_fill((labels < 0)[..., None], 0.0)
    masks = has_mask = None
    if config.mask > 0:
        masks = degrade_masks(_resize(truth, mask_size), generator=generator)
        has_mask = kind == _MASK
    return SimulatedPrompts(points=points, labels=labels, masks=masks, has_mask=has_mask, single=is_point)


@torch.no_grad()
def correction_points(
    logits: Float[Tensor, "b p hm wm"],
    truth: Bool[Tensor, "b p h w"],
    *,
    image_size: int,
    valid: Bool[Tensor, "b h w"] | None = None,
    centre: float = 0.0,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b p 2"], Int[Tensor, "b p"]]:
    """Next clicks: uniform in the error of the prediction, foreground on a false negative, else background.

    The logits are brought to the truth's grid and cut at 0; padding is never an error. A share of `centre` of the
    clicks is made where what is missing or what is too much is deepest instead. *Decision:* where no error is left the
    click is a foreground point anywhere in the truth, and absent (−2) where the truth is empty too.
    """
    if logits.shape[-2:] != truth.shape[-2:]:
        logits = F.interpolate(logits.float(), size=truth.shape[-2:], mode="bilinear", align_corners=False)
    error = (logits > 0) != truth
    if valid is not None:
        error = error & valid[:, None]
    kinds_BPKHW = torch.stack((error & truth, error & ~truth), dim=2)
    kinds_BPKHW[:, :, 0] |= truth & ~error.flatten(2).any(dim=2)[..., None, None]
    index, found = click_cells(kinds_BPKHW, centre, generator)
    is_object = truth.flatten(2).gather(2, index[..., None])[..., 0]
    labels = torch.where(is_object, FOREGROUND, BACKGROUND).masked_fill(~found, ABSENT)
    points = cells_to_points(index, (truth.shape[-2], truth.shape[-1]), image_size, generator)
    return points.masked_fill(~found[..., None], 0.0), labels


def _draw_kinds(truth: Tensor, config: PromptConfig, generator: torch.Generator) -> Tensor:
    """Kind of each prompt, (b, p), drawn by the config's weights."""
    if config.scribble > 0 and config.scribble_length < 2:
        raise ValueError(f"scribble_length is {config.scribble_length}: a scribble has at least 2 points")
    if min(config.weights) < 0 or sum(config.weights) <= 0:
        raise ValueError(
            f"the weights of point, box, scribble and mask are {config.weights}: "
            "none may be negative, and one must be positive"
        )
    weights = torch.tensor(config.weights, device=truth.device)
    draw = torch.rand(truth.shape[:2], generator=generator, device=truth.device) * weights.sum()
    return torch.searchsorted(weights.cumsum(0), draw, right=True).clamp(max=len(config.weights) - 1)


def _noisy_boxes(
    truth: Tensor, config: PromptConfig, image_size: int, valid: Tensor | None, generator: torch.Generator
) -> Tensor:
    if valid is None:
        limit = torch.full((truth.shape[0], 2), float(image_size), device=truth.device)
    else:
        limit = masks_to_boxes(valid, image_size)[:, 2:]
    return jitter_boxes(
        masks_to_boxes(truth, image_size),
        std=config.box_noise,
        max_noise=config.max_box_noise * image_size / 1024,
        limit=limit,
        generator=generator,
    )


def _resize(truth: Tensor, size: int | None) -> Tensor:
    """Truth on a square grid of that side, a cell being filled when half of it is."""
    if size is None or tuple(truth.shape[-2:]) == (size, size):
        return truth
    return F.interpolate(truth.float(), size=(size, size), mode="area") >= 0.5


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
