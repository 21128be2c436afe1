"""What a recipe costs before an hour is spent: parameters, operations per step, memory a GPU, hours on a number of
them.

Operations are exact (`anymask.training.cost.flops`); memory is what autograd keeps
(`anymask.training.cost.activations`) and what the optimiser holds; hours divide the operations by a GPU's published
dense peak times an efficiency, which is an assumption. Loading of data, communication and the simulated prompts are no
operations: they are in the efficiency.

The paper's ViT-H took 256 A100 for 68 hours (SAM, app. A): 2.7 s for the 26.5 TFLOP of an image and step, which is 3 %
of an A100's peak in bfloat16 but 50 % of its peak in float32 without tensor cores. The plan's 76 hours in float32 agree
within an eighth; its 6 hours in bfloat16 are eleven times fewer. The paper does not say in which of them it trained, or
what share of its time was no arithmetic: eleven rounds of clicks on full masks, data, and waiting for 256 processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from anymask.checkpoints.tensors import empty_model
from anymask.errors import InputError
from anymask.model import ViTConfig
from anymask.model.mae import MaskedAutoencoder
from anymask.training.config import Recipe
from anymask.training.cost.activations import encoder_bytes, round_bytes
from anymask.training.cost.flops import block_flops, encoder_flops, mae_flops, rounds_flops

PEAKS = {
    "v100": (15.7, 15.7, 32),
    "a10": (31.2, 125.0, 24),
    "a100": (19.5, 312.0, 80),
    "l40s": (91.6, 362.0, 48),
    "rtx4090": (82.6, 165.2, 24),
    "h100": (66.9, 989.4, 80),
    "h200": (66.9, 989.4, 141),
    "b200": (75.0, 2250.0, 180),
}
"""Dense peaks in TFLOP/s of float32 (without tensor cores, torch's default) and bfloat16, and GB of memory."""
EFFICIENCY = {"float32": 0.45, "bfloat16": 0.35}
"""Shares of the peak that training reaches where nothing else is said; assumptions, not measurements."""
_STATE_BYTES = 16
"""A trained parameter's, its gradient's and Adam's two moments, in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cost of a run; operations are of one image in one step, bytes of one process, hours of the whole run."""

    recipe_kind: str
    size: str
    image_size: int
    steps: int
    batch: int
    """Images a step, over all processes and accumulated batches."""
    parameters: dict[str, int]
    encoder_flops: int
    decoder_flops: int
    """All rounds' forward passes, or the autoencoder's decoder's."""
    flops_per_image: int
    """Operations per image, forward and backward."""
    flops_per_image_checkpointed: int
    """The same where each block of the encoder is computed again for its gradient."""
    flops_per_step: int
    state_bytes: int
    activation_bytes: int | None
    """None for pre-training, whose activations are not counted."""
    activation_bytes_checkpointed: int | None
    gpu: str
    gpus: int
    efficiency: dict[str, float]
    hours: dict[str, float]
    """Hours of the run, by precision."""


def plan_run(recipe: Recipe, *, gpu: str = "a100", gpus: int | None = None, efficiency: float | None = None) -> Plan:
    """Count a recipe's cost; `gpus` (the recipe's processes by default) share its batch, whatever their number.

    Raises InputError for a GPU of no known peak, or an efficiency that is no share.
    """
    if gpu not in PEAKS:
        raise InputError(f"no peak is known of the GPU {gpu!r}; there are {', '.join(PEAKS)}")
    number = recipe.run.processes if gpus is None else gpus
    if number < 1 or (efficiency is not None and not 0 < efficiency <= 1):
        raise InputError(
            f"{number} GPUs at an efficiency of {efficiency}: at least 1, above 0 and at most 1 are needed"
        )
    config, run = recipe.model.build(), recipe.run
    again = 0
    if recipe.kind == "mae":
        with torch.device("meta"):
            parameters = _by_part(MaskedAutoencoder(config, recipe.mae))
        encoder, decoder = mae_flops(config, recipe.mae)
        kept: tuple[int | None, int | None] = (None, None)
    else:
        parameters = _by_part(empty_model(config))
        encoder, decoder = encoder_flops(config), rounds_flops(config, recipe.rounds, run.num_masks)
        vit = config.encoder
        if isinstance(vit, ViTConfig):
            again = sum(block_flops(vit, config.embedding_size, i in vit.global_blocks) for i in range(vit.depth))
        kept = _activations(recipe)
    batch = run.batch_size * run.processes * recipe.optim.accumulate
    per_image = 3 * (encoder + decoder)
    shares = {kind: efficiency or usual for kind, usual in EFFICIENCY.items()}
    rates = dict(zip(EFFICIENCY, PEAKS[gpu][:2], strict=True))
    spent = per_image + again if run.checkpointing else per_image
    seconds = {kind: run.steps * batch * spent / (number * rates[kind] * 1e12 * shares[kind]) for kind in shares}
    return Plan(
        recipe_kind=recipe.kind,
        size=recipe.model.size,
        image_size=config.image_size,
        steps=run.steps,
        batch=batch,
        parameters=parameters,
        encoder_flops=encoder,
        decoder_flops=decoder,
        flops_per_image=per_image,
        flops_per_image_checkpointed=per_image + again,
        flops_per_step=batch * spent,
        state_bytes=sum(parameters.values()) * (_STATE_BYTES + (4 if recipe.optim.ema else 0)),
        activation_bytes=kept[0],
        activation_bytes_checkpointed=kept[1],
        gpu=gpu,
        gpus=number,
        efficiency=shares,
        hours={kind: value / 3600 for kind, value in seconds.items()},
    )


def _by_part(model: nn.Module) -> dict[str, int]:
    return {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}


def _activations(recipe: Recipe) -> tuple[int, int]:
    """Return the bytes of a process's batch: the images' encoding, and one round's answers (of the most points)."""
    config, run = recipe.model.build(), recipe.run
    precision = getattr(torch, run.precision)
    whole, again = encoder_bytes(config, precision)
    answers = round_bytes(config, run.num_masks, 2 + recipe.rounds.num_corrections, precision)
    return run.batch_size * (whole + answers), run.batch_size * ((again or whole) + answers)
