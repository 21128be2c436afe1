"""The mask decoder: tokens and an image embedding to ranked masks.

Legend: B images, P prompts an image, M masks, T tokens, L = H·W cells, C width. Source: SAM, app. A.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model import amortised
from anymask.model.amortised import ImageSide, PositionSide
from anymask.model.config import SamConfig
from anymask.model.dense import MLP, Activation, LayerNorm2d, product
from anymask.model.two_way import TwoWayTransformer


class Upscale(nn.ConvTranspose2d):
    """A 2×2 transposed convolution of stride 2, computed as the matrix product that it is."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 2, 2)

    def pixels(self, x: Float[Tensor, "... c"], activation: Activation = "none") -> Float[Tensor, "... 2 2 o"]:
        """Map each cell's channels to those of the 2×2 pixels (row, column) that it becomes."""
        weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        bias = None if self.bias is None else self.bias.repeat(4)
        pixels: Tensor = product(x, weight, bias, activation).unflatten(-1, (2, 2, -1))
        return pixels


class MaskDecoder(nn.Module):
    """Four output tokens: one mask for prompts that are clear, three for those that are not."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        width, decoder = config.width, config.decoder
        self.num_mask_tokens = decoder.num_multimask + 1
        self.transformer = TwoWayTransformer(width, decoder)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, width)
        self.output_upscaling = nn.Sequential(
            Upscale(width, width // 4),
            LayerNorm2d(width // 4),
            nn.GELU(),
            Upscale(width // 4, width // 8),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(width, width, width // 8, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(width, decoder.iou_hidden, self.num_mask_tokens, decoder.iou_depth)

    def forward(
        self,
        image_BQHWC: Float[Tensor, "b q h w c"],
        image_pe: Float[Tensor, "h w c"],
        tokens: Float[Tensor, "b p t c"],
        present: Bool[Tensor, "b p t"] | None,
        candidates: slice = slice(None),
        hq: Float[Tensor, "b e hm wm"] | None = None,
        side: ImageSide | None = None,
    ) -> tuple[Float[Tensor, "b p m hm wm"], Float[Tensor, "b p m"]]:
        """Return mask logits at four times the embedding's size and predicted IoUs of the chosen output tokens.

        The image side is the embedding plus the dense prompt; q is 1 where all prompts of an image share it. `hq` is
        for SAM-HQ's decoder; this one has no use for it. `side` holds projections of the same image, made beforehand.
        """
        hidden, image = self.attend(image_BQHWC, image_pe, tokens, present, side)
        return self.candidates(hidden, self.upscale(image), candidates)

    def candidates(
        self, hidden: Float[Tensor, "b p t c"], features: Float[Tensor, "b p h w 2 2 2 2 e"], candidates: slice
    ) -> tuple[Float[Tensor, "b p m hm wm"], Float[Tensor, "b p m"]]:
        """Return the logits and predicted IoUs of the chosen output tokens."""
        wanted = range(self.num_mask_tokens)[candidates]
        kernels = torch.stack([self.output_hypernetworks_mlps[m](hidden[:, :, 1 + m]) for m in wanted], 2)
        iou: Tensor = self.iou_prediction_head(hidden[:, :, 0])
        return self.draw(kernels, features), iou[:, :, candidates]

    def attend(
        self,
        image_BQHWC: Tensor,
        image_pe: Tensor,
        tokens: Tensor,
        present: Tensor | None,
        side: ImageSide | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the transformer: tokens (b, p, t, c), the IoU token first, and the image (b, p, h, w, c)."""
        outputs = self.output_tokens().to(tokens.dtype).expand(*tokens.shape[:2], -1, -1)
        tokens = torch.cat([outputs, tokens], 2)
        grid = image_BQHWC.shape[2:4]
        if side is not None and present is None and amortised.pays(self.transformer, tokens.shape[2]):
            hidden, image = amortised.attend(self.transformer, side, tokens)
        else:
            if present is not None:
                present = torch.cat([present.new_ones(outputs.shape[:3]), present], 2)
            hidden, image = self.transformer(image_BQHWC.flatten(2, 3), image_pe.flatten(0, 1), tokens, present)
        return hidden, image.unflatten(2, grid)

    def project(self, image_BQHWC: Tensor, image_pe: Tensor, positions: PositionSide | None = None) -> ImageSide:
        """Make the projections of an image that all its prompts share, and those of the positions if not given."""
        if positions is None:
            positions = amortised.project_positions(self.transformer, image_pe.flatten(0, 1))
        return amortised.project_image(self.transformer, positions, image_BQHWC.flatten(2, 3))

    def output_tokens(self) -> Float[Tensor, "t c"]:
        """Return the learned tokens: IoU, then masks."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def upscale(self, image_BPHWC: Float[Tensor, "b p h w c"]) -> Float[Tensor, "b p h w 2 2 2 2 e"]:
        """Return the features of the 4×4 pixels of each cell, ordered (row, column, subrow, subcolumn)."""
        first, norm, _, second, _ = self.output_upscaling
        assert isinstance(first, Upscale) and isinstance(second, Upscale) and isinstance(norm, LayerNorm2d)
        x = F.gelu(norm.channels_last(first.pixels(image_BPHWC)))
        return second.pixels(x, "gelu")

    @staticmethod
    def draw(
        kernels: Float[Tensor, "b p m e"], features: Float[Tensor, "b p h w 2 2 2 2 e"]
    ) -> Float[Tensor, "b p m hm wm"]:
        """Classify every pixel by each mask's kernel and put the pixels in their places."""
        flat = features.flatten(2, -2)
        logits = kernels @ flat.transpose(-2, -1)
        height, width = features.shape[2:4]
        return place_pixels(logits.unflatten(-1, (height, width, 2, 2, 2, 2))[..., None])[..., 0]


def place_pixels(x: Float[Tensor, "... h w 2 2 2 2 e"]) -> Float[Tensor, "... hm wm e"]:
    """Put the 4×4 pixels of each cell, ordered (row, column, subrow, subcolumn), in their places."""
    height, width = x.shape[-7:-5]
    lead = tuple(range(x.ndim - 7))
    order = [x.ndim - 7 + axis for axis in (0, 2, 4, 1, 3, 5, 6)]
    return x.permute(*lead, *order).reshape(*x.shape[:-7], 4 * height, 4 * width, x.shape[-1])
