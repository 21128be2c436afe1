"""Sizes of the network: frozen configs, and the dict of the sizes that have names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, get_args

from anymask.errors import CheckpointError
from anymask.geometry.frames import Fit


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
        """Input pixels per side of one embedding cell."""
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
        """Input pixels per side of one embedding cell."""
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
        """Input pixels per side of one embedding cell."""
        return 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetLiteConfig:
    """EfficientNet-Lite, merged top-down from stride 32 to an embedding at stride 8; lite0's sizes by default."""

    kind: Literal["efficientnet_lite"] = "efficientnet_lite"
    widths: tuple[int, int, int, int, int, int, int] = (16, 24, 40, 80, 112, 192, 320)
    """Channels of the trunk's seven stages, at strides 2, 4, 8, 16, 16, 32 and 32."""
    depths: tuple[int, int, int, int, int, int, int] = (1, 2, 2, 3, 3, 4, 1)
    """Number of blocks of each stage."""
    merge_width: int = 256
    """Channels at stride 16, where strides 32 and 16 are merged."""
    merge_depth: int = 2
    """Blocks of attention and convolution at stride 16."""
    num_heads: int = 8
    drop_path: float = 0.0

    @property
    def stride(self) -> int:
        """Input pixels per side of one embedding cell."""
        return 8


@dataclass(frozen=True, slots=True, kw_only=True)
class HieraConfig:
    """Hiera as SAM 2 has it: four stages of windowed attention, the third with a few global blocks; tiny by default."""

    kind: Literal["hiera"] = "hiera"
    width: int = 96
    """Channels of the first stage; each stage has twice those of the one before."""
    depths: tuple[int, int, int, int] = (1, 2, 7, 2)
    num_heads: int = 1
    """Heads of the first stage; doubled as the channels are."""
    global_blocks: tuple[int, ...] = (5, 7, 9)
    window_sizes: tuple[int, int, int, int] = (8, 4, 14, 7)
    position_grid: int = 7
    """Side of the grid of background positions, which is stretched over the image."""
    mlp_ratio: float = 4.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """Refuse windows that cannot be halved where the next stage begins."""
        if any(side % 2 for side in self.window_sizes[:3]):
            raise CheckpointError(f"window_sizes are {self.window_sizes}; those of the first three stages must be even")

    @property
    def stride(self) -> int:
        """Input pixels per side of one embedding cell."""
        return 16

    @property
    def stage_widths(self) -> tuple[int, int, int, int]:
        """Channels of the stages, at strides 4, 8, 16 and 32."""
        return (self.width, 2 * self.width, 4 * self.width, 8 * self.width)

    @property
    def stage_ends(self) -> tuple[int, ...]:
        """Index of each stage's last block."""
        return tuple(end - 1 for end in accumulate(self.depths))


@dataclass(frozen=True, slots=True, kw_only=True)
class RepViTConfig:
    """RepViT as EdgeTAM has it, four stages of convolutions; M1's sizes by default."""

    kind: Literal["repvit"] = "repvit"
    widths: tuple[int, int, int, int] = (48, 96, 192, 384)
    depths: tuple[int, int, int, int] = (2, 2, 14, 2)
    mlp_ratio: float = 2.0
    drop_path: float = 0.0

    @property
    def stride(self) -> int:
        """Input pixels per side of one embedding cell."""
        return 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainViTConfig:
    """A plain vision transformer without relative positions, as EfficientTAM has it; its tiny size by default."""

    kind: Literal["plain_vit"] = "plain_vit"
    width: int = 192
    depth: int = 12
    num_heads: int = 3
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    patch_size: int = 16
    window_size: int = 14
    mlp_ratio: float = 4.0
    position_grid: int = 14
    """Side of the grid of positions, which is stretched over the image."""
    drop_path: float = 0.0

    @property
    def stride(self) -> int:
        """Input pixels per side of one embedding cell."""
        return self.patch_size


EncoderConfig = (
    ViTConfig | CompactConfig | TinyViTConfig | EfficientNetLiteConfig | HieraConfig | RepViTConfig | PlainViTConfig
)

