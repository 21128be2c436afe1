"""Losses of the promptable task: focal, dice and cross-entropy on masks, regression of their IoU.

Shape legend: B images, P prompts per image, M candidate masks per prompt, H × W the grid of the logits. Every
loss of a mask is a mean or a ratio over that mask's own pixels, so that neither the batch nor the number of
prompts scales it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights and shapes of the losses; the defaults are the paper's (SAM, sec. 3 and app. A).

    `bce` is ours: a small network trained from nothing answers focal loss with empty masks, and needs
    cross-entropy first. `iou_on` says whose predicted IoU is regressed: that of the lowest-loss candidate
    (the paper, as we read it) or of every candidate, which teaches the ranking of the candidates sooner.
    `ambiguity` weighs the other right answers to an ambiguous point (`ambiguous_targets`); 0 is the paper.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"nested": "ambiguity"}
    """Former keys of recipes, and what they are called now."""

    focal: float = 20.0
    dice: float = 1.0
    bce: float = 0.0
    iou: float = 1.0
    ambiguity: float = 0.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    iou_on: Literal["best", "all"] = "best"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLoss:
    """Loss of one round: `total` carries the gradient, the other scalars are detached and unweighted.

    `best` is the lowest-loss candidate of each prompt, `true_iou` the IoU of every candidate cut at logit 0.
    """

    total: Float[Tensor, ""]
    focal: Float[Tensor, ""]
    dice: Float[Tensor, ""]
    bce: Float[Tensor, ""]
    iou: Float[Tensor, ""]
    best: Int[Tensor, "b p"]
    true_iou: Float[Tensor, "b p m"]


def focal_loss(
    logits: Float[Tensor, "*masks h w"],
    truth: Bool[Tensor, "*#masks h w"],
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    valid: Bool[Tensor, "*#masks h w"] | None = None,
) -> Float[Tensor, "*masks"]:
    """Sigmoid focal loss of each mask, the mean over its valid pixels (Lin et al. 2017; SAM, app. A).

    Inputs of any float type; computed in float32.
    """
    wrong = _logit_of_being_wrong(logits, truth)
    weight = torch.where(truth, alpha, 1.0 - alpha)
    return _mean_over_pixels(weight * wrong.sigmoid().pow(gamma) * F.softplus(wrong), valid)


def binary_cross_entropy(
    logits: Float[Tensor, "*masks h w"],
    truth: Bool[Tensor, "*#masks h w"],
    *,
    valid: Bool[Tensor, "*#masks h w"] | None = None,
) -> Float[Tensor, "*masks"]:
    """Binary cross-entropy of each mask, the mean over its valid pixels; computed in float32."""
    return _mean_over_pixels(F.softplus(_logit_of_being_wrong(logits, truth)), valid)


def dice_loss(
    logits: Float[Tensor, "*masks h w"],
    truth: Bool[Tensor, "*#masks h w"],
    *,
    valid: Bool[Tensor, "*#masks h w"] | None = None,
) -> Float[Tensor, "*masks"]:
    """Soft dice loss of each mask, 1 − (2|p∩t| + 1) / (|p| + |t| + 1), never pooled over masks (SAM, app. A).

    The + 1 keeps an empty truth finite: the loss then falls to 0 as the prediction empties. Computed in
    float32.
    """
    probability = logits.float().sigmoid()
    if valid is not None:
        probability = probability * valid
        truth = truth & valid
    overlap = (probability * truth).sum(dim=(-2, -1))
    size = probability.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1))
    return 1.0 - (2.0 * overlap + 1.0) / (size + 1.0)


@torch.no_grad()
def true_iou(
    logits: Float[Tensor, "*masks h w"],
    truth: Bool[Tensor, "*#masks h w"],
    *,
    valid: Bool[Tensor, "*#masks h w"] | None = None,
) -> Float[Tensor, "*masks"]:
    """IoU of each mask, cut at logit 0, with the truth; 1 where both are empty. Carries no gradient."""
    predicted = logits > 0
    if valid is not None:
        predicted = predicted & valid
        truth = truth & valid
    intersection = (predicted & truth).sum(dim=(-2, -1))
    union = predicted.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1)) - intersection
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)


def mask_loss(
    logits: Float[Tensor, "b p m h w"],
    iou: Float[Tensor, "b p m"],
    truth: Bool[Tensor, "b p h w"],
    config: LossConfig,
    *,
    candidates: Bool[Tensor, "b p m"] | None = None,
    valid: Bool[Tensor, "b h w"] | None = None,
    present: Bool[Tensor, "b p"] | None = None,
    others: tuple[Bool[Tensor, "b p o h w"], Bool[Tensor, "b p o"]] | None = None,
) -> MaskLoss:
    """Loss of a round: the minimum over candidates of the weighted mask losses, plus the regression of IoU.

    Only the candidate of lowest mask loss is back-propagated (SAM, app. A). `candidates` marks those that
    count (None: all; at least one per prompt), `valid` the pixels inside the image rather than its padding,
    `present` the prompts that are real; the scalars are means over the present prompts, and 0 where there are
    none. `others` are further right answers to each prompt and which of them there are: truth and others are
    then given to different candidates, in the way that costs least, and the others' losses count
    `config.ambiguity` each; the logged scalars and the IoU remain the truth's.
    """
    if logits.shape[-2:] != truth.shape[-2:]:
        raise ValueError(f"the truth's grid {tuple(truth.shape[-2:])} is not the logits' {tuple(logits.shape[-2:])}")
    truths, weights = _right_answers(truth, others, config)
    costs = _pairwise_costs(logits.detach(), truths, valid, config)
    assigned = _assign(costs, weights, candidates)
    index = assigned[..., None, None].expand(-1, -1, -1, *logits.shape[-2:])
    taught = logits.gather(2, index) if logits.shape[2] > 1 else logits
    terms = _mask_terms(taught, truths, None if valid is None else valid[:, None, None], config)
    best = assigned[:, :, 0]
    valid_B11HW = None if valid is None else valid[:, None, None]
    truth_of_iou = true_iou(logits, truth[:, :, None], valid=valid_B11HW)
    iou_error = _mean_over_prompts(_iou_error(iou, truth_of_iou, best, candidates, config), present)
    weighted = [getattr(config, name) * (values * weights).sum(2) for name, values in terms.items()]
    total = config.iou * iou_error + sum(_mean_over_prompts(values, present) for values in weighted)
    zero = total.detach().new_zeros(())
    logged = {name: _mean_over_prompts(values[:, :, 0].detach(), present) for name, values in terms.items()}
    return MaskLoss(
        total=total,
        best=best,
        true_iou=truth_of_iou,
        iou=iou_error.detach(),
        **{name: logged.get(name, zero) for name in ("focal", "dice", "bce")},
    )


def _right_answers(
    truth: Tensor, others: tuple[Tensor, Tensor] | None, config: LossConfig
) -> tuple[Bool[Tensor, "b p t h w"], Float[Tensor, "b p t"]]:
    """The truth and the others beside it, and what each one's loss counts."""
    truths = truth[:, :, None]
    weights = torch.ones(truths.shape[:3], device=truth.device)
    if others is None or not config.ambiguity:
        return truths, weights
    masks, there = others
    return torch.cat((truths, masks), dim=2), torch.cat((weights, config.ambiguity * there), dim=2)


