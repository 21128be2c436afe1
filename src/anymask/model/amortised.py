"""The two-way transformer with the image's side computed once per image, and exactly.

Legend: Q 1, as all prompts share their image, T tokens, L image cells, C width, I inner width of cross-attention, N
heads, D = I/N, J the transformer's blocks and its last attention, K rows of what a prompt has written to the image.

Image → token attention has few keys, so that what a prompt writes to the image has a low rank: a block adds A·B, where
A (L, N·T) are its shares and B (N·T, C) its values. Layer normalisation subtracts a row's mean and divides by its
deviation; the former is linear, the latter a factor of the row. After any number of blocks the image is therefore

    diag(r) · S + Fᵀ · E

S, the image with means taken off and gains multiplied in, is the same for all prompts; r (L), F (K, L) and E (K, C) are
the prompt's, and small. All that follows is linear in the image: keys, values and queries of the blocks, and the first
transposed convolution. Each is a projection of S, made once per image, and one of E, which costs next to nothing. The
deviations too come from lengths and inner products of S made beforehand, and the Gram matrix of E. So no prompt has an
image of its own, and a click costs a small part of the plain form's, which remains the reference, is trained, and
serves longer prompts. Nothing is approximated; differences are those of rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model.dense import Linear, product
from anymask.model.two_way import Attention, TwoWayBlock, TwoWayTransformer

_CHUNK = 1 << 19
"""Numbers that the rows of all prompts answered together have, at most, in one block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPositions:
    """Projections of the grid's positions, which no image changes: keys of each reading, queries of each writing.

    In the queries are those of the last normalisation's bias; in keys it would move no softmax, and is left out.
    """

    keys: Float[Tensor, "j n d l"]
    queries: Float[Tensor, "j-1 n d l"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedImage:
    """What prompts share of an image, as each block and the last attention see it.

    The first block's keys and queries have the positions in them.
    """

    keys: Float[Tensor, "b q j n d l"]
    values: Float[Tensor, "b q j n l d"]
    queries: Float[Tensor, "b q j-1 n d l"]
    lengths: Float[Tensor, "b q j-1 l"]
    """Mean square of each centred cell, which is the variance that layer normalisation asks for."""
    written: Float[Tensor, "b q pairs n d l"]
    """Inner products of the cells entering a block with what each block up to it writes for a unit value."""
    constant: Float[Tensor, "b q pairs l"]
    """Inner products with what the biases of each block up to it write."""
    drawn: Float[Tensor, "b q h w o"]
    """The first transposed convolution, without bias."""
    coarse: Float[Tensor, "b q h w 2 2 d"] | None = None
    """What is added to the pixels of the first transposed convolution; None: nothing."""
    fine: Float[Tensor, "b q h w 2 2 2 2 e"] | None = None
    """What is added to the pixels of the second one; None: nothing."""
    positions: SharedPositions

    @property
    def grid(self) -> tuple[int, int]:
        """Cells (down, across)."""
        return self.drawn.shape[-3], self.drawn.shape[-2]

    def part(self, b: int) -> SharedImage:
        """Return the side of one image, without the first two axes."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        own: dict[str, Any] = {name: value[b, 0] for name, value in fields.items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **own)


def project_positions(transformer: TwoWayTransformer, image_pe: Float[Tensor, "l c"]) -> SharedPositions:
    """Project the positions once per model."""
    blocks = _blocks(transformer)
    readings = [*(b.cross_attn_token_to_image for b in blocks), transformer.final_attn_token_to_image]
    writings = [b.cross_attn_image_to_token for b in blocks]
    located = [image_pe, *(image_pe + block.norm4.bias for block in blocks[:-1])]
    return SharedPositions(
        keys=torch.stack([_across(product(image_pe, a.k_proj.weight), a.num_heads) for a in readings]),
        queries=torch.stack([_across(a.q_proj(x), a.num_heads) for a, x in zip(writings, located, strict=True)]),
    )


def project_image(
    transformer: TwoWayTransformer,
    upscale: Float[Tensor, "o c"],
    positions: SharedPositions,
    image: Float[Tensor, "b q h w c"],
) -> SharedImage:
    """Project an image, its dense prompt in it, for all blocks, the last attention and the transposed convolution."""
    cells = image.flatten(2, 3)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    queries: list[Tensor] = []
    lengths: list[Tensor] = []
    written: list[Tensor] = []
    constant: list[Tensor] = []
    outputs: list[tuple[Attention, Tensor]] = []
    biases: list[Tensor] = []
    offset = cells.new_zeros(cells.shape[-1])
    for block in _blocks(transformer):
        reading, writing, norm = block.cross_attn_token_to_image, block.cross_attn_image_to_token, block.norm4
        keys.append(_across(product(cells, reading.k_proj.weight), reading.num_heads))
        values.append(_heads(product(cells, reading.v_proj.weight), reading.num_heads))
        queries.append(_across(product(cells, writing.q_proj.weight), writing.num_heads))
        cells = _centred(cells)
        outputs = [(a, _centred(w)) for a, w in [*outputs, (writing, writing.out_proj.weight.T)]]
        biases = [_centred(b) for b in [*biases, offset + writing.out_proj.bias]]
        lengths.append(cells.square().mean(-1))
        written += [_across(product(cells, w), a.num_heads) for a, w in outputs]
        constant.append(product(cells, torch.stack(biases)).transpose(-2, -1))
        cells = cells * norm.weight
        outputs = [(a, w * norm.weight) for a, w in outputs]
        biases = [b * norm.weight for b in biases]
        offset = norm.bias
    last = transformer.final_attn_token_to_image
    keys[0] = keys[0] + positions.keys[0]
    queries[0] = queries[0] + positions.queries[0]
    return SharedImage(
        keys=torch.stack([*keys, _across(product(cells, last.k_proj.weight), last.num_heads)], 2),
        values=torch.stack([*values, _heads(product(cells, last.v_proj.weight), last.num_heads)], 2),
        queries=torch.stack(queries, 2),
        lengths=torch.stack(lengths, 2),
        written=torch.stack(written, 2),
        constant=torch.cat(constant, 2),
        drawn=product(cells, upscale).unflatten(2, image.shape[2:4]),
        positions=positions,
    )


def is_worthwhile(transformer: TwoWayTransformer, num_tokens: int) -> bool:
    """Whether prompts of this many tokens cost less here than in the plain form."""
    if torch.compiler.is_exporting():  # the number is not known yet, and seldom large
        return True
    attention = transformer.final_attn_token_to_image
    return num_tokens * attention.num_heads < attention.q_proj.out_features


def chunks(side: SharedImage, num_prompts: int, num_tokens: int) -> list[slice]:
    """Return which prompts about an image to answer together: as many as keep their rows in a CPU's cache."""
    if _at_once(side.keys):
        return [slice(None)]
    heads, _, length = side.keys.shape[-3:]
    step = max(1, _CHUNK // (num_tokens * heads * length))
    return [slice(p, p + step) for p in range(0, num_prompts, step)]


def attend(
    transformer: TwoWayTransformer, side: SharedImage, tokens: Float[Tensor, "p t c"]
) -> tuple[Float[Tensor, "p t c"], PromptImages]:
    """Return the tokens that `TwoWayTransformer.forward` returns, and the prompts' images.

    For prompts about one image, given as `SharedImage.part`, that have no absent tokens.
    """
    token_pe, images, positions = tokens, PromptImages(offset=torch.zeros_like(tokens[0, 0])), side.positions
    blocks = _blocks(transformer)
    spread: list[Tensor] = []
    counts = [1 + j for j in range(len(blocks))]
    written, constant = side.written.split(counts), side.constant.split(counts)
    for j, block in enumerate(blocks):
        tokens = block.attend_tokens(tokens[None], token_pe[None], None)[0]
        reading, writing = block.cross_attn_token_to_image, block.cross_attn_image_to_token
        read = _read(reading, images, tokens + token_pe, side.keys[j], side.values[j], positions.keys[j])
        tokens = block.norm2(tokens + read)
        tokens = block.norm3(tokens + block.mlp(tokens))
        asking = _heads(writing.k_proj(tokens + token_pe), writing.num_heads) * _scale(writing)
        logits = images.logits(asking, writing.q_proj.weight, side.queries[j], positions.queries[j])
        values = _heads(writing.v_proj(tokens), writing.num_heads)
        outward = values @ writing.out_proj.weight.T.unflatten(0, (writing.num_heads, -1))
        images.write(logits.softmax(2).flatten(1, 2), outward.flatten(1, 2), writing.out_proj.bias)
        spread.append(values)
        images.normalise(block.norm4, side.lengths[j], _overlaps(spread, written[j], constant[j]))
    last = transformer.final_attn_token_to_image
    read = _read(last, images, tokens + token_pe, side.keys[-1], side.values[-1], positions.keys[-1])
    return transformer.norm_final_attn(tokens + read), images


@dataclass(slots=True)
class PromptImages:
    """Each prompt's image, diag(scale) · S + rowsᵀ · coefficients; before the first block has written, S itself."""

    offset: Float[Tensor, " c"]
    """Added to every cell by the last normalisation, and left out of the rest."""
    scale: Float[Tensor, "p l"] | None = None
    rows: Float[Tensor, "p k l"] | None = None
    coefficients: Float[Tensor, "p k c"] | None = None

    def logits(
        self,
        asking: Float[Tensor, "p n t d"],
        weight: Float[Tensor, "i c"],
        shared: Float[Tensor, "n d l"],
        positions: Float[Tensor, "n d l"],
    ) -> Float[Tensor, "p n t l"]:
        """Ask their projections by `weight`, and positions; `shared` is S's projection, at first with the positions."""
        logits = _by_head(asking, shared)
        if self.scale is None or self.rows is None or self.coefficients is None:
            return logits
        asked = asking @ _across(product(self.coefficients, weight), asking.shape[1])
        scaled = (logits * self.scale[:, None, None]).flatten(1, 2)
        own = torch.baddbmm(scaled, asked.flatten(1, 2), self.rows)
        located: Tensor = own.unflatten(1, asking.shape[1:3]).add_(_by_head(asking, positions))
        return located

    def mix(
        self, shares: Float[Tensor, "p n t l"], projection: Linear, shared: Float[Tensor, "n l d"]
    ) -> Float[Tensor, "p t i"]:
        """Mix their projections by shares that add up to 1; `shared` is S's, without bias."""
        if self.scale is None or self.rows is None or self.coefficients is None:
            mixed = _by_head(shares, shared)
        else:
            mixed = _by_head(shares * self.scale[:, None, None], shared)
            own = _times(shares.flatten(1, 2), self.rows).unflatten(1, shares.shape[1:3])
            mixed = mixed + own @ _heads(product(self.coefficients, projection.weight), shares.shape[1])
        together: Tensor = mixed.transpose(1, 2).flatten(2) + projection(self.offset)
        return together

    def write(self, shares: Float[Tensor, "p x l"], values: Float[Tensor, "p x c"], bias: Float[Tensor, " c"]) -> None:
        """Add sharesᵀ · values, and the bias to each cell."""
        rows = [shares, torch.ones_like(shares[:, :1])]
        coefficients = [values, (self.offset + bias).expand_as(values[:, :1])]
        if self.rows is not None and self.coefficients is not None:
            rows, coefficients = [self.rows, *rows], [self.coefficients, *coefficients]
        self.rows, self.coefficients = torch.cat(rows, 1), torch.cat(coefficients, 1)

    def normalise(self, norm: nn.LayerNorm, length: Float[Tensor, " l"], overlaps: Float[Tensor, "p k l"]) -> None:
        """Normalise each cell; `length` is S's, `overlaps` the inner products of S with the coefficients."""
        assert self.rows is not None and self.coefficients is not None
        centred = _centred(self.coefficients)
        width = centred.shape[2]
        if self.scale is not None:
            length, overlaps = length * self.scale.square(), overlaps * self.scale[:, None]
        squares = torch.baddbmm(overlaps, centred @ centred.mT, self.rows, beta=2 / width, alpha=1 / width)
        variance = length + (squares * self.rows).sum(1)
        factor = (variance.clamp(min=0) + norm.eps).rsqrt()
        self.scale = factor if self.scale is None else self.scale * factor
        self.rows = self.rows * factor[:, None]
        self.coefficients = centred * norm.weight
        self.offset = norm.bias

    def project(
        self, weight: Float[Tensor, "o c"], bias: Float[Tensor, " o"], shared: Float[Tensor, "l o"], band: int
    ) -> Iterator[tuple[slice, Float[Tensor, "p cells o"]]]:
        """Yield their projections; `shared` is S's, without bias.

        On a CPU one prompt after the other, `band` cells at a time; elsewhere all at once.
        """
        assert self.scale is not None and self.rows is not None and self.coefficients is not None
        matrices = product(self.coefficients, weight).mT.contiguous()
        offset = F.linear(self.offset, weight, bias)
        everything = slice(None)
        at_once = _at_once(weight)
        for prompt in [everything] if at_once else [slice(p, p + 1) for p in range(len(matrices))]:
            for start in [0] if at_once else range(0, len(shared), band):
                cells = everything if at_once else slice(start, start + band)
                rows = self.rows[prompt, :, cells].mT.contiguous()
                own = _times(rows, matrices[prompt], offset)
                yield prompt, own.addcmul_(shared[cells], self.scale[prompt, cells, None])


def _read(
    attention: Attention, images: PromptImages, asking: Tensor, keys: Tensor, values: Tensor, positions: Tensor
) -> Float[Tensor, "p t c"]:
    """Tokens → image."""
    asking = _heads(attention.q_proj(asking), attention.num_heads) * _scale(attention)
    shares = images.logits(asking, attention.k_proj.weight, keys, positions).softmax(-1)
    out: Tensor = attention.out_proj(images.mix(shares, attention.v_proj, values))
    return out


def _overlaps(
    values: list[Tensor], written: Float[Tensor, "blocks n d l"], constant: Float[Tensor, "blocks l"]
) -> Float[Tensor, "p k l"]:
    """Return the inner products of S with all that the blocks wrote, in the order of `PromptImages.coefficients`."""
    parts: list[Tensor] = []
    for value, unit, bias in zip(values, written, constant, strict=True):
        parts += [_by_head(value, unit).flatten(1, 2), bias.expand(value.shape[0], 1, -1)]
    return torch.cat(parts, 1)


def _by_head(x: Float[Tensor, "p n t d"], shared: Float[Tensor, "n d l"]) -> Float[Tensor, "p n t l"]:
    """Multiply by what all prompts share, uncopied: their rows stand below each other."""
    stacked = x.transpose(0, 1).flatten(1, 2) @ shared
    by_prompt: Tensor = stacked.unflatten(1, (x.shape[0], x.shape[2])).transpose(0, 1)
    return by_prompt


def _times(
    x: Float[Tensor, "p m k"], weight: Float[Tensor, "p n k"], bias: Float[Tensor, " n"] | None = None
) -> Float[Tensor, "p m n"]:
    """Return x · weightᵀ + bias for each prompt; on a CPU by `product`."""
    if _at_once(x):
        y = x @ weight.mT
        return y if bias is None else y + bias
    return torch.stack([product(one, own, bias) for one, own in zip(x, weight, strict=True)])


def _at_once(x: Tensor) -> bool:
    """Whether all prompts are better done in one call: the device likes batches, or their number is not known yet."""
    return x.device.type != "cpu" or torch.compiler.is_exporting()


def _heads(x: Float[Tensor, "*lead l i"], num_heads: int) -> Float[Tensor, "*lead n l d"]:
    """Split the channels into heads."""
    split: Tensor = x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)
    return split


def _across(x: Float[Tensor, "*lead l i"], num_heads: int) -> Float[Tensor, "*lead n d l"]:
    """Split the channels into heads, the cells last: the form in which queries and keys are asked."""
    return _heads(x, num_heads).transpose(-2, -1)


def _centred(x: Float[Tensor, "... c"]) -> Float[Tensor, "... c"]:
    """Take the mean over channels off."""
    return x - x.mean(-1, keepdim=True)


def _scale(attention: Attention) -> float:
    return float((attention.q_proj.out_features // attention.num_heads) ** -0.5)


def _blocks(transformer: TwoWayTransformer) -> list[TwoWayBlock]:
    return [block for block in transformer.layers if isinstance(block, TwoWayBlock)]
