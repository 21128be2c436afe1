"""The whole model: an image encoded once, any number of prompts answered on it.

Legend: B images, P prompts per image, M masks, S side of the padded square input. Source: SAM, sec. 3.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.geometry.frames import Frame
from anymask.model.amortised import SharedImage
from anymask.model.compact_encoder import CompactEncoder
from anymask.model.config import (
    CompactConfig,
    EfficientNetLiteConfig,
    EncoderConfig,
    HieraConfig,
    PlainViTConfig,
    RepViTConfig,
    SamConfig,
    TinyViTConfig,
    ViTConfig,
)
from anymask.model.efficientnet_encoder import EfficientNetEncoder
from anymask.model.embedding import Answer, Embedding
from anymask.model.hiera import Hiera
from anymask.model.hq_decoder import HQMaskDecoder
from anymask.model.image_encoder import ImageEncoderViT
from anymask.model.mask_decoder import MaskDecoder, settled
from anymask.model.mask_features import MaskRanker
from anymask.model.plain_vit import PlainViTEncoder
from anymask.model.prompt_encoder import PromptEncoder
from anymask.model.pyramid import PyramidEncoder
from anymask.model.repvit import RepViT
from anymask.model.tiny_vit import TinyViTEncoder
from anymask.prompts import Prompts


class Sam(nn.Module):
    """Segment Anything, trainable as it stands: many images, any number of prompts each, in one call."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        self.channels: dict[str, Any] | None = None
        """How pictures become RGB for these weights, as plain values; None: as any picture does."""
        self.image_encoder = _build_encoder(config.encoder, config.width)
        self.prompt_encoder = PromptEncoder(config)
        has_hq = config.decoder.hq_feature_width is not None
        self.mask_decoder = HQMaskDecoder(config) if has_hq else MaskDecoder(config)
        self.ranker = None if config.decoder.ranker_width is None else MaskRanker(config)
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean, device="cpu").view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std, device="cpu").view(-1, 1, 1), False)

    @property
    def image_size(self) -> int:
        """Side of the padded square input, in pixels."""
        return self.config.image_size

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding, in cells."""
        return self.config.embedding_size

    @property
    def mask_size(self) -> int:
        """Side of the mask logits, and of mask prompts."""
        return self.config.mask_size

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.pixel_mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type."""
        return self.prompt_encoder.no_mask_embed.weight.dtype

    def frame(self, size: tuple[int, int]) -> Frame:
        """Return how an image of `size` = (height, width) becomes the model's square; raises InputError for none."""
        return Frame(size, self.image_size, self.config.fit)

    def preprocess(self, images: Shaped[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Normalise RGB images of values 0…255, already resized as `frame` says, and pad them bottom and right."""
        height, width = images.shape[-2:]
        if max(height, width) > self.image_size:
            raise ValueError(f"an image is {height}×{width}; resize its long side to {self.image_size} first")
        x = ((images.float() - self.pixel_mean.float()) / self.pixel_std.float()).to(self.dtype)
        return F.pad(x, (0, self.image_size - width, 0, self.image_size - height))

    def encode(self, images: Float[Tensor, "b 3 s s"]) -> Embedding:
        """Encode preprocessed images."""
        return self.embedding_of(*self.image_encoder(images))

    def embedding_of(self, features: Float[Tensor, "b c h w"], early: Any) -> Embedding:
        """Return an embedding of what the image encoder gives, with what the decoder needs of early layers."""
        if isinstance(self.mask_decoder, HQMaskDecoder):
            return Embedding(features=features, hq=self.mask_decoder.image_features(features, early))
        if self.config.decoder.skip_widths is not None:
            pyramid = self.image_encoder.neck.fine if isinstance(self.image_encoder, PyramidEncoder) else None
            return Embedding(features=features, skips=self.mask_decoder.project_skips(early[0], early[1], pyramid))
        return Embedding(features=features)

    def embedding_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Return the shapes (channels, height, width) of what `Embedding.tensors` holds of an image."""
        return self.config.embedding_shapes()

    def decode(
        self, embedding: Embedding, prompts: Prompts, *, multimask: bool | None = None
    ) -> tuple[Float[Tensor, "b p m hm wm"], Float[Tensor, "b p m"]]:
        """Answer prompts: logits (before the threshold 0) and predicted IoUs.

        multimask True gives the three masks of an ambiguous prompt, False the one of a clear prompt, None all
        four, the one of a clear prompt first. Predicted IoUs are corrected by the ranker where there is one, whose
        gradient reaches nothing but itself.
        """
        answer = self.answer(embedding, prompts, multimask=multimask)
        return answer.logits, answer.iou

    def answer(self, embedding: Embedding, prompts: Prompts, *, multimask: bool | None = None) -> Answer:
        """Answer prompts as `decode` does, and say whether there is an object, where the model knows.

        Outside training, the mask of a clear prompt is `settled` where the config has a `min_stability`.
        """
        decoder = self.config.decoder
        if decoder.min_stability is None or multimask is True or self.training:
            candidates = {True: slice(1, None), False: slice(1), None: slice(None)}[multimask]
            return self._answer(embedding, prompts, candidates)
        answer = settled(self._answer(embedding, prompts, slice(None)), decoder.min_stability, decoder.stability_offset)
        if multimask is None:
            return answer
        return answer._replace(logits=answer.logits[:, :, :1], iou=answer.iou[:, :, :1])

    def _answer(self, embedding: Embedding, prompts: Prompts, candidates: slice) -> Answer:
        encoded = self.prompt_encoder(prompts)
        side = embedding.side
        shares_image = prompts.masks is None and encoded.present is None
        if isinstance(side, SharedImage) and shares_image and self.mask_decoder.is_worthwhile(encoded.tokens):
            answered = self.mask_decoder.answer(side, encoded.tokens, candidates, embedding.hq)
        else:
            image = _channels_last(embedding)
            image = image + encoded.dense.to(image.dtype)  # which is bfloat16 under autocast, and should stay
            positions = self.prompt_encoder.grid_positions().to(image.dtype)
            operands = (image, positions, encoded.tokens, encoded.present)
            answered = self.mask_decoder(*operands, candidates, embedding.hq, embedding.skips)
        if self.ranker is None:
            return answered
        seen = (embedding.features.detach(), answered.logits.detach(), answered.iou.detach())
        return answered._replace(iou=answered.iou + self.ranker(*seen, candidates))

    def prepare(self, embedding: Embedding) -> Embedding:
        """Add what all prompts of the images share, so that each of them is answered faster; not for training.

        Valid for these weights only. On other devices than the CPU it changes nothing: there, batches pay.
        """
        if self.device.type != "cpu" or embedding.side is not None:
            return embedding
        image = _channels_last(embedding) + self.prompt_encoder.no_mask_embed.weight
        positions = self.prompt_encoder.grid_positions().to(image.dtype)
        side = self.mask_decoder.project(image, positions, skips=embedding.skips)
        return dataclasses.replace(embedding, side=side)

    def forward(
        self, images: Float[Tensor, "b 3 s s"], prompts: Prompts, *, multimask: bool | None = None
    ) -> tuple[Float[Tensor, "b p m hm wm"], Float[Tensor, "b p m"]]:
        """Encode preprocessed images and answer their prompts."""
        return self.decode(self.encode(images), prompts, multimask=multimask)


def _channels_last(embedding: Embedding) -> Float[Tensor, "b 1 h w c"]:
    features: Tensor = embedding.features
    return features.permute(0, 2, 3, 1).contiguous()[:, None]


def _build_encoder(config: EncoderConfig, width: int) -> nn.Module:
    match config:
        case ViTConfig():
            return ImageEncoderViT(config, width)
        case CompactConfig():
            return CompactEncoder(config, width)
        case TinyViTConfig():
            return TinyViTEncoder(config, width)
        case EfficientNetLiteConfig():
            return EfficientNetEncoder(config, width)
        case HieraConfig():
            return PyramidEncoder(Hiera(config), config.stage_widths, width)
        case RepViTConfig():
            return PyramidEncoder(RepViT(config), config.widths, width)
        case PlainViTConfig():
            return PlainViTEncoder(config, width)


def build_sam(config: SamConfig) -> Sam:
    """Build a model with random weights, in training mode."""
    return Sam(config)
