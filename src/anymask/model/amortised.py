"""The two-way transformer with the image's side computed once an image, and exactly.

Legend: Q 1 or one a prompt, T tokens, L image cells, C width, I inner width of cross-attention, N heads, D = I/N.

A prompt has few tokens T, so what each attention adds to the image, and what it asks of it, has a rank of at most
N·T. Three identities follow, each exact but for rounding:

- the first layer's keys, values and queries of the image depend on no prompt;
- tokens → image: `q·(x W_k) = (q W_kᵀ)·x`, and `(A x) W_v` for `A (x W_v)`: the image is never projected;
- image → tokens: `(x W_q)·k = x·(W_q kᵀ)`, and the output `A (v W_o)` for `(A v) W_o`.

Positions enter through their own projections, which no image changes. With N·T below I this is less work than the
plain form, which remains the reference, is trained, and serves longer prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from anymask.model.dense import product
from anymask.model.two_way import Attention, TwoWayBlock, TwoWayTransformer


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionSide:
    """The grid's positions and their projections: per layer the keys and queries, and the last attention's keys."""

    encoded: Float[Tensor, "l c"]
    keys: tuple[Float[Tensor, "l i"], ...]
    queries: tuple[Float[Tensor, "l i"], ...]
    final_keys: Float[Tensor, "l i"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSide:
    """What prompts share of an image: its cells, and their keys, values and queries in the first layer."""

    cells: Float[Tensor, "b q l c"]
    keys: Float[Tensor, "b q l i"]
    values: Float[Tensor, "b q l i"]
    queries: Float[Tensor, "b q l i"]
    positions: PositionSide

    def part(self, b: int, p: int) -> ImageSide:
        """Cut out the side (l, c) of one prompt."""
        q = p if self.cells.shape[1] > 1 else 0
        cut = {name: getattr(self, name)[b, q] for name in ("cells", "keys", "values", "queries")}
        return ImageSide(**cut, positions=self.positions)


def project_positions(transformer: TwoWayTransformer, image_pe: Float[Tensor, "l c"]) -> PositionSide:
    """Project the positions once a model; the biases of keys are left out, as they move no softmax."""
    blocks = _blocks(transformer)
    return PositionSide(
        encoded=image_pe,
        keys=tuple(product(image_pe, b.cross_attn_token_to_image.k_proj.weight) for b in blocks),
        queries=tuple(b.cross_attn_image_to_token.q_proj(image_pe) for b in blocks),
        final_keys=product(image_pe, transformer.final_attn_token_to_image.k_proj.weight),
    )


def project_image(
    transformer: TwoWayTransformer, positions: PositionSide, cells: Float[Tensor, "b q l c"]
) -> ImageSide:
    """Project an image (with its dense prompt) for the first layer."""
    first = _blocks(transformer)[0]
    reading, writing = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    return ImageSide(
        cells=cells,
        keys=product(cells, reading.k_proj.weight) + positions.keys[0],
        values=reading.v_proj(cells),
        queries=product(cells, writing.q_proj.weight) + positions.queries[0],
        positions=positions,
    )


def pays(transformer: TwoWayTransformer, num_tokens: int) -> bool:
    """Whether prompts of this many tokens cost less here than in the plain form."""
    attention = transformer.final_attn_token_to_image
    return num_tokens * attention.num_heads < attention.q_proj.out_features


def attend(
    transformer: TwoWayTransformer, side: ImageSide, tokens: Float[Tensor, "b p t c"]
) -> tuple[Float[Tensor, "b p t c"], Float[Tensor, "b p l c"]]:
    """Return what `TwoWayTransformer.forward` returns, for prompts without absent tokens."""
    batch, prompts = tokens.shape[:2]
    hidden = torch.empty_like(tokens)
    image = tokens.new_empty(batch, prompts, *side.cells.shape[2:])
    for b in range(batch):
        for p in range(prompts):
            hidden[b, p], image[b, p] = _attend_one(transformer, side.part(b, p), tokens[b, p])
    return hidden, image


def _attend_one(transformer: TwoWayTransformer, side: ImageSide, token_pe: Tensor) -> tuple[Tensor, Tensor]:
    tokens, image, positions = token_pe, side.cells, side.positions
    for index, block in enumerate(_blocks(transformer)):
        tokens = block.attend_tokens(tokens[None, None], token_pe[None, None], None)[0, 0]
        reading, writing = block.cross_attn_token_to_image, block.cross_attn_image_to_token
        asking = tokens + token_pe
        if index == 0:
            read = _read_projected(reading, asking, side.keys, side.values)
        else:
            read = _read(reading, asking, image, positions.keys[index])
        tokens = block.norm2(tokens + read)
        tokens = block.norm3(tokens + block.mlp(tokens))
        queries, unprojected = (side.queries, None) if index == 0 else (positions.queries[index], image)
        image = block.norm4(_write(writing, image, queries, unprojected, tokens + token_pe, tokens))
    read = _read(transformer.final_attn_token_to_image, tokens + token_pe, image, positions.final_keys)
    return transformer.norm_final_attn(tokens + read), image


def _read_projected(attention: Attention, asking: Tensor, keys_LI: Tensor, values_LI: Tensor) -> Tensor:
    """Tokens → image, with the image projected already."""
    q_NTD = _heads(attention, attention.q_proj(asking)) * _scale(attention)
    shares = (q_NTD @ _heads(attention, keys_LI).transpose(-2, -1)).softmax(-1)
    out: Tensor = attention.out_proj((shares @ _heads(attention, values_LI)).transpose(0, 1).flatten(1))
    return out


def _read(attention: Attention, asking: Tensor, image_LC: Tensor, position_keys_LI: Tensor) -> Tensor:
    """Tokens → image, with the tokens carried to the image's width instead."""
    q_NTD = _heads(attention, attention.q_proj(asking)) * _scale(attention)
    heads, length, _ = q_NTD.shape
    carried = q_NTD @ attention.k_proj.weight.unflatten(0, (heads, -1))
    logits_XL = product(carried.flatten(0, 1), image_LC).view(heads, length, -1)
    logits_XL = logits_XL + q_NTD @ _heads(attention, position_keys_LI).transpose(-2, -1)
    mixed_XC = logits_XL.softmax(-1).flatten(0, 1) @ image_LC
    values_NTD = mixed_XC.view(heads, length, -1) @ attention.v_proj.weight.unflatten(0, (heads, -1)).transpose(1, 2)
    out: Tensor = attention.out_proj(values_NTD.transpose(0, 1).flatten(1) + attention.v_proj.bias)
    return out


