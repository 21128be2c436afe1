"""Masks from a trained model: prompts on an image, conversations, everything at once, embeddings kept on disk.

None of it imports torch before a model of torch is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymask.inference.answers import EncodedImage, Masks
from anymask.inference.automatic.label_maps import label_map
from anymask.inference.automatic.masks import AutomaticMasks, MaskRecord
from anymask.inference.automatic.options import AutomaticOptions
from anymask.inference.automatic.tiled import TiledMasks
from anymask.inference.automatic.tree import build_tree
from anymask.inference.embeddings import EmbeddingCache
from anymask.inference.loading import load
from anymask.inference.predictor import Predictor
from anymask.inference.prompts import Prompt
from anymask.inference.refinement import PLAIN, Refinement
from anymask.inference.session import Session, Step
from anymask.inference.words.text import TextInstance, TextMasks, TextOptions

if TYPE_CHECKING:
    from anymask.inference.acceleration import accelerate

__all__ = [
    "PLAIN",
    "AutomaticMasks",
    "AutomaticOptions",
    "EmbeddingCache",
    "EncodedImage",
    "MaskRecord",
    "Masks",
    "Predictor",
    "Prompt",
    "Refinement",
    "Session",
    "Step",
    "TextInstance",
    "TextMasks",
    "TextOptions",
    "TiledMasks",
    "accelerate",
    "build_tree",
    "label_map",
    "load",
]


def __getattr__(name: str) -> object:
    """Import what is torch's alone when it is first used (PEP 562)."""
    if name != "accelerate":
        raise AttributeError(f"module 'anymask.inference' has no attribute {name!r}")
    from anymask.inference.acceleration import accelerate

    return accelerate
