"""What a recipe costs before an hour is spent: parameters, operations per step, memory per GPU, hours on a number of
them; and whether a fine-tuning fits in the memory that is free.

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

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from anymask.checkpoints.tensors import empty_model
from anymask.errors import InputError
from anymask.model import Sam, ViTConfig
from anymask.model.mae import MaskedAutoencoder
from anymask.training.config import Recipe
from anymask.training.cost.activations import encoder_bytes, round_bytes
from anymask.training.cost.flops import block_flops, encoder_flops, mae_flops, rounds_flops
from anymask.training.finetuning.finetune import FinetuneConfig

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
_TRAINED_BYTES = 20
"""A trained parameter's, its gradient's, Adam's two moments' and its average's, in float32."""
_COPIES = 3
"""Whole models held at a time: the one before, the tuned one, a mixture of both."""
_OVERHEAD = 1.15
"""What allocators and simulated prompts take beyond, as a factor: a guess on the safe side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cost of a run; operations are of one image in one step, bytes of one process, hours of the whole run."""

    recipe_kind: str
    size: str
    image_size: int
    steps: int
    batch: int
    """Images per step, over all processes and accumulated batches."""
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

    Raises InputError for a GPU of no known peak, or an efficiency that is not a share.
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


def needed_bytes(model: Sam, config: FinetuneConfig) -> int:
    """Return an estimate of the memory that fine-tuning takes, all copies of the weights included."""
    size, precision = model.config, getattr(torch, config.run.precision)
    weights = sum(p.numel() for p in model.parameters())
    decoder = sum(p.numel() for p in model.mask_decoder.parameters())
    answers = round_bytes(size, config.run.num_masks, 2 + config.rounds.num_corrections, precision)
    encoding = 0 if config.mode == "decoder" else encoder_bytes(size, precision)[0]
    trained = weights if config.mode == "all" else decoder
    copies = _COPIES + (0 if config.mode == "decoder" else 1)
    held = 4 * weights * copies + _TRAINED_BYTES * trained + config.run.batch_size * (answers + encoding)
    return int(held * _OVERHEAD)


def available_bytes(device: torch.device | str) -> int | None:
    """Return the memory that is free on a device; None where nothing tells."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    lines = Path("/proc/meminfo")
    if lines.exists():
        values = dict(line.split(":", 1) for line in lines.read_text().splitlines() if ":" in line)
        return int(values["MemAvailable"].split()[0]) * 1024
    if "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def check_memory(model: Sam, config: FinetuneConfig, *, available: int | None = None) -> int:
    """Return the estimate; raises InputError where it is more than is free on the run's device."""
    needed = needed_bytes(model, config)
    free = available_bytes(config.run.device) if available is None else available
    if free is not None and needed > free:
        other = "" if config.mode == "decoder" else "use --mode decoder, or "
        raise InputError(
            f"fine-tuning ({config.mode}) takes about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} are free: "
            f"{other}lower run.batch_size ({config.run.batch_size}) or run.num_masks ({config.run.num_masks}) in a "
            "recipe"
        )
    return needed
