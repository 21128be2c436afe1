"""How long does one image take to encode? Every encoder on the CPU, float32, the same weights everywhere.

    python benchmarks/encode.py [--size vit_b] [--blocks 4] [--rounds 5] [--threads 2] [--skip openvino]

Sizes: vit_b, vit_l and vit_h at 1024×1024, with Meta's code (segment-anything-py), transformers' SamVisionModel and
OpenVINO as peers; hiera_t, hiera_s, hiera_b+ and hiera_l, SAM 2's, at 1024×1024, with transformers' Sam2Model and
OpenVINO; repvit_m1, EdgeTAM's, likewise with EdgeTamModel; vit_t at 1024×1024, with SAM-HQ's code
(segment-anything-hq) and OpenVINO; efficienttam_ti and efficienttam_s at 1024×1024, which no package has, and compact,
which is ours alone, at 512×512, with OpenVINO. `--blocks` takes only the first blocks of a ViT: vit_h whole needs 3 GB
a peer.
OpenVINO is given both the peer's graph and ours and held to float32, as it would otherwise compute in bfloat16 where
the processor can. "anymask, bfloat16" is our choice of the same: `accelerate(model, encoder_dtype=torch.bfloat16)`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from peers import has_levels, hq_light_model, measure, meta_model, our_model, report, size_of, transformers_model

VITS = ["vit_b", "vit_l", "vit_h"]
OF_SAM2 = ["hiera_t", "hiera_s", "hiera_b+", "hiera_l", "repvit_m1"]
ALONE = ["efficienttam_ti", "efficienttam_s", "compact"]
"""Of which no peer has the encoder."""
SIZES = [*VITS, "vit_t", *OF_SAM2, *ALONE]


def image(size: str) -> torch.Tensor:
    side = size_of(size).image_size
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def build_ours(size: str, blocks: int | None, dtype: torch.dtype) -> Callable[[], Any]:
    from anymask.inference.acceleration import accelerate

    model, x = our_model(size, blocks), image(size)
    if dtype != torch.float32:
        accelerate(model, encoder_dtype=dtype)
    return lambda: model.encode(x).features


def build_meta(size: str, blocks: int | None) -> Callable[[], Any]:
    model, x = meta_model(size, blocks), image(size)
    return lambda: model.image_encoder(x)


def build_hq(size: str) -> Callable[[], Any]:
    model, x = hq_light_model(), image(size)
    return lambda: model.image_encoder(x)[0]


def build_transformers(size: str, blocks: int | None) -> Callable[[], Any]:
    model, x = transformers_model(size, blocks), image(size)
    if has_levels(size):
        return lambda: model.get_image_embeddings(x)[-1]
    return lambda: model.vision_encoder(x)[0]


def build_openvino(graph: str, size: str, blocks: int | None, threads: int) -> Callable[[], Any]:
    import openvino

    if graph == "ours":
        encoder = _Features(our_model(size, blocks).image_encoder)
    else:
        encoder = _Features((hq_light_model() if size == "vit_t" else meta_model(size, blocks)).image_encoder)
    x = image(size)
    with torch.no_grad():
        converted = openvino.convert_model(encoder, example_input=x, input=list(x.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    pixels = x.numpy()
    return lambda: compiled([pixels])[0]


class _Features(torch.nn.Module):
    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.encoder(x)
        features: torch.Tensor = found[0] if isinstance(found, tuple) else found
        return features


def peers_of(size: str, blocks: int | None, threads: int) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return how to build each peer that has an encoder of this size, ours first."""
    peers: dict[str, Callable[[], Callable[[], Any]]] = {
        "anymask": partial(build_ours, size, blocks, torch.float32),
        "anymask, bfloat16": partial(build_ours, size, blocks, torch.bfloat16),
    }
    if size == "vit_t":
        peers["segment-anything-hq"] = partial(build_hq, size)
        peers["openvino (its graph)"] = partial(build_openvino, "theirs", size, blocks, threads)
    elif has_levels(size):
        peers["transformers"] = partial(build_transformers, size, blocks)
    elif size in VITS:
        peers["segment-anything"] = partial(build_meta, size, blocks)
        peers["transformers"] = partial(build_transformers, size, blocks)
        peers["openvino (meta's graph)"] = partial(build_openvino, "theirs", size, blocks, threads)
    peers["openvino (our graph)"] = partial(build_openvino, "ours", size, blocks, threads)
    return peers


def relative_errors(size: str, blocks: int | None) -> dict[str, float]:
    """Return how far ours is from the peer's code, or from itself in float32, relative to the largest value."""
    with torch.inference_mode():
        ours = build_ours(size, blocks, torch.float32)()
        halved = build_ours(size, blocks, torch.bfloat16)()
        errors = {"bfloat16": float((halved - ours).abs().max() / ours.abs().max())}
        if size not in ALONE:
            build = build_transformers if has_levels(size) else build_meta
            theirs = (build_hq(size) if size == "vit_t" else build(size, blocks))()
            errors["peer"] = float((ours - theirs).abs().max() / theirs.abs().max())
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="vit_b", choices=SIZES)
    parser.add_argument("--blocks", type=int, help="only the first blocks of a ViT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip", nargs="*", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size, blocks = arguments.size, arguments.blocks
    peers = peers_of(size, blocks, arguments.threads)
    kept = {name: build for name, build in peers.items() if not any(s in name for s in arguments.skip)}
    errors = relative_errors(size, blocks)
    timings = measure(kept, rounds=arguments.rounds, threads=arguments.threads)
    side = size_of(size).image_size
    report("encode", timings, ours="anymask", model=size, blocks=blocks, side=side, relative_error=errors)


if __name__ == "__main__":
    main()
