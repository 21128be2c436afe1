"""The encoder that turns prompts into tokens and dense embeddings.

Legend: B images, P prompts per image, N points per prompt, C width. Frames: points are pixels (x, y) of the padded
square model input. Source: SAM, sec. 3 and app. A; the half-pixel shift and the padding point are the public weights'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anymask.model.config import SamConfig
from anymask.model.dense import LayerNorm2d
from anymask.prompts import PointLabel, Prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPrompts:
    """Tokens, which of them count, and what is added to the image embedding (one for all prompts, or one each)."""

    tokens: Float[Tensor, "b p t c"]
    present: Bool[Tensor, "b p t"] | None
    dense: Float[Tensor, "b q h w c"] = field(repr=False)


class PositionEncoding(nn.Module):
    """Random Fourier features of a location (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_features))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move as any module does, but keep the matrix in float32: in half precision, points would move."""
        matrix = self.positional_encoding_gaussian_matrix
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved = self.positional_encoding_gaussian_matrix
        if moved.dtype != matrix.dtype:
            self.positional_encoding_gaussian_matrix = matrix.to(moved.device)
        return self

    def forward(self, locations: Float[Tensor, "... 2"]) -> Float[Tensor, "... c"]:
        """Encode (x, y) locations in [0, 1]; computed in float32."""
        matrix = self.positional_encoding_gaussian_matrix.float()
        angles = 2 * math.pi * ((2 * locations.float() - 1) @ matrix)
        encoded: Tensor = torch.cat([angles.sin(), angles.cos()], -1)
        return encoded

    def grid(self, height: int, width: int) -> Float[Tensor, "h w c"]:
        """Encode the centres of an h×w grid."""
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        encoded: Tensor = self(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1))
        return encoded


class PromptEncoder(nn.Module):
    """Points, boxes, masks and text vectors to tokens and a dense embedding."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        width = config.width
        self.image_size = config.image_size
        self.embedding_size = config.embedding_size
        self.pads_boxes = config.pads_boxes
        self.pe_layer = PositionEncoding(width // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)
        channels = config.mask_channels
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, channels // 4, 2, 2),
            LayerNorm2d(channels // 4),
            nn.GELU(),
            nn.Conv2d(channels // 4, channels, 2, 2),
            LayerNorm2d(channels),
            nn.GELU(),
            nn.Conv2d(channels, width, 1),
        )
        self.text_projection: nn.Linear | None = None if config.text is None else nn.Linear(config.text.width, width)

    def grid_positions(self) -> Float[Tensor, "h w c"]:
        """Return the positional encoding of every cell of the image embedding."""
        return self.pe_layer.grid(self.embedding_size, self.embedding_size)

    def forward(self, prompts: Prompts) -> EncodedPrompts:
        """Encode prompts; absent points are marked, not dropped, so that prompts of any length share a batch."""
        if self.pads_boxes:
            prompts = with_padding(prompts)
        tokens = self._points(prompts.points, prompts.labels)
        absent = prompts.labels == PointLabel.ABSENT
        if prompts.text is not None:
            text = prompts.text.to(tokens.dtype)
            if self.text_projection is not None:
                text = self.text_projection(text)
            tokens = torch.cat([tokens, text[:, :, None]], 2)
            absent = torch.cat([absent, absent.new_zeros(*absent.shape[:2], 1)], 2)
        padded = bool(absent.any()) if prompts.padded is None else prompts.padded
        present = ~absent if padded else None
        return EncodedPrompts(tokens=tokens, present=present, dense=self._dense(prompts))

    def _points(self, points: Tensor, labels: Tensor) -> Tensor:
        encoded = self.pe_layer((points.float() + 0.5) / self.image_size)
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        table = torch.cat([kind.get_parameter("weight") for kind in kinds])
        located = (labels >= 0)[..., None]
        return torch.where(located, encoded.to(table.dtype), 0.0) + table[(labels + 1).clamp(min=0)]

    def _dense(self, prompts: Prompts) -> Tensor:
        none = self.no_mask_embed.weight.reshape(1, 1, 1, 1, -1)
        if prompts.masks is None:
            return none
        batch, count = prompts.masks.shape[:2]
        maps = self.mask_downscaling(prompts.masks.flatten(0, 1)[:, None].to(none.dtype))
        dense: Tensor = maps.permute(0, 2, 3, 1).unflatten(0, (batch, count))
        if prompts.has_mask is None:
            return dense
        return torch.where(prompts.has_mask[:, :, None, None, None], dense, none)


def with_padding(prompts: Prompts) -> Prompts:
    """Add NOT_A_POINT to prompts that lack it, and, where only some do, ABSENT to the rest."""
    if prompts.has_padding:
        return prompts
    points, labels = prompts.points, prompts.labels
    lacking = ~(labels == PointLabel.NOT_A_POINT).any(2, keepdim=True)
    if not bool(lacking.any()):
        return replace(prompts, has_padding=True)
    label = torch.where(lacking, int(PointLabel.NOT_A_POINT), int(PointLabel.ABSENT))
    return replace(
        prompts,
        points=torch.cat([points, points.new_zeros(*points.shape[:2], 1, 2)], 2),
        labels=torch.cat([labels, label.to(labels.dtype)], 2),
        padded=prompts.padded if bool(lacking.all()) else True,
        has_padding=True,
    )
