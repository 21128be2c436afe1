"""Prompts as the network takes them, made by people or by the simulated annotator.

Frames: points are pixels (x, y) of the padded square model input. Legend: b images, p prompts per image, n points per
prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from torch import Tensor

Array: TypeAlias = Any
"""A torch tensor or a NumPy array."""


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
    embedding's size, used where has_mask (everywhere if None); text is one vector per prompt: a token, or CLIP's
    embedding, ℓ2-normalised, where the model projects such (`SamConfig.text`). All are tensors of torch, or arrays of
    NumPy where an `inference.runtimes` answers.
    """

    points: Float[Array, "b p n 2"]
    labels: Int[Array, "b p n"]
    masks: Float[Array, "b p hm wm"] | None = None
    has_mask: Bool[Array, "b p"] | None = None
    text: Float[Array, "b p ct"] | None = None
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
        import torch

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
class SimulatedPrompts(Prompts):
    """Prompts of the simulated annotator.

    Every prompt that has points and no box has one of the label "not a point"; what pads a prompt is absent.
    """

    single: Bool[Tensor, "b p"]
    """Marks the prompts of exactly one point and nothing else, whose answer may be ambiguous."""

    def with_point(self, points: Float[Tensor, "b p 2"], labels: Int[Tensor, "b p"]) -> SimulatedPrompts:
        """The same prompts with one more point each, and "not a point" beside the first point of a mask."""
        import torch

        labels_BPN = torch.cat((self.labels, labels[:, :, None]), dim=2)
        begins = (labels_BPN[:, :, 1] == PointLabel.ABSENT) & (labels != PointLabel.ABSENT)
        labels_BPN[:, :, 1].masked_fill_(begins, int(PointLabel.NOT_A_POINT))
        return SimulatedPrompts(
            points=torch.cat((self.points, points[:, :, None]), dim=2),
            labels=labels_BPN,
            single=torch.zeros_like(self.single),
            masks=self.masks,
            has_mask=self.has_mask,
        )

    def with_masks(self, masks: Float[Tensor, "b p hm wm"]) -> SimulatedPrompts:
        """The same prompts, each with that mask, logits, beside its points."""
        return SimulatedPrompts(points=self.points, labels=self.labels, single=self.single & False, masks=masks)
