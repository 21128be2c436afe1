"""Models loaded to be asked: `anymask.load`."""

from __future__ import annotations

from pathlib import Path

import torch

from anymask.checkpoints.load import load_model
from anymask.inference.runtimes import RuntimeName, use
from anymask.model import Sam


def load(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    runtime: RuntimeName = "auto",
) -> Sam:
    """Load a model, ready for inference: see `anymask.checkpoints.load_model` for names, types and what it raises.

    `runtime` says what computes its answers on the CPU (`anymask.inference.runtimes.use`): "torch", "onnxruntime" or
    "openvino", which export the model once, or "auto", the fastest by the figures of `anymask models tune`, else torch.
    """
    return use(load_model(name_or_path, device=device, dtype=dtype, image_size=image_size), runtime)
