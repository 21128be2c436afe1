"""Segment anything, with any prompt: the promptable task, the model and the data engine in one package.

    model = anymask.load("anymask-s")
    predictor = anymask.Predictor(model)
    predictor.set_image("photo.jpg")
    masks = predictor.predict(points=[(520, 375)])

    anymask.segment_folder("photographs", "masks")
    anymask.finetune("photographs", "annotations.json", "mine.safetensors")

What is not an error is imported when it is first used, so that importing the package loads neither torch nor OpenCV.
Its two effects: threads of torch, imported later, wait without spinning (`anymask.threads`), and modules of former
names can be imported (`anymask.moved`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from anymask.errors import (
    AnymaskError,
    CheckpointError,
    DataError,
    DownloadError,
    ImageError,
    InputError,
    MissingPackageError,
    OutputError,
    PromptError,
    RecipeError,
    UnknownModelError,
    UnsafeCheckpointError,
)
from anymask.moved import install as _allow_former_names
from anymask.threads import wait_passively

if TYPE_CHECKING:
    from anymask.inference import (
        AutomaticMasks,
        AutomaticOptions,
        EmbeddingCache,
        MaskRecord,
        Masks,
        Predictor,
        Prompt,
        Refinement,
        Session,
        load,
    )
    from anymask.workflows.finetune import finetune
    from anymask.workflows.folder_run import segment_folder

__version__ = "0.1.0"

__all__ = [
    "AnymaskError",
    "AutomaticMasks",
    "AutomaticOptions",
    "CheckpointError",
    "DataError",
    "DownloadError",
    "EmbeddingCache",
    "ImageError",
    "InputError",
    "MaskRecord",
    "Masks",
    "MissingPackageError",
    "OutputError",
    "Predictor",
    "Prompt",
    "PromptError",
    "RecipeError",
    "Refinement",
    "Session",
    "UnknownModelError",
    "UnsafeCheckpointError",
    "__version__",
    "finetune",
    "load",
    "segment_folder",
]

_HOMES = {
    "load": ("anymask.inference", "load"),
    "AutomaticMasks": ("anymask.inference", "AutomaticMasks"),
    "AutomaticOptions": ("anymask.inference", "AutomaticOptions"),
    "EmbeddingCache": ("anymask.inference", "EmbeddingCache"),
    "MaskRecord": ("anymask.inference", "MaskRecord"),
    "Masks": ("anymask.inference", "Masks"),
    "Predictor": ("anymask.inference", "Predictor"),
    "Prompt": ("anymask.inference", "Prompt"),
    "Refinement": ("anymask.inference", "Refinement"),
    "Session": ("anymask.inference", "Session"),
    "finetune": ("anymask.workflows.finetune", "finetune"),
    "segment_folder": ("anymask.workflows.folder_run", "segment_folder"),
}

wait_passively()
_allow_former_names()


def __getattr__(name: str) -> object:
    """Import a name of the public face from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'anymask' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value: object = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public face, imported or not."""
    return sorted({*globals(), *__all__})
