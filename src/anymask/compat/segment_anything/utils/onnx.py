"""Meta's module of what is exported to ONNX; `anymask export onnx --part meta` exports the same without a script."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anymask.compat.segment_anything import Sam
from anymask.compat.segment_anything.utils.amg import calculate_stability_score
from anymask.export.parts import MetaDecoder

__all__ = ["SamOnnxModel"]


class SamOnnxModel(nn.Module):
    """The decoder of a model with Meta's inputs and outputs, for `torch.onnx.export(…, dynamo=False)` as Meta's script.

    The newer exporter (`dynamo=True`) takes it with `dynamic_shapes` and an example of more points than masks.

    `return_single_mask` chooses one mask by the number of points, `use_stability_score` gives stabilities in the place
    of predicted IoUs, `return_extra_metrics` adds the stability at the original size and the area of each mask.
    """

    def __init__(
        self,
        model: Sam,
        return_single_mask: bool,
        use_stability_score: bool = False,
        return_extra_metrics: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.mask_decoder = model.mask_decoder
        self.img_size = model.image_size
        self.return_single_mask = return_single_mask
        self.use_stability_score = use_stability_score
        self.stability_score_offset = 1.0
        self.return_extra_metrics = return_extra_metrics
        self._decoder = MetaDecoder(
            model, single=return_single_mask, by_stability=self.stability_score_offset if use_stability_score else None
        )

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Float[Tensor, "1 c e e"],
        point_coords: Float[Tensor, "1 n 2"],
        point_labels: Float[Tensor, "1 n"],
        mask_input: Float[Tensor, "1 1 hm wm"],
        has_mask_input: Float[Tensor, " 1"],
        orig_im_size: Float[Tensor, " 2"],
    ) -> tuple[Tensor, ...]:
        """Return masks as logits at the original size, scores and low-resolution logits; metrics before the last."""
        inputs = {
            "image_embeddings": image_embeddings,
            "point_coords": point_coords,
            "point_labels": point_labels,
            "mask_input": mask_input,
            "has_mask_input": has_mask_input,
            "orig_im_size": orig_im_size,
        }
        masks, scores, low = self._decoder(inputs)
        if not self.return_extra_metrics:
            return masks, scores, low
        threshold = self.model.mask_threshold
        stability = calculate_stability_score(masks, threshold, self.stability_score_offset)
        return masks, scores, stability, (masks > threshold).sum((-1, -2)), low