def _write(
    attention: Attention,
    image_LC: Tensor,
    queries_LI: Tensor,
    unprojected_LC: Tensor | None,
    keys: Tensor,
    values: Tensor,
) -> Tensor:
    """Image → tokens, added to the image; `unprojected` cells are yet to be added to the queries."""
    k_NTD = _heads(attention, attention.k_proj(keys)) * _scale(attention)
    v_NTD = _heads(attention, attention.v_proj(values))
    heads, length, _ = k_NTD.shape
    block_XI = torch.block_diag(*k_NTD)
    logits_LX = product(queries_LI, block_XI)
    if unprojected_LC is not None:
        logits_LX = logits_LX + product(unprojected_LC, block_XI @ attention.q_proj.weight)
    shares_LX = logits_LX.unflatten(1, (heads, length)).softmax(-1).flatten(1)
    out_weight_NDC = attention.out_proj.weight.T.unflatten(0, (heads, -1))
    written_XC = (v_NTD @ out_weight_NDC).flatten(0, 1)
    return image_LC + product(shares_LX, written_XC.T.contiguous(), attention.out_proj.bias)


def _heads(attention: Attention, x_LI: Tensor) -> Tensor:
    x_NLD: Tensor = x_LI.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1)
    return x_NLD


def _scale(attention: Attention) -> float:
    return float((attention.q_proj.out_features // attention.num_heads) ** -0.5)


def _blocks(transformer: TwoWayTransformer) -> list[TwoWayBlock]:
    return [block for block in transformer.layers if isinstance(block, TwoWayBlock)]
