"""`anymask evaluate proposals`: the recall of masks made without prompts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.evaluate_options import (
    AsJson,
    Data,
    Images,
    MaxImages,
    Model,
    Offline,
    Output,
    Seed,
    open_named,
    set_journal,
    set_progress,
)
from anymask.cli.weights import Device
from anymask.data.files import check_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anymask.evaluation.proposals import ProposalConfig, ProposalResult
    from anymask.evaluation.sets import TruthSet
    from anymask.model import Sam


def proposals(
    data: Data,
    model: Model = "anymask-s",
    images: Images = None,
    points_per_side: Annotated[int, typer.Option(min=1, help="Points of the grid along either side.")] = 64,
    output: Output = None,
    max_images: MaxImages = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure how many annotated masks the best 10, 100 and 1,000 masks of an image find: AR by size and frequency."""
    from anymask.evaluation import coco_report
    from anymask.evaluation.proposals import ProposalConfig
    from anymask.evaluation.sets import open_truths
    from anymask.inference.answers import channels_of

    if output is not None:
        check_folder(output)
    loaded, label = open_named(model, offline=offline, device=device)
    truths = open_truths(data, images=images, channels=channels_of(loaded))
    config = ProposalConfig(max_images=max_images, seed=seed)
    with set_progress(sum(min(len(t), max_images or len(t)) for t in truths.values())) as progress:
        results = propose_all(loaded, label, truths, config, points_per_side, output, progress)
    if output is not None:
        coco_report.write_proposals(results, output)
    if as_json:
        typer.echo(json.dumps(coco_report.proposals_to_dict(results)))
    else:
        typer.echo(coco_report.proposals_to_markdown(results), nl=False)


def propose_all(
    model: Sam,
    label: str,
    truths: Mapping[str, TruthSet],
    config: ProposalConfig,
    points_per_side: int,
    output: Path | None,
    progress: Callable[[str, int, int], None],
) -> list[ProposalResult]:
    """Evaluate a model's proposals on every set; with an `output` folder, a journal a set lets a stopped run go on."""
    from anymask.evaluation.proposals import evaluate_proposals, model_proposer

    propose = model_proposer(model, points_per_side)
    results = []
    for name, truth in truths.items():
        settings = {"protocol": "proposals", "model": label, "points": points_per_side, "images": truth.signature()}
        journal = set_journal(output, label, name, "proposals", {**settings, "limits": config.limits})
        results.append(evaluate_proposals(propose, name, truth, config, progress=progress, journal=journal))
    return results
