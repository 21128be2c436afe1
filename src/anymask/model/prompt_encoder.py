"""Prompts, and the encoder that turns them into tokens and dense embeddings.

Legend: B images, P prompts an image, N points a prompt, C width. Frames: points are pixels (x, y) of the padded
square model input. Source: SAM, sec. 3 and app. A; the half-pixel shift and the padding point are the public weights'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anymask.model.config import SamConfig
from anymask.model.dense import LayerNorm2d


class PointLabel(IntEnum):
    """What a point of a prompt says."""

    ABSENT = -2
    """Nothing: it pads a shorter prompt and changes no result."""
    NOT_A_POINT = -1
    """The token that the public weights expect beside points where there is no box."""
    BACKGROUND = 0
    FOREGROUND = 1
    TOP_LEFT = 2
    BOTTOM_RIGHT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Any number of prompts for each of several images, in the padded model frame.

    points are (x, y) pixels, before the half-pixel shift; labels are `PointLabel`s; masks are logits at four times the
    embedding's size, used where has_mask (everywhere if None); text is one vector a prompt: a token, or CLIP's
    embedding, ℓ2-normalised, where the model projects such (`SamConfig.text`).
    """

    points: Float[Tensor, "b p n 2"]
    labels: Int[Tensor, "b p n"]
    masks: Float[Tensor, "b p hm wm"] | None = None
    has_mask: Bool[Tensor, "b p"] | None = None
    text: Float[Tensor, "b p ct"] | None = None
    padded: bool | None = None
    """Whether some points may be ABSENT; None looks, which on a GPU waits for the device."""
    has_padding: bool = False
    """Whether whoever made them has seen to the NOT_A_POINT that the model wants; False looks, as above."""

    @classmethod
    def build(
        cls,
        *,
        points: Float[Tensor, "b p n 2"] | None = None,
        labels: Int[Tensor, "b p n"] | None = None,
        boxes: Float[Tensor, "b p 4"] | None = None,
        masks: Float[Tensor, "b p hm wm"] | None = None,
        has_mask: Bool[Tensor, "b p"] | None = None,
        text: Float[Tensor, "b p ct"] | None = None,
        padded: bool | None = None,
    ) -> Prompts:
        """Join points, boxes (xyxy) and the rest; points without boxes get the public weights' padding point."""
        given = next((x for x in (points, boxes, masks, text) if x is not None), None)
        if given is None or (points is None) != (labels is None):
            raise ValueError("a prompt needs points with labels, a box, a mask or text")
        lead, device = given.shape[:2], given.device
        dtype = given.dtype if given.is_floating_point() else torch.float32
        coords = [points.to(dtype)] if points is not None else []
        kinds = [labels.long()] if labels is not None else []
        if boxes is not None:
            coords.append(boxes.to(dtype).unflatten(-1, (2, 2)))
            corners = torch.tensor([PointLabel.TOP_LEFT, PointLabel.BOTTOM_RIGHT], device=device)
            kinds.append(corners.expand(*lead, 2))
        elif points is not None:
            coords.append(torch.zeros(*lead, 1, 2, dtype=dtype, device=device))
            kinds.append(torch.full((*lead, 1), int(PointLabel.NOT_A_POINT), device=device))
        if not coords:
            coords.append(torch.zeros(*lead, 0, 2, dtype=dtype, device=device))
            kinds.append(torch.zeros(*lead, 0, dtype=torch.long, device=device))
        return cls(
            points=torch.cat(coords, 2),
            labels=torch.cat(kinds, 2),
            masks=masks,
            has_mask=has_mask,
            text=text,
            padded=padded,
        )


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
