"""How long does one click take once the image is encoded? vit_b's prompt encoder and decoder, one point, float32.

    python benchmarks/click.py [--rounds 60] [--threads 2]

Ours has been told of the image beforehand, as by `Predictor.set_image`. Peers: Meta's code (segment-anything-py)
and transformers' SamModel, with the same weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from encode import ours, transformers_model
from peers import measure, meta_vit_b, report

POINT = (412.0, 300.0)


def embedding() -> torch.Tensor:
    return torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(2)) * 0.1


def build_ours() -> Callable[[], Any]:
    from anymask.model import Embedding, Prompts

    model = ours()
    with torch.inference_mode():
        encoded = model.prepare(Embedding(features=embedding()))

    def click() -> Any:
        prompts = Prompts.build(points=torch.tensor([[[POINT]]]), labels=torch.tensor([[[1]]]))
        return model.decode(encoded, prompts, multimask=True)

    return click


def build_meta() -> Callable[[], Any]:
    model, features = meta_vit_b(), embedding()

    def click() -> Any:
        point = (torch.tensor([[POINT]]), torch.tensor([[1]]))
        sparse, dense = model.prompt_encoder(points=point, boxes=None, masks=None)
        positions = model.prompt_encoder.get_dense_pe()
        return model.mask_decoder(features, positions, sparse, dense, multimask_output=True)

    return click


def build_transformers() -> Callable[[], Any]:
    model, features = transformers_model(), embedding()

    def click() -> Any:
        return model(
            image_embeddings=features,
            input_points=torch.tensor([[[POINT]]]),
            input_labels=torch.tensor([[[1]]]),
            multimask_output=True,
        )

    return click


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peers = {"anymask": build_ours, "segment-anything": build_meta, "transformers": build_transformers}
    with torch.inference_mode():
        wanted, got = build_meta()()[0], build_ours()()[0][0]
    difference = (wanted - got).abs().max() / wanted.abs().max()
    timings = measure(peers, rounds=arguments.rounds, threads=arguments.threads)
    report("click", timings, ours="anymask", unit=1e3, model="vit_b", relative_error=float(difference))


if __name__ == "__main__":
    main()
