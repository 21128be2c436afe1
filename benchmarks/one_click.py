"""How long does one click take once the image is encoded? Every prompt encoder and decoder, one point, float32.

    python benchmarks/one_click.py [--decoder sam] [--rounds 60] [--threads 2]

Decoders: sam is vit_b's, and with it vit_l's, vit_h's and vit_t's; peers are Meta's code (segment-anything-py) and
transformers' SamModel, with the same weights. sam2 is SAM 2's, with its skips, against transformers' Sam2Model, and
edgetam EdgeTAM's against EdgeTamModel; hq is SAM-HQ's light model's, against its own code (segment-anything-hq);
compact is our own model's, half as wide, against Meta's classes at that width. Ours has been told of the image
beforehand, as by `Predictor.set_image`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from peers import (
    has_levels,
    hq_light_model,
    measure,
    meta_decoder,
    meta_model,
    our_model,
    report,
    state_of,
    transformers_model,
)

POINT = (412.0, 300.0)
SIZES = {"sam": "vit_b", "sam2": "hiera_t", "edgetam": "repvit_m1", "hq": "vit_t", "compact": "compact"}


def embedding(decoder: str) -> torch.Tensor:
    width = 128 if decoder == "compact" else 256
    return torch.randn(1, width, 64, 64, generator=torch.Generator().manual_seed(2)) * 0.1


def early_features() -> torch.Tensor:
    return torch.randn(1, 64, 64, 160, generator=torch.Generator().manual_seed(3))


def fine_features() -> tuple[torch.Tensor, torch.Tensor]:
    """What SAM 2's decoder adds at twice and at four times the embedding's size."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(1, 64, 128, 128, generator=generator), torch.randn(1, 32, 256, 256, generator=generator)


def build_ours(decoder: str) -> Callable[[], Any]:
    from anymask.model import Embedding, Prompts

    model, features = our_model(SIZES[decoder]), embedding(decoder)
    with torch.inference_mode():
        hq = model.mask_decoder.image_features(features, early_features()) if decoder == "hq" else None
        skips = fine_features() if has_levels(SIZES[decoder]) else None
        encoded = model.prepare(Embedding(features=features, hq=hq, skips=skips))

    def click() -> Any:
        prompts = Prompts.build(points=torch.tensor([[[POINT]]]), labels=torch.tensor([[[1]]]))
        return model.decode(encoded, prompts, multimask=True)[0][0]

    return click


def build_meta(decoder: str) -> Callable[[], Any]:
    features = embedding(decoder)
    model = meta_decoder(state_of(our_model("compact")), side=512) if decoder == "compact" else meta_model()

    def click() -> Any:
        point = (torch.tensor([[POINT]]), torch.tensor([[1]]))
        sparse, dense = model.prompt_encoder(points=point, boxes=None, masks=None)
        positions = model.prompt_encoder.get_dense_pe()
        return model.mask_decoder(features, positions, sparse, dense, multimask_output=True)[0]

    return click


def build_hq(decoder: str) -> Callable[[], Any]:
    model, features, early = hq_light_model(), embedding(decoder), early_features()

    def click() -> Any:
        point = (torch.tensor([[POINT]]), torch.tensor([[1]]))
        sparse, dense = model.prompt_encoder(points=point, boxes=None, masks=None)
        positions = model.prompt_encoder.get_dense_pe()
        return model.mask_decoder(
            features, positions, sparse, dense, multimask_output=True, hq_token_only=False, interm_embeddings=[early]
        )[0]

    return click


def build_transformers(decoder: str) -> Callable[[], Any]:
    model, features = transformers_model(SIZES[decoder]), embedding(decoder)
    embeddings = [*reversed(fine_features()), features] if has_levels(SIZES[decoder]) else features

    def click() -> Any:
        return model(
            image_embeddings=embeddings,
            input_points=torch.tensor([[[POINT]]]),
            input_labels=torch.tensor([[[1]]]),
            multimask_output=True,
        )

    return click


def peers_of(decoder: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return how to build each peer that has this decoder, ours first."""
    ours = {"anymask": partial(build_ours, decoder)}
    if decoder == "hq":
        return ours | {"segment-anything-hq": partial(build_hq, decoder)}
    theirs = {} if has_levels(SIZES[decoder]) else {"segment-anything": partial(build_meta, decoder)}
    has_transformers = decoder == "sam" or has_levels(SIZES[decoder])
    return ours | theirs | ({"transformers": partial(build_transformers, decoder)} if has_transformers else {})


def relative_error(decoder: str) -> float:
    """Return how far our logits are from the peer's, relative to the largest; SAM-HQ's hands out its best alone."""
    with torch.inference_mode():
        if has_levels(SIZES[decoder]):
            theirs = build_transformers(decoder)().pred_masks[0, 0]
        else:
            theirs = (build_hq(decoder) if decoder == "hq" else build_meta(decoder))()[0]
        ours = build_ours(decoder)()[0]
    nearest = (
        min(float((mask - theirs).abs().max()) for mask in ours) if decoder == "hq" else (ours - theirs).abs().max()
    )
    return float(nearest / theirs.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", default="sam", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    error = relative_error(arguments.decoder)
    timings = measure(peers_of(arguments.decoder), rounds=arguments.rounds, threads=arguments.threads)
    size = SIZES[arguments.decoder]
    report("click", timings, ours="anymask", unit=1e3, model=size, decoder=arguments.decoder, relative_error=error)


if __name__ == "__main__":
    main()
