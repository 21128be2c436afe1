"""How long do masks of everything in an image take, and are they the peers'? Real masks, vit_b's decoder, on the CPU.

    python benchmarks/everything.py [--megapixels 1 24] [--points 32] [--batch 64] [--rounds 1] [--threads 2]

Peers: Meta's code (segment-anything-py) and transformers' mask-generation pipeline, with the same weights, image, grid
and thresholds. The weights are the embedded model's in vit_b's shapes (`widened.py`): trained, as random ones leave
nothing to filter, and of the width that Meta's decoder has. The encoder is the embedded model's, the same for all and
much faster than vit_b's; so the time after the encoder is what to look at. The thresholds are lower than Meta's
defaults, as the embedded model is modest.

Each run has a process of its own, whose peak memory counts from the end of building. Peers hold all masks of a batch
at full size: 64 points at 24 megapixels are 18 GB of float32 at the least; --batch 16 brings that to 5, for all alike.
A run that is killed for want of memory is reported as such.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import widened
from anymask.geometry import rle
from anymask.geometry.rle import RLE
from anymask.samples import sample_path
from machine import machine
from peers import forget_peak, peak_mib, stand_in_for_torchvision

OURS, ADAPTIVE, META, TRANSFORMERS = "anymask", "anymask, adaptive", "segment-anything", "transformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a run is to do."""

    megapixels: float
    points: int
    batch: int
    pred_iou: float
    stability: float
    threads: int
    image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run took and found; `seconds` are those after the encoder."""

    seconds: float
    encoder_seconds: float
    peak_mib: float
    masks: list[RLE]

    @property
    def whole(self) -> float:
        return self.seconds + self.encoder_seconds


Generate = Callable[[np.ndarray], list[RLE]]


def picture(megapixels: float, path: str | None = None) -> np.ndarray:
    """Return a photograph at a size of so many megapixels, in its proportions."""
    photograph = Image.open(path or sample_path("coffee")).convert("RGB")
    factor = (megapixels * 1e6 / (photograph.width * photograph.height)) ** 0.5
    size = (round(photograph.width * factor), round(photograph.height * factor))
    return np.asarray(photograph.resize(size, Image.Resampling.BICUBIC))


def build_ours(job: Job, adaptive: bool) -> tuple[Any, Generate]:
    from anymask.inference.automatic.masks import AutomaticMasks

    model = widened.widened()
    generator = AutomaticMasks(
        model,
        points_per_side=job.points,
        points_per_batch=job.batch,
        pred_iou_thresh=job.pred_iou,
        stability_score_thresh=job.stability,
        adaptive=adaptive,
    )
    return model.image_encoder, lambda image: [record.rle for record in generator.generate(image)]


def build_meta(job: Job) -> tuple[Any, Generate]:
    model = widened.widened_meta()
    from segment_anything import SamAutomaticMaskGenerator

    generator = SamAutomaticMaskGenerator(
        model,
        points_per_side=job.points,
        points_per_batch=job.batch,
        pred_iou_thresh=job.pred_iou,
        stability_score_thresh=job.stability,
        output_mode="coco_rle",
    )
    return model.image_encoder, lambda image: [rle.checked(r["segmentation"]) for r in generator.generate(image)]


def build_transformers(job: Job) -> tuple[Any, Generate]:
    from transformers.models.sam import image_processing_pil_sam as processing
    from transformers.pipelines.mask_generation import MaskGenerationPipeline

    class Processor(processing.SamImageProcessorPil):
        def post_process_for_mask_generation(self, *arguments: Any) -> Any:
            """Do as the method does, which asks for torchvision, where a stand-in serves."""
            return processing._post_process_for_mask_generation(*arguments)

    model = widened.widened_transformers()
    pipeline = MaskGenerationPipeline(model=model, image_processor=Processor(), device="cpu")
    stand_in_for_torchvision()

    def generate(image: np.ndarray) -> list[RLE]:
        found = pipeline(
            Image.fromarray(image),
            points_per_batch=job.batch,
            points_per_crop=job.points,
            pred_iou_thresh=job.pred_iou,
            stability_score_thresh=job.stability,
        )
        return [rle.encode(np.asarray(mask, np.bool_)) for mask in found["masks"]]

    return model.vision_encoder, generate


def build(peer: str, job: Job) -> tuple[Any, Generate]:
    """Make a peer: its encoder, which keeps its own time, and what is timed."""
    if peer in (OURS, ADAPTIVE):
        return build_ours(job, adaptive=peer == ADAPTIVE)
    return build_meta(job) if peer == META else build_transformers(job)


def _serve(line: Connection, peer: str, job: Job) -> None:
    torch.set_num_threads(job.threads)
    encoder, generate = build(peer, job)
    image = picture(job.megapixels, job.image)
    with torch.inference_mode():
        encoder(torch.zeros(1, 3, widened.SIDE, widened.SIDE))  # libraries set themselves up
        forget_peak()
        encoder.seconds = 0.0
        began = time.perf_counter()
        masks = generate(image)
        taken = time.perf_counter() - began
    line.send(
        Outcome(seconds=taken - encoder.seconds, encoder_seconds=encoder.seconds, peak_mib=peak_mib(), masks=masks)
    )


def run(peer: str, job: Job) -> Outcome | None:
    """Run a peer once in a process of its own; None: it was killed for want of memory."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, peer, job), daemon=True)
    process.start()
    there.close()
    try:
        outcome: Outcome = here.recv()
        return outcome
    except EOFError:
        process.join()
        if process.exitcode != -signal.SIGKILL:
            raise SystemExit(f"the peer {peer} failed; its message is above") from None
        return None
    finally:
        process.join()


