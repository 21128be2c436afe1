"""How much memory a fine-tuning takes, estimated before it begins, and how much there is."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from anymask.errors import InputError
from anymask.model import Sam
from anymask.training.cost.activations import encoder_bytes, round_bytes
from anymask.training.finetuning.finetune import FinetuneConfig

_TRAINED_BYTES = 20
"""A trained parameter's, its gradient's, Adam's two moments' and its average's, in float32."""
_COPIES = 3
"""Whole models held at a time: the one before, the tuned one, a mixture of both."""
_OVERHEAD = 1.15
"""What allocators and simulated prompts take beyond, as a factor: a guess on the safe side."""


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
