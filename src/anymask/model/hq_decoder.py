"""SAM-HQ's mask decoder: one more output token, which draws a finer mask on features of higher resolution.

The high-quality mask's logits are added to every candidate's. Source: SAM-HQ (Ke et al. 2023), sec. 3; parameter names
are those of its published checkpoints.

Legend: B images, P prompts per image, h×w embedding grid, H×W = 4h×4w mask grid, C width, E = C/8.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model.amortised import PromptImages, SharedImage
from anymask.model.config import SamConfig
from anymask.model.dense import MLP, LayerNorm2d
from anymask.model.embedding import Answer
from anymask.model.mask_decoder import MaskDecoder, Upscale, place_pixels


class HQMaskDecoder(MaskDecoder):
    """A `MaskDecoder` with SAM-HQ's token."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__(config)
        early_width = config.decoder.hq_feature_width
        assert early_width is not None
        width = config.width
        self.hf_token = nn.Embedding(1, width)
        self.hf_mlp = MLP(width, width, width // 8, 3)
        self.compress_vit_feat = _upscaling(early_width, width, width // 8)
        self.embedding_encoder = _upscaling(width, width // 4, width // 8)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(width // 8, width // 4, 3, padding=1),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.Conv2d(width // 4, width // 8, 3, padding=1),
        )

    def output_tokens(self) -> Float[Tensor, "t c"]:
        """Return the learned tokens: IoU, masks, the high-quality mask."""
        return torch.cat([super().output_tokens(), self.hf_token.weight])

    def image_features(
        self, features: Float[Tensor, "b c h w"], early: Float[Tensor, "b h w v"]
    ) -> Float[Tensor, "b e hm wm"]:
        """Join the embedding and the encoder's early features: what the token needs of an image."""
        deep = _upscaled(self.embedding_encoder, features.permute(0, 2, 3, 1))
        fine = _upscaled(self.compress_vit_feat, early.to(features.dtype))
        return (deep + fine).permute(0, 3, 1, 2)

    def _finish(
        self, side: SharedImage, hidden: Tensor, images: PromptImages, candidates: slice, hq: Tensor | None
    ) -> Answer:
        """Draw the masks of some prompts about one image; the fine token needs all of a prompt's pixels at once."""
        drawn = [torch.cat(list(bands), 2) for _, bands in self._bands(side, images)]
        return self.classify(hidden, torch.cat(drawn, 1), candidates, hq)

    def classify(
        self,
        hidden: Float[Tensor, "b p t c"],
        features: Float[Tensor, "b p h w 2 2 2 2 e"],
        candidates: slice,
        hq: Float[Tensor, "b e hm wm"] | None,
    ) -> Answer:
        """Return mask logits, the high-quality mask's added, and predicted IoUs; `hq` is from `image_features`."""
        if hq is None:
            raise ValueError("the embedding has no SAM-HQ features; encode the image with this model")
        kernel = self.hf_mlp(hidden[:, :, 1 + self.num_mask_tokens])
        fine = self._fine_logits(kernel, place_pixels(features), hq)
        answer = super().classify(hidden, features, candidates, None)
        return answer._replace(logits=answer.logits + fine[:, :, None])

    def _fine_logits(
        self, kernel: Float[Tensor, "b p e"], pixels: Float[Tensor, "b p hm wm e"], hq: Tensor
    ) -> Float[Tensor, "b p hm wm"]:
        """Classify `embedding_maskfeature(pixels) + hq` by the token's kernel.

        The last convolution and the classifier are both linear: the kernel is applied to the convolution's weights,
        which leaves one output channel of it to compute: nine taps per pixel, added up by `fold`.
        """
        first, norm, _, last = self.embedding_maskfeature
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        batch, prompts, height, width, _ = pixels.shape
        hidden = F.gelu(norm(first(pixels.flatten(0, 1).permute(0, 3, 1, 2))))
        taps = torch.einsum("npe,eckl->npklc", kernel, last.weight.flip(2, 3)).flatten(2, 3).flatten(0, 1)
        by_tap = taps @ hidden.permute(0, 2, 3, 1).flatten(1, 2).transpose(-2, -1)
        drawn = F.fold(by_tap, (height, width), 3, padding=1).reshape(batch, prompts, height, width)
        shared: Tensor = (kernel @ hq.to(kernel.dtype).flatten(2)).unflatten(-1, (height, width))
        logits: Tensor = drawn + shared + (kernel @ last.bias)[..., None, None]
        return logits


def _upscaling(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(Upscale(width, hidden), LayerNorm2d(hidden), nn.GELU(), Upscale(hidden, out))


def _upscaled(layers: nn.Sequential, x_BHWC: Float[Tensor, "b h w c"]) -> Float[Tensor, "b hm wm e"]:
    first, norm, _, second = layers
    assert isinstance(first, Upscale) and isinstance(second, Upscale) and isinstance(norm, LayerNorm2d)
    x = F.gelu(norm.channels_last(first.pixels(x_BHWC[:, None])))
    return place_pixels(second.pixels(x))[:, 0]
