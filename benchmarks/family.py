"""The table of the models in the README: megabytes, seconds to encode an image, milliseconds of a click, licence.

    python benchmarks/family.py [--rounds 5] [--threads 2] [--models anymask-s edgetam …]

Prints it in Markdown, a row as soon as it is measured, then a JSON line. On the CPU in float32; the medians over
rounds, each model in processes of its own. Weights are random, of each model's own sizes, for time does not depend on
them: no model is downloaded. Megabytes are those of the file to download, where they are published. A click is one
point about an image that is encoded, as after `Predictor.set_image`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from machine import machine
from peers import measure

NETWORKS = {
    "anymask-s": "lite2",
    "mobile-sam": "vit_t",
    "sam-vit-b": "vit_b",
    "sam-vit-l": "vit_l",
    "sam-vit-h": "vit_h",
    "sam-hq-vit-tiny": "vit_t",
    "sam-hq-vit-b": "vit_b",
    "sam-hq-vit-l": "vit_l",
    "sam-hq-vit-h": "vit_h",
    "sam2.1-hiera-tiny": "hiera_t",
    "sam2.1-hiera-small": "hiera_s",
    "sam2.1-hiera-base-plus": "hiera_b+",
    "sam2.1-hiera-large": "hiera_l",
    "edgetam": "repvit_m1",
    "efficienttam-ti": "efficienttam_ti",
    "efficienttam-s": "efficienttam_s",
    "efficienttam-ti-512": "efficienttam_ti",
    "efficienttam-s-512": "efficienttam_s",
}
"""Models, one of each network, and the sizes of `anymask.model.SIZES` that they have."""
HEAD = "| model | kind | MB | encode, s | click, ms | licence |\n|---|---|---:|---:|---:|---|"


def build(name: str) -> Any:
    """Return a model of random weights, of the sizes that the named one has."""
    from dataclasses import replace

    from anymask.checkpoints import load_model
    from anymask.model import SIZES, TinyViTConfig, build_sam

    if name == "anymask-s":
        return load_model(name)
    config = SIZES[NETWORKS[name]]
    if name.startswith("sam-hq"):
        encoder = config.encoder
        early = encoder.widths[2] if isinstance(encoder, TinyViTConfig) else encoder.width
        config = replace(config, decoder=replace(config.decoder, hq_feature_width=early))
    if name.endswith("-512"):
        config = replace(config, image_size=512)
    torch.manual_seed(0)
    return build_sam(config).eval()


def build_encode(name: str) -> Callable[[], Any]:
    model = build(name)
    images = torch.randn(1, 3, model.image_size, model.image_size)
    return lambda: model.encode(images)


def build_click(name: str) -> Callable[[], Any]:
    from anymask.model import Embedding, Prompts

    model = build(name)
    shapes = model.embedding_shapes().items()
    with torch.inference_mode():
        embedding = model.prepare(Embedding.from_tensors({part: torch.randn(1, *shape) for part, shape in shapes}))
    point = torch.full((1, 1, 1, 2), 0.4 * model.image_size)
    return lambda: model.answer(
        embedding, Prompts.build(points=point, labels=torch.ones(1, 1, 1, dtype=torch.long)), multimask=True
    )


def described(name: str) -> dict[str, Any]:
    """Return what the catalogue says of a model, and of the embedded one what its file does."""
    from anymask.checkpoints.catalogue import CATALOGUE
    from anymask.checkpoints.places import embedded_path

    if name in CATALOGUE:
        entry = CATALOGUE[name]
        return {"kind": entry.kind, "bytes": entry.size, "licence": entry.licence}
    path = embedded_path(name)
    return {"kind": "native", "bytes": path.stat().st_size if path else None, "licence": "Apache-2.0"}


def row(name: str, found: dict[str, Any]) -> str:
    size = "" if found["bytes"] is None else f"{found['bytes'] / 1e6:.0f}"
    return (
        f"| `{name}` | {found['kind']} | {size} | {found['encode']:.2f} | {1e3 * found['click']:.0f} | "
        f"{found['licence']} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(HEAD)
    found = {}
    for name in arguments.models:
        parts = {"encode": build_encode, "click": build_click}
        seconds = {
            part: measure({part: partial(make, name)}, rounds=arguments.rounds, threads=arguments.threads)[part].median
            for part, make in parts.items()
        }
        found[name] = described(name) | seconds
        print(row(name, found[name]), flush=True)
    print(json.dumps({"benchmark": "family", "models": found, "threads": arguments.threads, **machine()}))


if __name__ == "__main__":
    main()
