"""Meta's module of the network: its parts are anymask's."""

from __future__ import annotations

from anymask.compat.segment_anything import Sam
from anymask.model.image_encoder import ImageEncoderViT
from anymask.model.mask_decoder import MaskDecoder
from anymask.model.prompt_encoder import PromptEncoder
from anymask.model.two_way import TwoWayTransformer

__all__ = ["ImageEncoderViT", "MaskDecoder", "PromptEncoder", "Sam", "TwoWayTransformer"]
