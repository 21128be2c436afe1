"""The promptable segmentation task: simulated prompts, the rounds of an interaction, and the losses."""

from anymask.prompts import SimulatedPrompts
from anymask.task.losses import (
    LossConfig,
    MaskLoss,
    ambiguous_targets,
    binary_cross_entropy,
    dice_loss,
    focal_loss,
    mask_loss,
    true_iou,
)
from anymask.task.prompts import PromptConfig, correction_points, initial_prompts
from anymask.task.rounds import PromptableDecoder, Round, RoundsConfig, round_schedule, rounds_with_loss, simulate

__all__ = [
    "LossConfig",
    "MaskLoss",
    "PromptConfig",
    "PromptableDecoder",
    "Round",
    "RoundsConfig",
    "SimulatedPrompts",
    "ambiguous_targets",
    "binary_cross_entropy",
    "correction_points",
    "dice_loss",
    "focal_loss",
    "initial_prompts",
    "mask_loss",
    "round_schedule",
    "rounds_with_loss",
    "simulate",
    "true_iou",
]
