"""The mask decoder: tokens and an image embedding to ranked masks.

Features of the encoder at higher resolution (skips), where a model has them, are projected once per image and added to
its pixels while these are upscaled (SAM 2, sec. 4).

Legend: B images, P prompts per image, M masks, T tokens, L = H·W cells, C width. Source: SAM, app. A.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model import amortised
from anymask.model.amortised import PromptImages, SharedImage, SharedPositions
from anymask.model.config import SamConfig
from anymask.model.dense import MLP, Activation, LayerNorm2d, product
from anymask.model.embedding import Answer, Skips
from anymask.model.two_way import TwoWayTransformer

_BAND = 1 << 18
"""Numbers that cells drawn together have after the first convolution: four MiB between the layers."""


class Upscale(nn.ConvTranspose2d):
    """A 2×2 transposed convolution of stride 2, computed as the matrix product that it is."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 2, 2)

    def pixels(self, x: Float[Tensor, "... c"], activation: Activation = "none") -> Float[Tensor, "... 2 2 o"]:
        """Map each cell's channels to those of the 2×2 pixels (row, column) that it becomes."""
        weight, bias = self.as_matrix()
        pixels: Tensor = product(x, weight, bias, activation).unflatten(-1, (2, 2, -1))
        return pixels

    def as_matrix(self) -> tuple[Float[Tensor, "o4 c"], Float[Tensor, " o4"]]:
        """Return the matrix and bias that map a cell to its 2×2 pixels, one after the other."""
        assert self.bias is not None
        return self.weight.permute(2, 3, 1, 0).flatten(0, 2), self.bias.repeat(4)


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
        self.has_sigmoid_iou = decoder.sigmoid_iou
        self.obj_score_token: nn.Embedding | None = None
        self.pred_obj_score_head: MLP | None = None
        if decoder.object_score:
            self.obj_score_token = nn.Embedding(1, width)
            self.pred_obj_score_head = MLP(width, width, 1, 3)
        self.conv_s0: nn.Conv2d | None = None
        self.conv_s1: nn.Conv2d | None = None
        if decoder.skip_widths is not None:
            self.conv_s0 = _zero_convolution(decoder.skip_widths[0], width // 8)
            self.conv_s1 = _zero_convolution(decoder.skip_widths[1], width // 4)

    def project_skips(
        self,
        at4: Float[Tensor, "b e h4 w4"],
        at2: Float[Tensor, "b d h2 w2"],
        before: tuple[nn.Conv2d, nn.Conv2d] | None = None,
    ) -> Skips:
        """Project the encoder's features at four times and at twice the embedding's size.

        `before` are 1×1 convolutions that come first (a pyramid's), with which these are one product.
        """
        assert self.conv_s0 is not None and self.conv_s1 is not None
        if before is None:
            return self.conv_s1(at2), self.conv_s0(at4)
        return _both(at2, before[1], self.conv_s1), _both(at4, before[0], self.conv_s0)

    def forward(
        self,
        image_BQHWC: Float[Tensor, "b q h w c"],
        image_pe: Float[Tensor, "h w c"],
        tokens: Float[Tensor, "b p t c"],
        present: Bool[Tensor, "b p t"] | None,
        candidates: slice = slice(None),
        hq: Float[Tensor, "b e hm wm"] | None = None,
        skips: Skips | None = None,
    ) -> Answer:
        """Return mask logits at four times the embedding's size and predicted IoUs of the chosen output tokens.

        The image side is the embedding plus the dense prompt; q is 1 where all prompts of an image share it. `hq` is
        for SAM-HQ's decoder; this one has no use for it. `skips` are from `project_skips`.
        """
        tokens = self._with_outputs(tokens)
        if present is not None:
            present = torch.cat([present.new_ones(*tokens.shape[:2], tokens.shape[2] - present.shape[2]), present], 2)
        hidden, image = self.transformer(image_BQHWC.flatten(2, 3), image_pe.flatten(0, 1), tokens, present)
        pixels = self._first.pixels(image.unflatten(2, image_pe.shape[:2]))
        fine = None
        if skips is not None:
            pixels, fine = pixels + cells_of_2(skips[0])[:, None], cells_of_4(skips[1])[:, None]
        return self.classify(hidden, self._upscale(pixels, fine), candidates, hq)

    def answer(
        self,
        side: SharedImage,
        tokens: Float[Tensor, "b p t c"],
        candidates: slice = slice(None),
        hq: Float[Tensor, "b e hm wm"] | None = None,
    ) -> Answer:
        """Return what `forward` returns, for an image projected beforehand and prompts without absent tokens.

        Pixels are drawn a band of the image at a time on a CPU, so that what is held between layers stays in its cache.
        """
        tokens = self._with_outputs(tokens)
        answers: list[Answer] = []
        for b in range(len(tokens)):
            part = side.part(b)
            for chunk in amortised.chunks(side, *tokens.shape[1:3]):
                hidden, images = amortised.attend(self.transformer, part, tokens[b, chunk])
                own = None if hq is None else hq[b : b + 1]
                answers.append(self._finish(part, hidden[None], images, candidates, own))
        if len(answers) == 1:
            return answers[0]
        return _joined(answers, (tokens.shape[0], tokens.shape[1]))

    def _finish(
        self, side: SharedImage, hidden: Tensor, images: PromptImages, candidates: slice, hq: Tensor | None
    ) -> Answer:
        """Draw the masks of some prompts about one image."""
        kernels = self._kernels(hidden, candidates)
        drawn = [
            torch.cat([self.draw(kernels[:, prompt], band) for band in bands], -2)
            for prompt, bands in self._bands(side, images)
        ]
        return self._answer(torch.cat(drawn, 1), hidden, candidates)

    def _bands(
        self, side: SharedImage, images: PromptImages
    ) -> Iterator[tuple[slice, Iterator[Float[Tensor, "1 p h w 2 2 2 2 e"]]]]:
        """Yield prompts, and the features of their pixels some rows of cells at a time."""
        width = side.grid[1]
        rows = max(1, _BAND // (side.drawn.shape[-1] * width))
        projected = images.project(*self._first.as_matrix(), side.drawn.flatten(0, 1), rows * width)
        for prompt, bands in groupby(projected, key=lambda found: (found[0].start, found[0].stop)):
            yield slice(*prompt), self._upscaled(side, (pixels for _, pixels in bands))

    def _upscaled(
        self, side: SharedImage, bands: Iterator[Float[Tensor, "p cells o"]]
    ) -> Iterator[Float[Tensor, "1 p h w 2 2 2 2 e"]]:
        """Upscale bands of an image that follow each other."""
        row = 0
        for band in bands:
            pixels = band.unflatten(1, (-1, side.grid[1])).unflatten(-1, (2, 2, -1))
            rows = slice(row, row + pixels.shape[1])
            row = rows.stop
            if side.coarse is None or side.fine is None:
                yield self._upscale(pixels)[None]
            else:
                yield self._upscale(pixels + side.coarse[rows], side.fine[rows])[None]

    def classify(
        self,
        hidden: Float[Tensor, "b p t c"],
        features: Float[Tensor, "b p h w 2 2 2 2 e"],
        candidates: slice,
        hq: Float[Tensor, "b e hm wm"] | None,
    ) -> Answer:
        """Return the logits and predicted IoUs of the chosen output tokens."""
        return self._answer(self.draw(self._kernels(hidden, candidates), features), hidden, candidates)

    def _kernels(self, hidden: Tensor, candidates: slice) -> Float[Tensor, "b p m e"]:
        wanted = range(self.num_mask_tokens)[candidates]
        return torch.stack([self.output_hypernetworks_mlps[m](hidden[:, :, 1 + m]) for m in wanted], 2)

    def _answer(self, logits: Tensor, hidden: Tensor, candidates: slice) -> Answer:
        """Add to the masks what the tokens say about them."""
        iou: Tensor = self.iou_prediction_head(hidden[:, :, 0])
        if self.has_sigmoid_iou:
            iou = iou.sigmoid()
        score = None
        if self.pred_obj_score_head is not None:
            score = self.pred_obj_score_head(hidden[:, :, 1 + self.num_mask_tokens])[..., 0]
        return Answer(logits, iou[:, :, candidates], score)

    def is_worthwhile(self, tokens: Float[Tensor, "b p t c"]) -> bool:
        """Whether `answer` is faster than `forward` for prompts of so many tokens."""
        return amortised.is_worthwhile(self.transformer, tokens.shape[2] + len(self.output_tokens()))

    def project(
        self,
        image_BQHWC: Float[Tensor, "b q h w c"],
        image_pe: Tensor,
        positions: SharedPositions | None = None,
        skips: Skips | None = None,
    ) -> SharedImage:
        """Make the projections of an image that all its prompts share, and those of the positions if not given."""
        if positions is None:
            positions = amortised.project_positions(self.transformer, image_pe.flatten(0, 1))
        weight, _ = self._first.as_matrix()
        side = amortised.project_image(self.transformer, weight, positions, image_BQHWC)
        if skips is None:
            return side
        coarse, fine = cells_of_2(skips[0])[:, None].contiguous(), cells_of_4(skips[1])[:, None].contiguous()
        return dataclasses.replace(side, coarse=coarse, fine=fine)

    @property
    def _first(self) -> Upscale:
        first = self.output_upscaling[0]
        assert isinstance(first, Upscale)
        return first

    def _with_outputs(self, tokens: Float[Tensor, "b p t c"]) -> Float[Tensor, "b p s c"]:
        outputs = self.output_tokens().to(tokens.dtype).expand(*tokens.shape[:2], -1, -1)
        return torch.cat([outputs, tokens], 2)

    def output_tokens(self) -> Float[Tensor, "t c"]:
        """Return the learned tokens: IoU, masks, and the object score's where there is one."""
        last = () if self.obj_score_token is None else (self.obj_score_token.weight,)
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight, *last])

    def _upscale(
        self, first: Float[Tensor, "... h w 2 2 d"], fine: Float[Tensor, "... h w 2 2 2 2 e"] | None = None
    ) -> Float[Tensor, "... h w 2 2 2 2 e"]:
        """Finish the upscaling from its first convolution: 4×4 pixels per cell, (row, column, subrow, subcolumn).

        `fine` is added to what the second convolution gives.
        """
        _, norm, _, second, _ = self.output_upscaling
        assert isinstance(second, Upscale) and isinstance(norm, LayerNorm2d)
        hidden = F.gelu(norm.channels_last(first))
        return second.pixels(hidden, "gelu") if fine is None else F.gelu(second.pixels(hidden) + fine)

    @staticmethod
    def draw(
        kernels: Float[Tensor, "b p m e"], features: Float[Tensor, "b p h w 2 2 2 2 e"]
    ) -> Float[Tensor, "b p m hm wm"]:
        """Classify every pixel by each mask's kernel and put the pixels in their places."""
        flat = features.flatten(2, -2)
        logits = kernels @ flat.transpose(-2, -1)
        height, width = features.shape[2:4]
        return place_pixels(logits.unflatten(-1, (height, width, 2, 2, 2, 2))[..., None])[..., 0]


def settled(answer: Answer, min_stability: float, offset: float) -> Answer:
    """Put the best of an ambiguous prompt's masks in the first one's place where that is not stable (SAM 2's rule).

    The first is a clear prompt's; it is stable where its area at the threshold `offset` is at least `min_stability` of
    that at `-offset`, or both are nothing. `answer` has all candidates.
    """
    first = answer.logits[:, :, :1]
    inner, outer = ((first > bound).flatten(-2).sum(-1).float() for bound in (offset, -offset))
    stable = inner >= min_stability * outer
    best = answer.iou[:, :, 1:].argmax(-1, keepdim=True)
    others = answer.logits[:, :, 1:]
    chosen = others.gather(2, best[..., None, None].expand(-1, -1, -1, *others.shape[-2:]))
    logits = torch.where(stable[..., None, None], first, chosen)
    iou = torch.where(stable, answer.iou[:, :, :1], answer.iou[:, :, 1:].gather(2, best))
    return Answer(torch.cat([logits, others], 2), torch.cat([iou, answer.iou[:, :, 1:]], 2), answer.object_score)


def _joined(answers: list[Answer], shape: tuple[int, int]) -> Answer:
    """Join the answers to chunks of all images' prompts, (b, p) of them, in their order."""

    def join(parts: list[Tensor]) -> Tensor:
        joined: Tensor = torch.cat(parts, 1).unflatten(1, shape)[0]
        return joined

    scores = [answer.object_score for answer in answers if answer.object_score is not None]
    logits, iou = join([answer.logits for answer in answers]), join([answer.iou for answer in answers])
    return Answer(logits, iou, join(scores) if scores else None)


def _both(x: Float[Tensor, "b c h w"], first: nn.Conv2d, second: nn.Conv2d) -> Float[Tensor, "b o h w"]:
    """Apply two 1×1 convolutions as the one that they amount to."""
    assert first.bias is not None and second.bias is not None
    outer = second.weight.flatten(1)
    inner, offset = first.weight.flatten(1).to(outer.dtype), first.bias.to(outer.dtype)  # the encoder's may be coarser
    weight, bias = outer @ inner, F.linear(offset, outer, second.bias)
    return product(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _zero_convolution(channels: int, out_channels: int) -> nn.Conv2d:
    """Make a 1×1 convolution that adds nothing yet: training may go on from weights that have none."""
    convolution = nn.Conv2d(channels, out_channels, 1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def cells_of_2(x: Float[Tensor, "b d h2 w2"]) -> Float[Tensor, "b h w 2 2 d"]:
    """Group pixels by 2×2 of a cell, (row, column): the order in which `Upscale.pixels` makes them."""
    grouped: Tensor = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    return grouped.transpose(2, 3)


def cells_of_4(x: Float[Tensor, "b e h4 w4"]) -> Float[Tensor, "b h w 2 2 2 2 e"]:
    """Group pixels by 4×4 of a cell, (row, column, subrow, subcolumn): the inverse of `place_pixels`."""
    grouped: Tensor = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2, 2)).unflatten(1, (-1, 2, 2))
    return grouped.permute(0, 1, 4, 2, 5, 3, 6, 7)


def place_pixels(x: Float[Tensor, "... h w 2 2 2 2 e"]) -> Float[Tensor, "... hm wm e"]:
    """Put the 4×4 pixels of each cell, ordered (row, column, subrow, subcolumn), in their places."""
    height, width = x.shape[-7:-5]
    lead = tuple(range(x.ndim - 7))
    order = [x.ndim - 7 + axis for axis in (0, 2, 4, 1, 3, 5, 6)]
    return x.permute(*lead, *order).reshape(*x.shape[:-7], 4 * height, 4 * width, x.shape[-1])
