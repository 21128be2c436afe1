"""How long does one image take to encode? vit_b at 1024×1024 on the CPU, float32, the same weights everywhere.

    python benchmarks/encode.py [--rounds 5] [--threads 2] [--skip openvino]

Peers: Meta's code (segment-anything-py), transformers' SamVisionModel, and OpenVINO, which is given both Meta's
graph and ours and held to float32, as it would otherwise compute in bfloat16 where the processor can.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from peers import measure, meta_vit_b, report, state_of

SIDE = 1024


def image() -> torch.Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def ours() -> Any:
    from anymask.model import SIZES, build_sam

    model = build_sam(SIZES["vit_b"]).eval()
    model.load_state_dict(state_of(meta_vit_b()))
    return model


def build_ours() -> Callable[[], Any]:
    model, x = ours(), image()
    return lambda: model.encode(x).features


def build_meta() -> Callable[[], Any]:
    model, x = meta_vit_b(), image()
    return lambda: model.image_encoder(x)


def transformers_model() -> Any:
    """Load the same weights in transformers, from a folder that we write in its format."""
    import transformers

    from anymask.checkpoints import save_model

    with tempfile.TemporaryDirectory() as folder:
        save_model(ours(), folder, format="huggingface")
        return transformers.SamModel.from_pretrained(folder).eval()


def build_transformers() -> Callable[[], Any]:
    model, x = transformers_model(), image()
    return lambda: model.vision_encoder(x)


def build_openvino(graph: str, threads: int) -> Callable[[], Any]:
    import openvino

    encoder = meta_vit_b().image_encoder if graph == "meta" else _Features(ours())
    with torch.no_grad():
        converted = openvino.convert_model(encoder, example_input=image(), input=[1, 3, SIDE, SIDE])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    x = image().numpy()
    return lambda: compiled([x])[0]


class _Features(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.image_encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.encoder(x)[0]
        return features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip", nargs="*", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peers = {
        "anymask": build_ours,
        "segment-anything": build_meta,
        "transformers": build_transformers,
        "openvino (meta's graph)": partial(build_openvino, "meta", arguments.threads),
        "openvino (our graph)": partial(build_openvino, "ours", arguments.threads),
    }
    kept = {name: build for name, build in peers.items() if not any(s in name for s in arguments.skip)}
    with torch.inference_mode():
        wanted = meta_vit_b().image_encoder(image())
        difference = (build_ours()() - wanted).abs().max() / wanted.abs().max()
    timings = measure(kept, rounds=arguments.rounds, threads=arguments.threads)
    report("encode", timings, ours="anymask", model="vit_b", side=SIDE, relative_error=float(difference))


if __name__ == "__main__":
    main()