def _mask_terms(logits: Tensor, truth: Tensor, valid: Tensor | None, config: LossConfig) -> dict[str, Tensor]:
    """Unweighted losses, per mask, that the config gives a weight."""
    terms: dict[str, Tensor] = {}
    if config.focal:
        alpha, gamma = config.focal_alpha, config.focal_gamma
        terms["focal"] = focal_loss(logits, truth, alpha=alpha, gamma=gamma, valid=valid)
    if config.dice:
        terms["dice"] = dice_loss(logits, truth, valid=valid)
    if config.bce:
        terms["bce"] = binary_cross_entropy(logits, truth, valid=valid)
    return terms


@torch.no_grad()
def _pairwise_costs(
    logits: Float[Tensor, "b p m h w"], truths: Bool[Tensor, "b p t h w"], valid: Tensor | None, config: LossConfig
) -> Float[Tensor, "b p m t"]:
    """Weighted mask loss of every candidate against every right answer.

    A pixel's loss is one of two values, so that its sum over a mask is linear in the truth: a matrix product over
    pixels does all pairs. Found without gradient and computed again with it for those assigned: cheaper in time and
    memory than a graph over every candidate.
    """
    count = logits.shape[2], truths.shape[2]
    if count == (1, 1):
        return logits.new_zeros((*logits.shape[:2], 1, 1), dtype=torch.float32)
    logits = logits.flatten(3).float()
    inside = truths.new_ones((1, 1, 1, 1)) if valid is None else valid.flatten(1)[:, None, None]
    truth = (truths.flatten(3) & inside).float().transpose(2, 3)
    num_pixels = float(logits.shape[3]) if valid is None else inside.sum(3, keepdim=True).clamp(min=1)
    costs = logits.new_zeros((*logits.shape[:2], *count))
    if config.bce:
        everywhere = (F.softplus(logits) * inside).sum(3, keepdim=True)
        costs += config.bce * (everywhere - logits @ truth) / num_pixels
    if config.focal:
        alpha, gamma = config.focal_alpha, config.focal_gamma
        if_true = alpha * logits.neg().sigmoid().pow(gamma) * F.softplus(-logits)
        if_false = (1 - alpha) * logits.sigmoid().pow(gamma) * F.softplus(logits)
        everywhere = (if_false * inside).sum(3, keepdim=True)
        costs += config.focal * (everywhere + (if_true - if_false) @ truth) / num_pixels
    if config.dice:
        probability = logits.sigmoid() * inside
        size = probability.sum(3, keepdim=True) + truth.sum(2, keepdim=True)
        costs += config.dice * (1.0 - (2.0 * (probability @ truth) + 1.0) / (size + 1.0))
    return costs


