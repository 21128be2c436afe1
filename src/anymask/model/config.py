"""Sizes of the network: frozen configs, and the dict of the sizes that have names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from anymask.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTConfig:
    """A plain vision transformer with windowed and a few global attention blocks (SAM, sec. 3, app. A)."""

    kind: Literal["vit"] = "vit"
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    patch_size: int = 16
    window_size: int = 14
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    position_grid: int = 64
    """Side of the patch grid at which positions are stored; other grids interpolate them."""

    @property
    def stride(self) -> int:
        """Input pixels a side of one embedding cell."""
        return self.patch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactConfig:
    """Convolutions at strides 2 to 8, a few attention blocks at stride 16, merged to an embedding at stride 8."""

    kind: Literal["compact"] = "compact"
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    """Channels at strides 2, 4, 8 and 16."""
    depths: tuple[int, int, int] = (2, 3, 5)
    """Residual blocks at strides 4 and 8, blocks of attention and convolution at stride 16."""
    num_heads: int = 8
    drop_path: float = 0.0

    @property
    def stride(self) -> int:
        """Input pixels a side of one embedding cell."""
        return 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyViTConfig:
    """TinyViT as distilled by MobileSAM: an MBConv stage, then three windowed attention stages, stride 16."""

    kind: Literal["tiny_vit"] = "tiny_vit"
    widths: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    num_heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    window_sizes: tuple[int, int, int, int] = (7, 7, 14, 7)
    mlp_ratio: float = 4.0
    conv_expand_ratio: float = 4.0
    drop_path: float = 0.0

    @property
    def stride(self) -> int:
        """Input pixels a side of one embedding cell."""
        return 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetLiteConfig:
    """EfficientNet-Lite, merged top-down from stride 32 to an embedding at stride 8; lite0's sizes by default."""

    kind: Literal["efficientnet_lite"] = "efficientnet_lite"
    widths: tuple[int, int, int, int, int, int, int] = (16, 24, 40, 80, 112, 192, 320)
    """Channels of the trunk's seven stages, at strides 2, 4, 8, 16, 16, 32 and 32."""
    depths: tuple[int, int, int, int, int, int, int] = (1, 2, 2, 3, 3, 4, 1)
    """Blocks of each stage."""
    merge_width: int = 256
    """Channels at stride 16, where strides 32 and 16 are merged."""
    merge_depth: int = 2
    """Blocks of attention and convolution at stride 16."""
    num_heads: int = 8
    drop_path: float = 0.0

    @property
    def stride(self) -> int:
        """Input pixels a side of one embedding cell."""
        return 8


EncoderConfig = ViTConfig | CompactConfig | TinyViTConfig | EfficientNetLiteConfig

_ENCODERS: dict[str, type[EncoderConfig]] = {
    "vit": ViTConfig,
    "compact": CompactConfig,
    "tiny_vit": TinyViTConfig,
    "efficientnet_lite": EfficientNetLiteConfig,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """The two-way mask decoder (SAM, app. A)."""

    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    num_multimask: int = 3
    iou_depth: int = 3
    iou_hidden: int = 256
    hq_feature_width: int | None = None
    """Channels of the early encoder features that SAM-HQ's token uses; None: no HQ token."""
    skip_widths: tuple[int, int] | None = None
    """Channels of the encoder's features at four times and at twice the embedding's size, which are added while masks
    are upscaled, as SAM 2 does; None: none are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """A CLIP whose embeddings prompt the model (SAM, app. D.5)."""

    width: int = 768
    """Channels of CLIP's joint embedding of images and texts."""
    clip: str = "openai/clip-vit-large-patch14-336"
    """The CLIP that it was trained with: a name of transformers, or a folder's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamConfig:
    """A whole model: encoder, width shared by prompts and decoder, input size and normalisation."""

    encoder: EncoderConfig
    decoder: DecoderConfig = DecoderConfig()
    width: int = 256
    """Channels of the image embedding and of every token."""
    image_size: int = 1024
    """Side of the padded square input, in pixels."""
    mask_channels: int = 16
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    pred_iou_thresh: float = 0.88
    """Of masks of everything, those of a higher predicted IoU are kept where nothing else is asked for."""
    stability_score_thresh: float = 0.95
    """Of masks of everything, those of this stability and more are kept where nothing else is asked for."""
    text: TextConfig | None = None
    """For models that words prompt: whose embeddings they project; None: no words."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        if self.image_size <= 0 or self.image_size % self.encoder.stride:
            raise CheckpointError(
                f"image_size is {self.image_size}; it must be a positive multiple of the encoder's stride, "
                f"{self.encoder.stride}"
            )

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding, in cells."""
        return self.image_size // self.encoder.stride

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `from_dict` reads them and as JSON keeps them.

        `text` and the decoder's `skip_widths` only where there are any, so that the hashes of earlier models stay.
        """
        values = dataclasses.asdict(self)
        if self.text is None:
            del values["text"]
        if self.decoder.skip_widths is None:
            del values["decoder"]["skip_widths"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SamConfig:
        """Build a config from `to_dict`'s values; unknown keys and kinds raise `CheckpointError`."""
        try:
            values = dict(values)
            encoder = dict(values.pop("encoder"))
            encoder_config = _ENCODERS[encoder.get("kind", "")](**_with_tuples(encoder))
            decoder = DecoderConfig(**_with_tuples(values.pop("decoder", {})))
            text = values.pop("text", None)
            text_config = None if text is None else TextConfig(**text)
            return cls(encoder=encoder_config, decoder=decoder, text=text_config, **_with_tuples(values))
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"the model's configuration is not one of anymask's: {error}") from error


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _lite(encoder: EfficientNetLiteConfig) -> SamConfig:
    """Put our small decoder behind an EfficientNet-Lite; pixels are normalised as its public weights want them."""
    return SamConfig(
        encoder=encoder,
        decoder=DecoderConfig(mlp_dim=512, iou_hidden=128, skip_widths=encoder.widths[:2]),
        width=128,
        image_size=320,
        pixel_mean=(127.0, 127.0, 127.0),
        pixel_std=(128.0, 128.0, 128.0),
    )


SIZES: dict[str, SamConfig] = {
    "vit_b": SamConfig(encoder=ViTConfig()),
    "vit_l": SamConfig(
        encoder=ViTConfig(width=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23)),
    ),
    "vit_h": SamConfig(
        encoder=ViTConfig(width=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31)),
    ),
    "vit_t": SamConfig(encoder=TinyViTConfig()),
    "compact": SamConfig(
        encoder=CompactConfig(),
        decoder=DecoderConfig(mlp_dim=512, iou_hidden=128),
        width=128,
        image_size=512,
    ),
    "lite0": _lite(EfficientNetLiteConfig()),
    "lite1": _lite(EfficientNetLiteConfig(depths=(1, 3, 3, 4, 4, 5, 1))),
    "lite2": _lite(
        EfficientNetLiteConfig(widths=(16, 24, 48, 88, 120, 208, 352), depths=(1, 3, 3, 4, 4, 5, 1)),
    ),
    "smoke": SamConfig(
        encoder=CompactConfig(widths=(16, 24, 32, 48), depths=(1, 1, 2), num_heads=4),
        decoder=DecoderConfig(num_heads=4, mlp_dim=128, iou_hidden=64),
        width=64,
        image_size=128,
    ),
}
"""Named sizes: Meta's `vit_b`, `vit_l`, `vit_h`; MobileSAM's `vit_t`; our own `compact`, `lite0` to `lite2` (on a trunk
that has seen ImageNet) and, for tests, `smoke`."""
