"""The network: image encoders, prompt encoder, mask decoder, and the sizes that have names."""

from anymask.model.config import (
    SIZES,
    CompactConfig,
    DecoderConfig,
    EfficientNetLiteConfig,
    SamConfig,
    TextConfig,
    TinyViTConfig,
    ViTConfig,
)
from anymask.model.prompt_encoder import PointLabel, Prompts
from anymask.model.sam import MASK_THRESHOLD, Embedding, Sam, build_sam

__all__ = [
    "MASK_THRESHOLD",
    "SIZES",
    "CompactConfig",
    "DecoderConfig",
    "EfficientNetLiteConfig",
    "Embedding",
    "PointLabel",
    "Prompts",
    "Sam",
    "SamConfig",
    "TextConfig",
    "TinyViTConfig",
    "ViTConfig",
    "build_sam",
]
