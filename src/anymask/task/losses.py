"""Losses of the promptable task: focal, dice and cross-entropy on masks, regression of their IoU.

Shape legend: B images, P prompts an image, M candidate masks a prompt, H × W the grid of the logits. Every
loss of a mask is a mean or a ratio over that mask's own pixels, so that neither the batch nor the number of
prompts scales it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """

    focal: float = 20.0
    dice: float = 1.0
    bce: float = 0.0
    iou: float = 1.0
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
) -> MaskLoss:
    """Loss of a round: the minimum over candidates of the weighted mask losses, plus the regression of IoU.

    Only the candidate of lowest mask loss is back-propagated (SAM, app. A). `candidates` marks those that
    count (None: all; at least one a prompt), `valid` the pixels inside the image rather than its padding,
    `present` the prompts that are real; the scalars are means over the present prompts, and 0 where there are
    none.
    """
    if logits.shape[-2:] != truth.shape[-2:]:
        raise ValueError(f"the truth's grid {tuple(truth.shape[-2:])} is not the logits' {tuple(logits.shape[-2:])}")
    truth_BP1HW = truth[:, :, None]
    valid_B11HW = None if valid is None else valid[:, None, None]
    best = _lowest_loss(logits, truth_BP1HW, valid_B11HW, candidates, config)
    if logits.shape[2] > 1:
        index = best[:, :, None, None, None].expand(-1, -1, 1, *logits.shape[-2:])
        best_logits = logits.gather(2, index)[:, :, 0]
    else:
        best_logits = logits[:, :, 0]
    valid_B1HW = None if valid is None else valid[:, None]
    parts = _mask_terms(best_logits, truth, valid_B1HW, config)
    truth_of_iou = true_iou(logits, truth_BP1HW, valid=valid_B11HW)
    parts["iou"] = _iou_error(iou, truth_of_iou, best, candidates, config)
    means = {name: _mean_over_prompts(values, present) for name, values in parts.items()}
    total = torch.stack([getattr(config, name) * mean for name, mean in means.items()]).sum()
    zero = total.detach().new_zeros(())
    logged = {name: means[name].detach() if name in means else zero for name in ("focal", "dice", "bce", "iou")}
    return MaskLoss(total=total, best=best, true_iou=truth_of_iou, **logged)


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
def _lowest_loss(
    logits: Tensor, truth: Tensor, valid: Tensor | None, candidates: Tensor | None, config: LossConfig
) -> Tensor:
    """Index (b, p) of the candidate of lowest mask loss.

    Found without gradient and computed again with it for the winner: cheaper in time and memory than a graph
    over every candidate.
    """
    if logits.shape[2] == 1:
        return torch.zeros(logits.shape[:2], dtype=torch.long, device=logits.device)
    terms = _mask_terms(logits, truth, valid, config)
    loss = torch.zeros(logits.shape[:3], device=logits.device)
    for name, values in terms.items():
        loss = loss + getattr(config, name) * values
    if candidates is not None:
        loss = loss.masked_fill(~candidates, torch.inf)
    return loss.argmin(dim=2)


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
