"""Weights from files, folders and published names, and back into files."""

from anymask.checkpoints.average import average_models
from anymask.checkpoints.load import (
    EMBEDDED,
    Format,
    Kind,
    load_model,
    model_hash,
    read_checkpoint,
    read_memory,
    save_model,
)

__all__ = [
    "EMBEDDED",
    "Format",
    "Kind",
    "average_models",
    "load_model",
    "model_hash",
    "read_checkpoint",
    "read_memory",
    "save_model",
]
