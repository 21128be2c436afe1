"""The network: image encoders, prompt encoder, mask decoder, and the sizes that have names."""

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
from anymask.model.mask_decoder import Answer
from anymask.model.sam import MASK_THRESHOLD, Embedding, Sam, build_sam
from anymask.prompts import PointLabel, Prompts

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
