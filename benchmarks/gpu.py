"""How fast is a GPU? Encode, click and everything on CUDA against Meta's code, timed by the device's own events.

    python benchmarks/gpu.py [--size vit_h] [--batch-images 4] [--points 32] [--rounds 10] [--compile] [--graphs]

Ours runs in bfloat16; Meta's code as it is published, in float32, and under autocast to bfloat16. The weights are
random in the encoder and the embedded model's, widened, after it (`widened.py`): for everything, the encoder's work is
done and the widened embedding handed on, so that there are masks to filter. What torch.compile and graphs take to warm
up is reported apart. Where there is no GPU this says so, and ends well.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import widened
from everything import matched_share, picture
from machine import machine
from peers import meta_decoder, meta_model, our_model, size_of

OURS, META, META_HALF = "anymask", "segment-anything, float32", "segment-anything, autocast"
POINT = (412.0, 300.0)


def milliseconds(call: Callable[[], Any], device: str, rounds: int) -> float:
    """Return the median time of a call, by CUDA's events, after two that are not counted."""
    for _ in range(2):
        call()
    taken = []
    for _ in range(rounds):
        if device == "cpu":
            began = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - began))
            continue
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end))
    return statistics.median(taken)


class Costly(nn.Module):
    """The widened encoder, before which another does its work; each image's embedding is of the widened one."""

    img_size = widened.SIDE

    def __init__(self, work: nn.Module, embedding: nn.Module) -> None:
        super().__init__()
        self.work = work
        self.embedding = embedding

    def forward(self, images: Tensor) -> Any:
        self.work(images)
        return self.embedding(images.to(next(self.embedding.parameters()).dtype))


class Ours:
    """Our model on the device."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from anymask.inference.acceleration import accelerate

        self.arguments = arguments
        self.dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
        self.encoder = our_model(arguments.size, arguments.blocks).to(arguments.device, self.dtype)
        self.model = widened.widened().to(arguments.device, self.dtype)
        accelerate(self.encoder, compile=arguments.compile)
        accelerate(self.model, cuda_graphs=arguments.graphs)
        self.embedding: Any = None

    def encode(self, images: Tensor) -> Any:
        return self.encoder.encode(images.to(self.dtype))

    def click(self, features: Tensor) -> Any:
        from anymask.model import Embedding, Prompts

        if self.embedding is None:
            self.embedding = self.model.prepare(Embedding(features=features.to(self.dtype)))
        point = torch.tensor([[[POINT]]], device=features.device)
        labels = torch.ones(1, 1, 1, dtype=torch.long, device=features.device)
        return self.model.decode(self.embedding, Prompts.build(points=point, labels=labels), multimask=True)

    def everything(self, image: np.ndarray) -> list[Any]:
        from anymask.inference.automatic.masks import AutomaticMasks

        if not isinstance(self.model.image_encoder, Costly):
            self.model.image_encoder = Costly(self.encoder.image_encoder, self.model.image_encoder)
        found = AutomaticMasks(self.model, **_settings(self.arguments)).generate(image)
        return [record.rle for record in found]


class Meta:
    """Meta's code on the device, under autocast or not."""

    def __init__(self, arguments: argparse.Namespace, autocast: bool) -> None:
        self.arguments, self.autocast = arguments, autocast
        ours = widened.widened()
        encoder = meta_model(arguments.size, arguments.blocks).image_encoder
        embedding = widened.MetaEncoder(ours.image_encoder.narrow)
        self.model = meta_decoder(ours.state_dict(), Costly(encoder, embedding)).to(arguments.device)
        # Its filters end in numpy, which has no bfloat16.
        self.model.mask_decoder.register_forward_hook(lambda _, __, outputs: tuple(x.float() for x in outputs))

    def _context(self) -> Any:
        return torch.autocast(self.arguments.device, torch.bfloat16, enabled=self.autocast)

    def encode(self, images: Tensor) -> Any:
        with self._context():
            return self.model.image_encoder.work(images)

    def click(self, features: Tensor) -> Any:
        point = (
            torch.tensor([[POINT]], device=features.device),
            torch.ones(1, 1, dtype=torch.long, device=features.device),
        )
        with self._context():
            sparse, dense = self.model.prompt_encoder(points=point, boxes=None, masks=None)
            positions = self.model.prompt_encoder.get_dense_pe()
            return self.model.mask_decoder(features, positions, sparse, dense, multimask_output=True)

    def everything(self, image: np.ndarray) -> list[Any]:
        from segment_anything import SamAutomaticMaskGenerator

        from anymask.geometry import rle

        generator = SamAutomaticMaskGenerator(self.model, output_mode="coco_rle", **_settings(self.arguments))
        with self._context():
            return [rle.checked(record["segmentation"]) for record in generator.generate(image)]


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "points_per_side": arguments.points,
        "pred_iou_thresh": arguments.pred_iou,
        "stability_score_thresh": arguments.stability,
    }