_ENCODERS: dict[str, type[EncoderConfig]] = {
    "vit": ViTConfig,
    "compact": CompactConfig,
    "tiny_vit": TinyViTConfig,
    "efficientnet_lite": EfficientNetLiteConfig,
    "hiera": HieraConfig,
    "repvit": RepViTConfig,
    "plain_vit": PlainViTConfig,
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
    object_score: bool = False
    """Whether a token says if there is an object at all (SAM 2)."""
    sigmoid_iou: bool = False
    """Whether predicted IoUs are logits first (SAM 2)."""
    min_stability: float | None = None
    """Where one mask is asked for and its stability is below this, the best of three takes its place (SAM 2); None:
    nowhere."""
    stability_offset: float = 0.05
    """The logit, and its opposite, between which `min_stability` measures."""
    ranker_width: int | None = None
    """Channels of the ranker that corrects predicted IoUs (`anymask.model.mask_features`); None: they stay as they
    are."""


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
    fit: Fit = "pad"
    """How an image becomes a square: its long side as long, the rest padded (SAM); or both sides (SAM 2)."""

    pads_boxes: bool = False
    """Whether the token that stands beside points where there is no box stands beside boxes too (SAM 2)."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        step = 2 * self.encoder.stride if isinstance(self.encoder, HieraConfig | RepViTConfig) else self.encoder.stride
        if self.image_size <= 0 or self.image_size % step:
            raise CheckpointError(
                f"image_size is {self.image_size}; it must be a positive multiple of {step}, the encoder's largest "
                "stride"
            )
        if self.decoder.object_score and self.decoder.hq_feature_width is not None:
            raise CheckpointError("a decoder has SAM-HQ's token or the object score's, not both")

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding, in cells."""
        return self.image_size // self.encoder.stride

    @property
    def mask_size(self) -> int:
        """Side of the mask logits, and of mask prompts."""
        return 4 * self.embedding_size

    def embedding_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Return the shapes (channels, height, width) of what `Embedding.tensors` holds of an image."""
        width, side = self.width, self.embedding_size
        shapes = {"features": (width, side, side)}
        if self.decoder.hq_feature_width is not None:
            shapes["hq"] = (width // 8, 4 * side, 4 * side)
        if self.decoder.skip_widths is not None:
            shapes |= {"skip2": (width // 4, 2 * side, 2 * side), "skip4": (width // 8, 4 * side, 4 * side)}
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `from_dict` reads them and as JSON keeps them.

        What models did not have from the beginning is left out where they do not have it, so that the hashes of
        earlier ones stay.
        """
        values = dataclasses.asdict(self)
        for part, default, names in (
            (values, SamConfig(encoder=self.encoder), ("text", "fit", "pads_boxes")),
            (values["decoder"], DecoderConfig(), _LATER),
        ):
            for name in names:
                if part[name] == getattr(default, name):
                    del part[name]
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
            if values.get("fit", "pad") not in get_args(Fit):
                raise CheckpointError(f"fit is {values['fit']!r}; {' or '.join(get_args(Fit))} was expected")
            return cls(encoder=encoder_config, decoder=decoder, text=text_config, **_with_tuples(values))
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"the model's configuration is not one of anymask's: {error}") from error


_LATER = ("skip_widths", "ranker_width", "object_score", "sigmoid_iou", "min_stability", "stability_offset")
"""Settings of the decoder that its first models did not have."""


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


def _sam2(encoder: HieraConfig | RepViTConfig | PlainViTConfig) -> SamConfig:
    """Put SAM 2's decoder behind an encoder; a plain one has no levels for its skips."""
    skips = None if isinstance(encoder, PlainViTConfig) else (256, 256)
    return SamConfig(
        encoder=encoder,
        decoder=DecoderConfig(skip_widths=skips, object_score=True, sigmoid_iou=True, min_stability=0.98),
        pred_iou_thresh=0.8,
        fit="stretch",
        pads_boxes=True,
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
    "hiera_t": _sam2(HieraConfig()),
    "hiera_s": _sam2(HieraConfig(depths=(1, 2, 11, 2), global_blocks=(7, 10, 13))),
    "hiera_b+": _sam2(
        HieraConfig(width=112, depths=(2, 3, 16, 3), num_heads=2, global_blocks=(12, 16, 20), position_grid=14)
    ),
    "hiera_l": _sam2(
        HieraConfig(
            width=144, depths=(2, 6, 36, 4), num_heads=2, global_blocks=(23, 33, 43), window_sizes=(8, 4, 16, 8)
        )
    ),
    "repvit_m1": _sam2(RepViTConfig()),
    "efficienttam_ti": _sam2(PlainViTConfig()),
    "efficienttam_s": _sam2(PlainViTConfig(width=384, num_heads=6)),
    "smoke": SamConfig(
        encoder=CompactConfig(widths=(16, 24, 32, 48), depths=(1, 1, 2), num_heads=4),
        decoder=DecoderConfig(num_heads=4, mlp_dim=128, iou_hidden=64),
        width=64,
        image_size=128,
    ),
}
"""Named sizes: Meta's `vit_b`, `vit_l`, `vit_h`; MobileSAM's `vit_t`; our own `compact`, `lite0` to `lite2` (on a trunk
that has seen ImageNet); SAM 2's `hiera_t` to `hiera_l`, EdgeTAM's `repvit_m1`, EfficientTAM's `efficienttam_ti` and
`efficienttam_s`; and, for tests, `smoke`."""
