"""Masked autoencoders: an image encoder learns to fill in patches that it does not see (He et al. 2022).

SAM's ViT starts from a *plain* one: absolute positions, global attention, and only the visible patches go in. Its
parameters have the names of `ImageEncoderViT`'s, so that they load into it; relative positions start at zero there.
The compact encoder is convolutional and cannot leave patches out: they are painted over with a learned colour
(SimMIM, Xie et al. 2022).

Legend: B images, L patches in rows, K of them visible, C width, p side of a patch, D = p·p·3 values of a patch.
Source: He et al. 2022, sec. 3; SAM, app. A.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.errors import CheckpointError
from anymask.model.attention import self_attention
from anymask.model.compact_encoder import CompactEncoder
from anymask.model.config import CompactConfig, SamConfig, ViTConfig
from anymask.model.dense import Linear
from anymask.model.image_encoder import PatchEmbedding, ViTMLP

_COMPACT_PATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MaeConfig:
    """How much is hidden, and the decoder that a ViT's pre-training throws away at its end."""

    mask_ratio: float = 0.75
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    normalise: bool = True
    """Whether a patch's pixels are to be predicted relative to their own mean and deviation."""

    def __post_init__(self) -> None:
        """Refuse a decoder that cannot be built, and to hide nothing or all."""
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}; it must be above 0 and below 1")
        if self.decoder_depth < 0 or self.decoder_heads < 1:
            raise ValueError(f"decoder_depth is {self.decoder_depth} and decoder_heads {self.decoder_heads}")
        if self.decoder_width < 4 or self.decoder_width % 4 or self.decoder_width % self.decoder_heads:
            raise ValueError(f"decoder_width is {self.decoder_width}; it must be a multiple of 4 and of decoder_heads")