def matched_share(theirs: Sequence[RLE], ours: Sequence[RLE], threshold: float = 0.9) -> float:
    """Return the share of their masks that one of ours meets at an IoU of `threshold`; 1 where they have none."""
    if not theirs or not ours:
        return float(not theirs)
    return float((rle.pairwise_iou(theirs, ours).max(axis=1) >= threshold).mean())


def summary(rounds: dict[str, list[Outcome | None]]) -> dict[str, dict[str, float | None]]:
    """Return each peer's medians over the rounds, what it takes relative to ours, and its masks that ours match.

    "times ours" and "times adaptive" are medians over rounds of the quotient of seconds after the encoder.
    """
    table: dict[str, dict[str, float | None]] = {}
    for peer, outcomes in rounds.items():
        kept = [outcome for outcome in outcomes if outcome is not None]
        if not kept:
            table[peer] = {}
            continue
        row: dict[str, float | None] = {
            "seconds": statistics.median(o.seconds for o in kept),
            "end to end": statistics.median(o.whole for o in kept),
            "peak_mib": max(o.peak_mib for o in kept),
            "masks": len(kept[0].masks),
        }
        for name, column in ((OURS, "ours"), (ADAPTIVE, "adaptive")):
            pairs = [(a, b) for a, b in zip(outcomes, rounds.get(name, []), strict=False) if a and b]
            row[f"times {column}"] = statistics.median(a.seconds / b.seconds for a, b in pairs) if pairs else None
            row[f"matched by {column}"] = matched_share(pairs[0][0].masks, pairs[0][1].masks) if pairs else None
        table[peer] = row
    return table


COLUMNS = ["seconds", "end to end", "peak_mib", "masks", "times ours", "matched by ours"]
COLUMNS += ["times adaptive", "matched by adaptive"]


def show(title: str, table: dict[str, dict[str, float | None]]) -> None:
    print(f"{title:20s}" + "".join(f"{column:>20s}" for column in COLUMNS))
    for peer, row in table.items():
        cells = [row.get(column) for column in COLUMNS]
        print(f"{peer:20s}" + "".join(f"{'-' if x is None else format(x, '.3f'):>20s}" for x in cells), flush=True)
        if not row:
            print(f"{'':20s}  killed for want of memory; a smaller --batch needs less")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the settings that this benchmark and `scaling.py` share."""
    parser.add_argument("--batch", type=int, default=64, help="points in one call of the decoder")
    parser.add_argument("--pred-iou", type=float, default=0.2)
    parser.add_argument("--stability", type=float, default=0.5)
    parser.add_argument("--image", type=Path, help="a photograph in place of the sample")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)


def job_of(arguments: argparse.Namespace, megapixels: float, points: int) -> Job:
    return Job(
        megapixels=megapixels,
        points=points,
        batch=arguments.batch,
        pred_iou=arguments.pred_iou,
        stability=arguments.stability,
        threads=arguments.threads,
        image=None if arguments.image is None else str(arguments.image),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1.0])
    parser.add_argument("--points", type=int, default=32, help="points per side of the grid")
    parser.add_argument("--skip", nargs="*", default=[], help="peers to leave out, by a part of their name")
    add_common(parser)
    arguments = parser.parse_args()
    peers = [p for p in (OURS, ADAPTIVE, META, TRANSFORMERS) if not any(s in p for s in arguments.skip)]
    tables = {}
    for megapixels in arguments.megapixels:
        job = job_of(arguments, megapixels, arguments.points)
        rounds: dict[str, list[Outcome | None]] = {peer: [] for peer in peers}
        for _ in range(arguments.rounds):
            for peer in peers:
                rounds[peer].append(run(peer, job))
        tables[megapixels] = summary(rounds)
        show(f"{megapixels:g} megapixels", tables[megapixels])
    rounded = {
        mp: {peer: {k: v if v is None else round(v, 4) for k, v in row.items()} for peer, row in table.items()}
        for mp, table in tables.items()
    }
    first = rounded[arguments.megapixels[0]]
    result = {
        "benchmark": "everything",
        "ratio": {peer: row.get("times ours") for peer, row in first.items() if peer not in (OURS, ADAPTIVE)},
        "seconds": {peer: row.get("seconds") for peer, row in first.items()},
        "peak_mib": {peer: row.get("peak_mib") for peer, row in first.items()},
        "by_megapixels": rounded,
        "weights": "anymask-s in vit_b's shapes",
        "points_per_side": arguments.points,
        "batch": arguments.batch,
        "thresholds": {"predicted IoU": arguments.pred_iou, "stability": arguments.stability},
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        **machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
