"""The network: image encoders, prompt encoder, mask decoder, and the sizes that have names.

The network itself is imported when it is first used: torch comes with it, and runtimes that run graphs need none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymask.model.config import (
    SIZES,
    CompactConfig,
    DecoderConfig,
    EfficientNetLiteConfig,
    HieraConfig,
    PlainViTConfig,
    RepViTConfig,
    SamConfig,
    TextConfig,
    TinyViTConfig,
    ViTConfig,
)
from anymask.model.embedding import MASK_THRESHOLD, Answer, Embedding
from anymask.prompts import PointLabel, Prompts

if TYPE_CHECKING:
    from anymask.model.sam import Sam, build_sam

__all__ = [
    "MASK_THRESHOLD",
    "SIZES",
    "Answer",
    "CompactConfig",
    "DecoderConfig",
    "EfficientNetLiteConfig",
    "Embedding",
    "HieraConfig",
    "PlainViTConfig",
    "PointLabel",
    "Prompts",
    "RepViTConfig",
    "Sam",
    "SamConfig",
    "TextConfig",
    "TinyViTConfig",
    "ViTConfig",
    "build_sam",
]


def __getattr__(name: str) -> object:
    """Import the network's names from their home (PEP 562)."""
    if name not in ("Sam", "build_sam"):
        raise AttributeError(f"module 'anymask.model' has no attribute {name!r}")
    from anymask.model import sam

    return getattr(sam, name)
