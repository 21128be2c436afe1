"""The three parts of a model under the signatures that Meta's have, for scripts that call them one by one.

A part with such a face shares every parameter and buffer with the part that it was made of. Called as anymask itself
calls it, it does what that part does.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from anymask.errors import PromptError
from anymask.model import Answer, PointLabel, Prompts

Part = TypeVar("Part", bound=nn.Module)


def with_face(part: nn.Module, face: type) -> nn.Module:
    """Return the same part, its parameters and buffers shared, with a face in front of its own methods."""
    kind: Any = type(part)
    made = part if isinstance(part, face) else nn.Module.__new__(_faced(kind, face))
    vars(made).update(vars(part))
    return made


@cache
def _faced(kind: Any, face: Any) -> type:
    return type(kind.__name__, (face, kind), {"__doc__": kind.__doc__})


class ImageEncoderFace:
    """An image encoder that returns the embedding alone."""

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b c h w"]:
        """Encode preprocessed images."""
        features: Tensor = self.with_early(x)[0]
        return features

    def with_early(self, x: Float[Tensor, "b 3 s s"]) -> tuple[Tensor, Tensor]:
        """Encode images; also return what SAM-HQ takes from an early layer."""
        found: tuple[Tensor, Tensor] = super().forward(x)  # type: ignore[misc]
        return found


class PromptEncoderFace:
    """A prompt encoder that takes points, boxes and masks, and returns sparse and dense embeddings."""

    def forward(
        self,
        points: tuple[Float[Tensor, "b n 2"], Shaped[Tensor, "b n"]] | Prompts | None = None,
        boxes: Float[Tensor, "b 4"] | None = None,
        masks: Float[Tensor, "b 1 hm wm"] | None = None,
    ) -> Any:
        """Return (b, n, c) tokens and the (b, c, h, w) that is added to the image embedding.

        Points are (coordinates, labels) in the model's frame. Raises PromptError.
        """
        if isinstance(points, Prompts):
            return super().forward(points)  # type: ignore[misc]
        coordinates, labels = (None, None) if points is None else points
        encoded = super().forward(prompts_of(self._device(), coordinates, labels, boxes, masks))  # type: ignore[misc]
        sparse = encoded.tokens[0]
        dense = encoded.dense[0].permute(0, 3, 1, 2)
        height, width = self.image_embedding_size
        return sparse, dense.expand(len(sparse), -1, height, width)

    def get_dense_pe(self) -> Float[Tensor, "1 c h w"]:
        """Return the positional encoding of the image embedding."""
        positions: Tensor = self.grid_positions()  # type: ignore[attr-defined]
        return positions.permute(2, 0, 1)[None]

    @property
    def image_embedding_size(self) -> tuple[int, int]:
        """(height, width) of the image embedding."""
        return (self.embedding_size,) * 2  # type: ignore[attr-defined]

    @property
    def input_image_size(self) -> tuple[int, int]:
        """(height, width) of the padded image."""
        return (self.image_size,) * 2  # type: ignore[attr-defined]

    @property
    def mask_input_size(self) -> tuple[int, int]:
        """(height, width) of masks that are handed in."""
        return (4 * self.embedding_size,) * 2  # type: ignore[attr-defined]

    def _device(self) -> torch.device:
        return self.no_mask_embed.weight.device  # type: ignore[attr-defined,no-any-return]


class MaskDecoderFace:
    """A mask decoder that takes the embeddings of an image and of its prompts."""

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor | None = None,
        multimask_output: Any = True,
        *others: Any,
        **named: Any,
    ) -> Any:
        """Return (b, m, hm, wm) logits and (b, m) predicted IoUs: three masks per prompt, or one.

        `image_embeddings` (1, c, h, w) of one image are shared by b prompts; (b, c, h, w) are an image for each.
        """
        if image_embeddings.ndim != 4:  # as anymask calls it
            given = (image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, multimask_output)
            answered: Answer = super().forward(*given, *others, **named)  # type: ignore[misc]
            return answered
        if dense_prompt_embeddings is None or others or named:
            raise PromptError("the mask decoder takes image_embeddings, image_pe, sparse and dense prompt embeddings")
        images, dense = (x.permute(0, 2, 3, 1) for x in (image_embeddings, dense_prompt_embeddings))
        positions = image_pe[0].permute(1, 2, 0).to(images.dtype)
        chosen = slice(1, None) if multimask_output else slice(0, 1)
        shared = len(images) == 1
        image = (images + dense)[None] if shared else (images + dense)[:, None]
        tokens = sparse_prompt_embeddings[None] if shared else sparse_prompt_embeddings[:, None]
        answer: Answer = super().forward(image.contiguous(), positions, tokens, None, chosen)  # type: ignore[misc]
        logits, iou = answer.logits, answer.iou
        return (logits[0], iou[0]) if shared else (logits[:, 0], iou[:, 0])


def prompts_of(
    device: torch.device,
    points: Float[Tensor, "b n 2"] | None,
    labels: Shaped[Tensor, "b n"] | None,
    boxes: Float[Tensor, "b 4"] | None,
    masks: Float[Tensor, "b 1 hm wm"] | None,
) -> Prompts:
    """Build b prompts for one image; none at all is one prompt without tokens, as in Meta's code."""
    if points is None and boxes is None and masks is None:
        return Prompts(
            points=torch.zeros(1, 1, 0, 2, device=device),
            labels=torch.zeros(1, 1, 0, dtype=torch.long, device=device),
        )
    return Prompts.build(
        points=None if points is None else points[None],
        labels=None if points is None or labels is None else _known(labels)[None],
        boxes=None if boxes is None else boxes.reshape(1, -1, 4),
        masks=None if masks is None else masks[None, :, 0],
    )


def _known(labels: Shaped[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Refuse labels that are no point's: 2 and 3 would be taken for a box's corners."""
    if bool(((labels < PointLabel.NOT_A_POINT) | (labels > PointLabel.FOREGROUND)).any()):
        raise PromptError("point_labels must be 1 on the object, 0 off it, or -1 for a point that pads")
    return labels.long()
