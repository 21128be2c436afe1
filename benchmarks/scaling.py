"""What do more points, more pixels and more masks cost? Everything on the CPU, one of the three varied at a time.

    python benchmarks/scaling.py [--points 8 16 32] [--megapixels 1 4 16] [--keep 0.9 0.5 0] [--peer] [--threads 2]

Points a side of the grid, and the image's area, are varied directly; the number of masks by the predicted IoU above
which they are kept: `--keep` are the shares of an image's masks that the threshold drops. The weights are those of
`everything.py`. A cost is the slope of a straight line through the measurements: seconds after the encoder, and MiB at
the peak, for each 1,000 points, each megapixel, each 100 masks. `--peer` measures Meta's code as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from everything import META, OURS, Job, Outcome, add_common, job_of, picture, run
from machine import machine

UNITS = {"points": 1000.0, "megapixels": 1.0, "masks": 100.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One job done: the amount that was varied, and what it cost."""

    amount: float
    seconds: float
    peak_mib: float


def slope(amounts: Sequence[float], costs: Sequence[float]) -> float | None:
    """Return the least-squares slope of costs over amounts; None where all amounts are one."""
    if len(set(amounts)) < 2:
        return None
    return float(np.polyfit(np.asarray(amounts, np.float64), np.asarray(costs, np.float64), 1)[0])


def thresholds(job: Job, shares: Sequence[float]) -> list[float]:
    """Return the predicted IoUs below which these shares of the image's masks lie."""
    import torch

    import widened
    from anymask.inference.automatic.masks import AutomaticMasks

    torch.set_num_threads(job.threads)
    generator = AutomaticMasks(
        widened.widened(), points_per_side=job.points, pred_iou_thresh=0.0, stability_score_thresh=0.0
    )
    predicted = [record.predicted_iou for record in generator.generate(picture(job.megapixels, job.image))]
    return [float(np.quantile(predicted, share)) if predicted else 0.0 for share in shares]


def jobs(arguments: argparse.Namespace) -> dict[str, list[Job]]:
    """Return what is to be run for each thing that is varied."""
    base = job_of(arguments, min(arguments.megapixels), min(arguments.points))
    kept = thresholds(base, arguments.keep)
    return {
        "points": [replace(base, points=points) for points in arguments.points],
        "megapixels": [replace(base, megapixels=megapixels) for megapixels in arguments.megapixels],
        "masks": [replace(base, pred_iou=threshold, stability=0.0) for threshold in kept],
    }


def amount(varied: str, job: Job, outcome: Outcome) -> float:
    if varied == "points":
        return job.points**2
    return job.megapixels if varied == "megapixels" else len(outcome.masks)


def measure(peer: str, varied: str, job: Job, rounds: int) -> Measurement | None:
    outcomes = [outcome for outcome in (run(peer, job) for _ in range(rounds)) if outcome is not None]
    if not outcomes:
        return None
    return Measurement(
        amount=amount(varied, job, outcomes[0]),
        seconds=statistics.median(outcome.seconds for outcome in outcomes),
        peak_mib=max(outcome.peak_mib for outcome in outcomes),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[8, 16, 32], help="points per side of the grid")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1.0, 4.0, 16.0])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.9, 0.5, 0.0], help="shares of masks dropped")
    parser.add_argument("--peer", action="store_true", help="measure Meta's code as well")
    add_common(parser)
    arguments = parser.parse_args()
    costs: dict[str, dict[str, dict[str, float | None]]] = {}
    rows = []
    print(f"{'':18s} {'varied':12s} {'amount':>10s} {'seconds':>10s} {'peak MiB':>10s}")
    for varied, varying in jobs(arguments).items():
        for peer in [OURS, META] if arguments.peer else [OURS]:
            found = []
            for job in varying:
                one = measure(peer, varied, job, arguments.rounds)
                if one is None:
                    print(f"{peer:18s} {varied:12s} {'':>10s}  killed for want of memory")
                    continue
                found.append(one)
                rows.append({"peer": peer, "varied": varied, "amount": one.amount, "seconds": round(one.seconds, 4)})
                print(f"{peer:18s} {varied:12s} {one.amount:10g} {one.seconds:10.3f} {one.peak_mib:10.0f}", flush=True)
            amounts = [m.amount / UNITS[varied] for m in found]
            costs.setdefault(varied, {})[peer] = {
                "seconds": slope(amounts, [m.seconds for m in found]),
                "mib": slope(amounts, [m.peak_mib for m in found]),
            }
    for varied, peers in costs.items():
        for peer, cost in peers.items():
            figures = ", ".join(f"{x:.4g} {unit}" for unit, x in cost.items() if x is not None)
            print(f"{peer}: each {UNITS[varied]:g} {varied}: {figures}")
    ratios = {varied: _ratio(peers) for varied, peers in costs.items()}
    result = {
        "benchmark": "scaling",
        "ratio": ratios,
        "costs": costs,
        "units": UNITS,
        "measurements": rows,
        "weights": "anymask-s in vit_b's shapes",
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        **machine(),
    }
    print(json.dumps(result))


def _ratio(peers: dict[str, dict[str, float | None]]) -> float | None:
    """How many times as much time the peer needs for each unit more."""
    ours, theirs = (peers.get(peer, {}).get("seconds") for peer in (OURS, META))
    return round(theirs / ours, 3) if ours and theirs else None


if __name__ == "__main__":
    main()