def _assign(
    costs: Float[Tensor, "b p m t"], weights: Float[Tensor, "b p t"], candidates: Tensor | None
) -> Int[Tensor, "b p t"]:
    """Candidate of each right answer, all different, of least weighted cost; what has no weight takes what is left."""
    num_candidates, num_answers = costs.shape[2:]
    ways = torch.tensor(list(itertools.permutations(range(num_candidates), num_answers)), device=costs.device)
    if not len(ways):
        raise ValueError(f"{num_answers} right answers and {num_candidates} candidates: each needs one of its own")
    if candidates is not None:
        costs = costs.masked_fill(~candidates[..., None], torch.inf)
    costs = torch.where(weights[:, :, None] > 0, costs * weights[:, :, None], 0.0)
    answers = torch.arange(num_answers, device=costs.device)
    return ways[costs[:, :, ways, answers].sum(3).argmin(2)]


def _iou_error(iou: Tensor, truth: Tensor, best: Tensor, candidates: Tensor | None, config: LossConfig) -> Tensor:
    """Squared error of the predicted IoU, (b, p): the best candidate's, or the mean over those that count."""
    error = (iou.float() - truth).square()
    if config.iou_on == "best":
        return error.gather(2, best[..., None])[..., 0]
    if candidates is None:
        return error.mean(dim=2)
    return torch.where(candidates, error, 0.0).sum(dim=2) / candidates.sum(dim=2).clamp(min=1)


def _logit_of_being_wrong(logits: Tensor, truth: Tensor) -> Tensor:
    """Logit of the class that the pixel is not, in float32: all of focal loss is a function of it, stably."""
    logits = logits.float()
    return torch.where(truth, -logits, logits)


def _mean_over_pixels(values: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return values.mean(dim=(-2, -1))
    return (values * valid).sum(dim=(-2, -1)) / valid.sum(dim=(-2, -1)).clamp(min=1)


def _mean_over_prompts(values: Tensor, present: Tensor | None) -> Tensor:
    if present is None:
        return values.mean()
    return torch.where(present, values, 0.0).sum() / present.sum().clamp(min=1)


NUM_OTHERS = 2
"""Right answers beside the one asked for: three candidates have no room for more."""

_SAME_IOU = 0.9


@torch.no_grad()
def ambiguous_targets(
    points: Float[Tensor, "b p 2"],
    truth: Bool[Tensor, "b p h w"],
    masks: Bool[Tensor, "b o h w"],
    *,
    image_size: int,
    generator: torch.Generator,
) -> tuple[Bool[Tensor, "b p 2 h w"], Bool[Tensor, "b p 2"]]:
    """Two of the masks that hold each point and are not its truth, drawn at random, and which of the two there are.

    The paper teaches a lone point's three candidates by the best of them alone, and leaves it to millions of images
    that they come to mean whole, part and subpart (SAM, sec. 3). From few images they do not: here each of the masks
    round the point may have a candidate of its own. O are the masks known of an image, h × w their grid.

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
