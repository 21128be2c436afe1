"""The two-way transformer: prompts' tokens and the image attend to each other.

Legend: B images, P prompts per image, Q 1 (an image side that all prompts share) or P, T tokens, L image cells, C
width. Source: SAM, app. A, "Lightweight mask decoder".

An image's side stays shared for as long as no prompt has changed it: its keys, values and queries for the first
layer are projected once per image, never copied per prompt.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anymask.model.config import DecoderConfig
from anymask.model.dense import Linear

_MAX_FOLD = 2
"""Rows of all heads, in units of the projections' width, up to which folding them into the tokens pays."""


class Attention(nn.Module):
    """Multi-head attention at a width reduced by `downsample` for queries, keys and values."""

    def __init__(self, width: int, num_heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = width // downsample
        self.num_heads = num_heads
        self.q_proj = Linear(width, inner)
        self.k_proj = Linear(width, inner)
        self.v_proj = Linear(width, inner)
        self.out_proj = Linear(inner, width)

    def forward(
        self,
        q: Float[Tensor, "b i s c"],
        k: Float[Tensor, "b j t c"],
        v: Float[Tensor, "b j t c"],
        present: Bool[Tensor, "b j t"] | None = None,
    ) -> Float[Tensor, "b p s c"]:
        """Attend per prompt; a side given once (i or j of 1) serves all prompts of its image, uncopied.

        Absent keys are skipped. Where one side is a few tokens and the other an image, its projections are folded into
        the tokens' (`_read`, `_write`): the image is then never projected, and products are a few large ones.
        """
        if torch.compiler.is_exporting():  # the number of tokens is not known yet
            return self._attend(q, k, v, present)
        few = min(k.shape[2], _MAX_FOLD * self.q_proj.out_features)
        if present is None and self.num_heads * q.shape[2] <= few:
            return self._read(q, k, v)
        few = min(q.shape[2], _MAX_FOLD * self.q_proj.out_features)
        return self._write(q, k, v, present) if self.num_heads * k.shape[2] <= few else self._attend(q, k, v, present)

    def _read(
        self, q: Float[Tensor, "b i s c"], k: Float[Tensor, "b j t c"], v: Float[Tensor, "b j t c"]
    ) -> Float[Tensor, "b p s c"]:
        """Few queries, many keys: queries are carried to the keys' channels, and values projected once they are mixed.

        The keys' bias moves all logits of a softmax alike, and has no effect.
        """
        heads = self._heads(self.q_proj(q)) * (self.q_proj.out_features // self.num_heads) ** -0.5
        asked = (heads @ self.k_proj.weight.unflatten(0, (self.num_heads, -1))).flatten(2, 3)
        prompts = max(q.shape[1], k.shape[1])
        if k.shape[1] == 1 < prompts:
            asked = asked.flatten(1, 2)[:, None]
        mixed = (asked @ k.transpose(-2, -1)).softmax(-1) @ v
        mixed = mixed.view(len(q), prompts, self.num_heads, q.shape[2], -1)
        out = mixed @ self.v_proj.weight.unflatten(0, (self.num_heads, -1)).transpose(-2, -1)
        y: Tensor = self.out_proj(out.transpose(2, 3).flatten(3) + self.v_proj.bias.to(out.dtype))
        return y

    def _write(
        self,
        q: Float[Tensor, "b i s c"],
        k: Float[Tensor, "b j t c"],
        v: Float[Tensor, "b j t c"],
        present: Bool[Tensor, "b j t"] | None,
    ) -> Float[Tensor, "b p s c"]:
        """Many queries, few keys: keys are carried to the queries' channels, and values to the output's."""
        keys = self._heads(self.k_proj(k)) * (self.k_proj.out_features // self.num_heads) ** -0.5
        asked = (keys @ self.q_proj.weight.unflatten(0, (self.num_heads, -1))).flatten(2, 3)
        bias = (keys @ self.q_proj.bias.view(self.num_heads, -1, 1))[..., 0]
        told = (self._heads(self.v_proj(v)) @ self.out_proj.weight.T.unflatten(0, (self.num_heads, -1))).flatten(2, 3)
        if q.shape[1] == 1 < k.shape[1]:  # one image's queries against all prompts
            logits = (asked.flatten(1, 2) @ q[:, 0].transpose(-2, -1)).unflatten(1, (k.shape[1], -1))
        else:
            logits = asked @ q.transpose(-2, -1)
        logits = logits.unflatten(2, (self.num_heads, -1)) + bias[..., None]
        if present is not None:
            logits = logits.masked_fill(~present[:, :, None, :, None], -torch.inf)
        shares = logits.softmax(3).flatten(2, 3)  # over keys that lie a row apart: softmax of rows so short is slow
        out = shares.transpose(-2, -1) @ told
        y: Tensor = out + self.out_proj.bias.to(out.dtype)  # bfloat16 stays that under autocast
        return y

    def _attend(
        self,
        q: Float[Tensor, "b i s c"],
        k: Float[Tensor, "b j t c"],
        v: Float[Tensor, "b j t c"],
        present: Bool[Tensor, "b j t"] | None,
    ) -> Float[Tensor, "b p s c"]:
        """Attend as written in textbooks. The product is written out: with so few tokens, fused kernels are slower."""
        q, k, v = self._heads(self.q_proj(q)), self._heads(self.k_proj(k)), self._heads(self.v_proj(v))
        q = q * q.shape[-1] ** -0.5
        prompts = max(q.shape[1], k.shape[1])
        if k.shape[1] == 1 < prompts:  # all prompts' queries against one image
            q = q.transpose(1, 2).flatten(2, 3)[:, None]
            logits = q @ k.transpose(-2, -1)
        elif q.shape[1] == 1 < prompts:  # one image's queries against all prompts
            keys = k.transpose(1, 2).flatten(2, 3)
            logits = (q[:, 0] @ keys.transpose(-2, -1)).unflatten(-1, (prompts, -1)).movedim(3, 1)
        else:
            logits = q @ k.transpose(-2, -1)
        if present is not None:
            logits = logits.masked_fill(~present[:, :, None, None, :], -torch.inf)
        out = logits.softmax(-1) @ v
        if out.shape[1] != prompts:
            out = out[:, 0].unflatten(2, (prompts, -1)).transpose(1, 2)
        y: Tensor = self.out_proj(out.transpose(2, 3).flatten(3))
        return y

    def _heads(self, x: Float[Tensor, "b p t i"]) -> Float[Tensor, "b p n t d"]:
        split: Tensor = x.unflatten(-1, (self.num_heads, -1))
        return split.transpose(2, 3)


class TokenMLP(nn.Module):
    """Two linear layers with ReLU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = Linear(width, hidden)
        self.lin2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        y: Tensor = self.lin2(self.lin1(x, "relu"))
        return y


class TwoWayBlock(nn.Module):
    """Token self-attention, tokens → image, MLP on tokens, image → tokens."""

    def __init__(self, width: int, config: DecoderConfig, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, config.num_heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, config.num_heads, 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = TokenMLP(width, config.mlp_dim)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, config.num_heads, 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, present: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Update tokens (b, p, t, c) and image (b, q, l, c); the image side comes back per prompt."""
        tokens = self.attend_tokens(tokens, token_pe, present)
        located = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, located, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(located, tokens + token_pe, tokens, present))
        return tokens, image

    def attend_tokens(self, tokens: Tensor, token_pe: Tensor, present: Tensor | None) -> Tensor:
        """Let the tokens (b, p, t, c) of each prompt attend to each other."""
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens, present)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens, present)
        attended: Tensor = self.norm1(tokens)
        return attended


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks and a last tokens → image attention."""

    def __init__(self, width: int, config: DecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, config, first=i == 0) for i in range(config.depth))
        self.final_attn_token_to_image = Attention(width, config.num_heads, 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(
        self,
        image: Float[Tensor, "b q l c"],
        image_pe: Float[Tensor, "l c"],
        tokens: Float[Tensor, "b p t c"],
        present: Bool[Tensor, "b p t"] | None = None,
    ) -> tuple[Float[Tensor, "b p t c"], Float[Tensor, "b p l c"]]:
        """Return the tokens and the image, each having attended to the other, for every prompt."""
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe, present)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + attended), image
