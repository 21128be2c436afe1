"""The image encoder of EfficientTAM: a plain vision transformer, windowed but for a few blocks, and a neck.

Blocks are Hiera's without pooling. Positions are those of pre-training, a class token's first, stretched over an image.
Parameter names are those of the published checkpoints. Source: Efficient Track Anything (Xiong et al. 2024), sec. 3.

Legend: B images, H×W patch grid, C width.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from anymask.model.config import PlainViTConfig
from anymask.model.dense import LayerNorm2d
from anymask.model.hiera import HieraBlock
from anymask.model.image_encoder import PatchEmbedding


class PlainViT(nn.Module):
    """The transformer, without its class token."""

    def __init__(self, config: PlainViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.patch_size, config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.position_grid**2, config.width))
        last = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(
            HieraBlock(
                config.width,
                config.width,
                config.num_heads,
                0 if i in config.global_blocks else config.window_size,
                config.mlp_ratio,
                config.drop_path * i / last,
            )
            for i in range(config.depth)
        )

    def forward(self, images_B3SS: Float[Tensor, "b 3 s s"], *, checkpointing: bool) -> Float[Tensor, "b h w c"]:
        """Return the patches' features."""
        x = self.patch_embed(images_B3SS)
        x = x + self._positions(x.shape[1], x.shape[2]).to(x.dtype)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if checkpointing else block(x)
        found: Tensor = x
        return found

    def _positions(self, height: int, width: int) -> Float[Tensor, "1 h w c"]:
        side = self.config.position_grid
        stored: Tensor = self.pos_embed[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2).float()
        resized = F.interpolate(stored, (height, width), mode="bicubic", align_corners=False)
        return resized.permute(0, 2, 3, 1)


class PlainNeck(nn.Module):
    """SAM's neck, by other names."""

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        layers = OrderedDict(
            conv_1x1=nn.Conv2d(width, out_channels, 1, bias=False),
            norm_0=LayerNorm2d(out_channels),
            conv_3x3=nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            norm_1=LayerNorm2d(out_channels),
        )
        self.convs = nn.ModuleList([nn.Sequential(layers)])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (b, width, h, w) to (b, out_channels, h, w)."""
        y: Tensor = self.convs[0](x_BCHW)
        return y


class PlainViTEncoder(nn.Module):
    """EfficientTAM's encoder: an image embedding at stride 16, and nothing finer."""

    def __init__(self, config: PlainViTConfig, out_channels: int) -> None:
        super().__init__()
        self.trunk = PlainViT(config)
        self.neck = PlainNeck(config.width, out_channels)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, out_channels))
        """Added to the embedding of an image that no others came before, as there are in a video."""
        self.checkpointing = False
        """Whether blocks compute their activations again in the backward pass rather than keep them."""

    def forward(self, images_B3SS: Float[Tensor, "b 3 s s"]) -> tuple[Float[Tensor, "b c h w"], None]:
        """Return the image embedding, and nothing for skips."""
        recomputed = self.checkpointing and torch.is_grad_enabled()
        x = self.trunk(images_B3SS, checkpointing=recomputed)
        embedding = self.neck(x.permute(0, 3, 1, 2)) + self.no_mem_embed.reshape(1, -1, 1, 1)
        return embedding, None