class PlainAttention(nn.Module):
    """Multi-head self-attention over a sequence."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x_BLC: Tensor) -> Tensor:
        """Map (b, l, c) to (b, l, c)."""
        q, k, v = self.qkv(x_BLC).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y: Tensor = self.proj(self_attention(q, k, v).transpose(1, 2).flatten(2))
        return y


class PlainBlock(nn.Module):
    """A pre-norm transformer block without relative positions."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = PlainAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = ViTMLP(width, int(width * mlp_ratio))

    def forward(self, x_BLC: Tensor) -> Tensor:
        """Map (b, l, c) to (b, l, c)."""
        x = x_BLC + self.attn(self.norm1(x_BLC))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class MaeViT(nn.Module):
    """A ViT of a class token and the visible patches; the positions are fixed sines and cosines."""

    def __init__(self, config: ViTConfig, grid: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(config.patch_size, config.width)
        self.pos_embed = nn.Parameter(sine_positions(grid, config.width)[None], requires_grad=False)
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self.blocks = nn.ModuleList(
            PlainBlock(config.width, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(
        self, images: Float[Tensor, "b 3 s s"], visible: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b 1+k c"]:
        """Return the features of the class token and of the visible patches, in the order of their indices.

        None shows all patches. The image's grid of patches must be the one that the positions are made for.
        """
        x = self.patch_embed(images)
        x = (x + self.pos_embed.to(x.dtype)).flatten(1, 2)
        if visible is not None:
            x = x.gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([self.cls_token.to(x.dtype).expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.norm(x)
        return y


class MaeDecoder(nn.Module):
    """A light transformer from the visible patches' features to the pixels of all patches."""

    def __init__(self, width: int, values: int, grid: int, config: MaeConfig) -> None:
        super().__init__()
        self.embed = Linear(width, config.decoder_width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, config.decoder_width) * 0.02)
        self.pos_embed = nn.Parameter(sine_positions(grid, config.decoder_width).flatten(0, 1), requires_grad=False)
        self.blocks = nn.ModuleList(
            PlainBlock(config.decoder_width, config.decoder_heads, 4.0) for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(config.decoder_width, eps=1e-6)
        self.predict = Linear(config.decoder_width, values)

    def forward(self, features: Float[Tensor, "b 1+k c"], visible: Int[Tensor, "b k"]) -> Float[Tensor, "b l d"]:
        """Predict every patch; those that were not visible begin as a learned token at their place."""
        x = self.embed(features)
        tokens = self.mask_token.to(x.dtype).expand(len(x), len(self.pos_embed), -1)
        tokens = tokens.scatter(1, visible[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:])
        x = torch.cat([x[:, :1], tokens + self.pos_embed.to(x.dtype)], 1)
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.predict(self.norm(x[:, 1:]))
        return y


class PaintedEncoder(nn.Module):
    """The compact encoder on an image whose hidden patches are painted over, and a head that predicts all pixels."""

    def __init__(self, config: CompactConfig, width: int) -> None:
        super().__init__()
        self.encoder = CompactEncoder(config, width)
        self.colour = nn.Parameter(torch.zeros(3, 1, 1))
        self.predict = nn.Conv2d(width, 3 * config.stride**2, 1)

    def forward(self, images: Float[Tensor, "b 3 s s"], hidden: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Predict every patch."""
        grid = images.shape[-1] // _COMPACT_PATCH
        area = hidden.unflatten(1, (1, grid, grid)).repeat_interleave(_COMPACT_PATCH, 2)
        painted = torch.where(area.repeat_interleave(_COMPACT_PATCH, 3), self.colour.to(images.dtype), images)
        features, _ = self.encoder(painted)
        stride = images.shape[-1] // features.shape[-1]
        return patchify(F.pixel_shuffle(self.predict(features), stride), _COMPACT_PATCH)


class MaskedAutoencoder(nn.Module):
    """An image encoder of SAM's with what its pre-training needs; images come normalised, and whole (no padding)."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: SamConfig, mae: MaeConfig) -> None:
        super().__init__()
        self.config, self.mae = config, mae
        encoder = config.encoder
        self.patch_size = encoder.patch_size if isinstance(encoder, ViTConfig) else _COMPACT_PATCH
        self.grid, rest = divmod(config.image_size, self.patch_size)
        if rest or self.grid < 2:
            raise CheckpointError(
                f"image_size is {config.image_size}; for masked patches it must be a multiple of {self.patch_size}, "
                f"and at least {2 * self.patch_size}"
            )
        self.painted: PaintedEncoder | None = None
        if isinstance(encoder, ViTConfig):
            self.encoder = MaeViT(encoder, self.grid)
            self.decoder = MaeDecoder(encoder.width, 3 * self.patch_size**2, self.grid, mae)
            self.encoder.apply(_initialise)
            self.decoder.apply(_initialise)
        elif isinstance(encoder, CompactConfig):
            self.painted = PaintedEncoder(encoder, config.width)
        else:
            raise CheckpointError(f"masked pre-training is there for vit and compact encoders, not for {encoder.kind}")
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean, device="cpu").view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std, device="cpu").view(-1, 1, 1), False)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.pixel_mean.device

    @property
    def num_visible(self) -> int:
        """Patches of an image that stay visible: at least one, and one at least is hidden."""
        length = self.grid**2
        return min(length - 1, max(1, int(length * (1 - self.mae.mask_ratio))))

    def draw_visible(self, batch: int, generator: torch.Generator) -> Int[Tensor, "b k"]:
        """Draw each image's visible patches, all with equal chance, in ascending order."""
        noise = torch.rand(batch, self.grid**2, generator=generator, device=generator.device)
        return noise.argsort(1)[:, : self.num_visible].sort(1).values.to(self.device)

    def hidden(self, visible: Int[Tensor, "b k"]) -> Bool[Tensor, "b l"]:
        """Mark the patches that are not visible."""
        marks = torch.ones(len(visible), self.grid**2, dtype=torch.bool, device=visible.device)
        return marks.scatter(1, visible, False)

    def forward(self, images: Float[Tensor, "b 3 s s"], visible: Int[Tensor, "b k"]) -> Float[Tensor, "b l d"]:
        """Predict the pixels of all patches from the visible ones (see `patch_targets`)."""
        if self.painted is not None:
            painted: Tensor = self.painted(images, self.hidden(visible))
            return painted
        predicted: Tensor = self.decoder(self.encoder(images, visible), visible)
        return predicted


def _initialise(module: nn.Module) -> None:
    """Start a plain transformer's matrices as MAE does (Xavier)."""
    if isinstance(module, Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, PatchEmbedding):
        nn.init.xavier_uniform_(module.proj.weight.view(len(module.proj.weight), -1))


def sine_positions(grid: int, width: int) -> Float[Tensor, "g g c"]:
    """Return fixed positions: the first half of the channels tells the column, the second half the row."""
    rates = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], -1).float()
    return torch.cat([line[None].expand(grid, -1, -1), line[:, None].expand(-1, grid, -1)], -1)


def patchify(images: Float[Tensor, "b 3 s s"], side: int) -> Float[Tensor, "b l d"]:
    """Cut images into patches in rows, each as (row, column, colour)."""
    grid = images.shape[-1] // side
    cut = images.unflatten(3, (grid, side)).unflatten(2, (grid, side))
    patches: Tensor = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return patches


def unpatchify(patches: Float[Tensor, "b l d"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Undo `patchify`."""
    grid = round(patches.shape[1] ** 0.5)
    cut = patches.unflatten(2, (side, side, 3)).unflatten(1, (grid, grid))
    images: Tensor = cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
    return images


def patch_statistics(patches: Float[Tensor, "b l d"]) -> tuple[Float[Tensor, "b l 1"], Float[Tensor, "b l 1"]]:
    """Return each patch's mean and deviation, the latter kept from zero."""
    variance, mean = torch.var_mean(patches, -1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def reconstruction_loss(
    predicted: Float[Tensor, "b l d"], patches: Float[Tensor, "b l d"], counted: Bool[Tensor, "b l"], normalise: bool
) -> Float[Tensor, ""]:
    """Return the mean squared error over the values of the patches that count, in float32."""
    target = patches.float()
    if normalise:
        mean, deviation = patch_statistics(target)
        target = (target - mean) / deviation
    errors = (predicted.float() - target).square().mean(-1) * counted
    return errors.sum() / counted.sum().clamp(min=1)