def measure(build: Callable[[], Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Build a peer, and time its encoding of one image and of a batch, its click, and everything."""
    device, side = arguments.device, size_of(arguments.size).image_size
    image = picture(arguments.megapixels)
    gc.collect()  # the peer before
    peer = build()
    pixels = torch.randn(arguments.batch_images, 3, side, side, device=device)
    features = torch.randn(1, 256, 64, 64, device=device)
    began = time.perf_counter()
    for warm in (pixels[:1], pixels):
        peer.encode(warm)
    peer.click(features)
    masks = peer.everything(image)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    warm_up = time.perf_counter() - began
    found: dict[str, Any] = {
        "encode": milliseconds(lambda: peer.encode(pixels[:1]), device, arguments.rounds),
        "encode an image of a batch": milliseconds(lambda: peer.encode(pixels), device, arguments.rounds) / len(pixels),
        "click": milliseconds(lambda: peer.click(features), device, arguments.rounds),
        "everything": milliseconds(lambda: peer.everything(image), device, max(1, arguments.rounds // 4)),
        "peak MiB": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None,
        "warm-up seconds": warm_up,
    }
    return found | {"masks": masks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="vit_h", choices=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--blocks", type=int, help="only the first blocks of the encoder")
    parser.add_argument("--batch-images", type=int, default=4)
    parser.add_argument("--points", type=int, default=32, help="points per side of the grid")
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--pred-iou", type=float, default=0.2)
    parser.add_argument("--stability", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--compile", action="store_true", help="ours: compile the encoder")
    parser.add_argument("--graphs", action="store_true", help="ours: replay the decoder's CUDA graphs")
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="cpu tries the benchmark itself, ours in float32"
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA device here: nothing was measured")
        print(json.dumps({"benchmark": "gpu", "ratio": {}, "seconds": {}, "device": None}))
        return
    builds = {
        OURS: lambda: Ours(arguments),
        META: lambda: Meta(arguments, autocast=False),
        META_HALF: lambda: Meta(arguments, autocast=True),
    }
    with torch.inference_mode():
        found = {name: measure(build, arguments) for name, build in builds.items()}
    report(found, arguments)


def report(found: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print the table, then the JSON line; shares are those of the float32 peer's masks."""
    masks = {name: row.pop("masks") for name, row in found.items()}
    for name, row in found.items():
        row["masks"] = len(masks[name])
        row["matched"] = matched_share(masks[META], masks[name])
    print(f"{'':28s}" + "".join(f"{name:>28s}" for name in found))
    for quantity in found[OURS]:
        cells = [row[quantity] for row in found.values()]
        print(f"{quantity:28s}" + "".join(f"{'-' if x is None else format(x, '.3f'):>28s}" for x in cells))
    tasks = ("encode", "encode an image of a batch", "click", "everything")
    result = {
        "benchmark": "gpu",
        **machine(),
        "ratio": {
            name: {task: round(row[task] / found[OURS][task], 3) for task in tasks}
            for name, row in found.items()
            if name != OURS
        },
        "seconds": {name: {task: round(row[task] / 1e3, 6) for task in tasks} for name, row in found.items()},
        "peak_mib": {name: row["peak MiB"] for name, row in found.items()},
        "warm_up_seconds": {name: round(row["warm-up seconds"], 2) for name, row in found.items()},
        "matched": {name: row["matched"] for name, row in found.items()},
        "model": arguments.size,
        "points_per_side": arguments.points,
        "compile": arguments.compile,
        "graphs": arguments.graphs,
        "our_dtype": "float32" if arguments.device == "cpu" else "bfloat16",
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
