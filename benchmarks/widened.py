"""The embedded model's decoder in the shapes of Meta's models: trained weights of width 256, which compute the same.

Random weights give no masks worth timing, and the embedded model is half as wide as Meta's. But a network of twice the
width computes the same when every channel is there twice: a linear layer that halves its weights sums to the same,
normalisation over a doubled channel has the same mean and deviation, and attention over doubled heads has twice the
products, which weights of the queries divided by √2 bring to what its smaller scale expects.

The encoder is the embedded one at an input of half the side, its channels doubled likewise: 64×64 cells, as Meta's.
What Meta's decoder has no place for, skips and a ranker, is left out of both.

    python benchmarks/widened.py        check that both answer alike
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import anymask
from anymask.model import DecoderConfig, Embedding, Prompts, Sam, SamConfig, ViTConfig, build_sam
from peers import meta_decoder

EMBEDDED = "anymask-s"
SIDE = 1024
CONFIG = SamConfig(encoder=ViTConfig(depth=1, global_blocks=(0,)), decoder=DecoderConfig())
"""vit_b's shapes; of its encoder, which is not used, one block that files can hold."""

_EMBEDDINGS = ("_embed", "iou_token", "mask_tokens", "gaussian")


def embedded() -> Sam:
    """The embedded model with 64×64 cells, without skips and ranker."""
    model = anymask.load(EMBEDDED, image_size=SIDE // 2)
    decoder = replace(model.config.decoder, skip_widths=None, ranker_width=None)
    plain = build_sam(replace(model.config, decoder=decoder)).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    return plain


class WidenedEncoder(nn.Module):
    """The embedded model's encoder in the place of Meta's, which keeps the time that it took."""

    img_size = SIDE

    def __init__(self, narrow: Sam) -> None:
        super().__init__()
        self.narrow = narrow
        self.seconds = 0.0

    def features(self, images: Tensor) -> Tensor:
        """Encode images that are normalised as Meta's models want them, which is undone."""
        began = time.perf_counter()
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (CONFIG.pixel_mean, CONFIG.pixel_std))
        pixels = (F.avg_pool2d(images, 2) * std + mean - self.narrow.pixel_mean) / self.narrow.pixel_std
        found: Tensor = self.narrow.encode(pixels).features.repeat_interleave(2, 1)
        self.seconds += time.perf_counter() - began
        return found


class MetaEncoder(WidenedEncoder):
    """As Meta's `Sam` calls it."""

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


class OurEncoder(WidenedEncoder):
    """As ours calls it."""

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return self.features(images), None


class TransformersEncoder(WidenedEncoder):
    """As transformers' `SamModel` calls it."""

    def forward(self, pixel_values: Tensor, **_: Any) -> tuple[Tensor]:
        return (self.features(pixel_values),)


def widened_state(narrow: dict[str, Tensor], wide: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the narrow weights in the wide ones' shapes, for all that comes after the encoder."""
    state = {}
    for name, target in wide.items():
        if name.startswith("image_encoder."):
            continue
        x = narrow[name].float()
        factors = [to // of for to, of in zip(target.shape, x.shape, strict=True)]
        for axis, factor in enumerate(factors):
            x = x.repeat_interleave(factor, axis)
        if x.ndim > 1 and not any(part in name for part in _EMBEDDINGS):
            is_transposed = "output_upscaling" in name
            x = x / factors[0 if is_transposed else 1]
        if ".q_proj." in name:
            x = x / 2**0.5
        if "hypernetworks" in name and ".layers.2." in name:  # its product with the pixels has doubled channels
            x = x / 2
        assert x.shape == target.shape, name
        state[name] = x
    return state


def widened() -> Sam:
    """Our model of vit_b's width with the embedded model's function."""
    narrow = embedded()
    model = build_sam(CONFIG).eval()
    model.load_state_dict(widened_state(narrow.state_dict(), model.state_dict()), strict=False)
    model.image_encoder = OurEncoder(narrow)
    return model


def widened_meta() -> Any:
    """The same in Meta's classes."""
    ours = widened()
    return meta_decoder(ours.state_dict(), MetaEncoder(ours.image_encoder.narrow))


def widened_transformers() -> Any:
    """The same in transformers' classes."""
    import transformers

    from anymask.checkpoints import save_model

    ours = widened()
    encoder = ours.image_encoder
    ours.image_encoder = build_sam(CONFIG).image_encoder
    with tempfile.TemporaryDirectory() as folder:
        save_model(ours, folder, format="huggingface")
        model = transformers.SamModel.from_pretrained(folder).eval()
    model.vision_encoder = TransformersEncoder(encoder.narrow)
    return model


def largest_difference(num_points: int = 3) -> float:
    """How far the widened logits and scores are from the embedded model's, relative to the largest."""
    narrow, wide = embedded(), widened()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, narrow.config.width, 64, 64, generator=generator)
    points = 1 + torch.rand(1, 4, num_points, 2, generator=generator) * (SIDE // 2 - 2)
    labels = torch.tensor([1, 0, 1]).repeat(2)[:num_points].expand(1, 4, -1)
    doubled = features.repeat_interleave(2, 1)
    with torch.inference_mode():
        exact = narrow.decode(Embedding(features=features), Prompts.build(points=points, labels=labels))
        # The half pixel that the prompt encoder adds is half as wide in the larger input.
        found = wide.decode(Embedding(features=doubled), Prompts.build(points=2 * points + 0.5, labels=labels))
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(exact, found, strict=True))


def main() -> None:
    difference = largest_difference()
    print(f"largest relative difference of widened to embedded: {difference:.1e}")
    if difference > 1e-4:
        raise SystemExit("the widened decoder does not compute what the embedded one does")


if __name__ == "__main__":
    main()
