"""`anymask engine retrain`, `check`, `review`, `release` and `demo`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.engine.data import DataFormat
from anymask.cli.engine.stages import AsJson, ProjectFolder, Retry, need_packages
from anymask.cli.terminal import training_progress
from anymask.cli.weights import Device, Offline, device_name, open_model

if TYPE_CHECKING:
    from collections.abc import Mapping


def retrain(
    project: ProjectFolder,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of training, from the present model on.")] = 500,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Images per step.")] = 8,
    learning_rate: Annotated[float, typer.Option(metavar="R", min=0, help="The highest learning rate.")] = 1e-4,
    device: Device = "auto",
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Do nothing unless the project's settings ask for it.")
    ] = False,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Train nothing: take the model before the present one again.")
    ] = False,
    to: Annotated[int | None, typer.Option(metavar="MODEL", min=1, help="Roll back to this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a new model on the project's masks; it becomes the project's if no score on held-out images falls."""
    need_packages()
    from anymask.engine import retrain as training
    from anymask.engine.status import due
    from anymask.engine.store import open_project

    with open_project(project, exclusive=False, create=False) as opened:
        if roll_back or to is not None:
            stored = opened.models.roll_back(to)
            _say({"model": stored.id, "hash": stored.hash, "verdict": "rolled back"}, as_json)
            return
        why = due(opened)
        if if_due and why is None:
            _say({"model": None, "verdict": "not due"}, as_json)
            return
        plan = training.RetrainPlan(
            steps=steps, batch_size=batch_size, learning_rate=learning_rate, device=device_name(device)
        )
        with training_progress(steps) as report:
            done = training.retrain(opened, plan, trigger=why if if_due and why else "by hand", progress=report)
    record = {"model": done.model.id, "hash": done.model.hash, "verdict": done.model.verdict}
    scores = {"scores": dict(done.scores), "before": dict(done.before), "trained_on": done.model.num_masks}
    _say(record | scores if as_json else record, as_json)


def check(
    project: ProjectFolder,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="Images drawn at random.")] = 500,
    simulate: Annotated[
        list[Path] | None, typer.Option(metavar="TRUTH", help="Let a simulated professional correct them.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another sample.")] = 0,
    retry: Retry = False,
    as_json: AsJson = False,
) -> None:
    """The paper's check: people correct all masks of a sample; prints how many pairs agree by 90 % and 75 % IoU.

    The sample is queued for people, who open it in `anymask serve`.
    """
    need_packages()
    from anymask.engine import quality
    from anymask.engine.project_model import open_project_model
    from anymask.engine.stages.annotator import Truth
    from anymask.engine.store import open_project

    with open_project(project, exclusive=False, create=False) as opened:
        queued = quality.open_check(opened, sample, seed=seed)
        again = opened.jobs.reopen(quality.CHECK) if retry else 0
        if simulate:
            people = quality.CheckSimulation(opened, open_project_model(opened), Truth(simulate))
            people.run("professional", kind=quality.CHECK)
        record = {"queued": queued, "reopened": again, **dataclasses.asdict(quality.check_report(opened))}
        record["agreement"] = dataclasses.asdict(quality.agreement(opened))
        record["honeypots"] = dict(quality.honeypot_scores(opened))
    _say(record, as_json)


def review(
    project: ProjectFolder,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the N images that the models are least sure of.")
    ] = None,
    retry: Retry = False,
    as_json: AsJson = False,
) -> None:
    """Queue images for review, the least confident first: people accept, fix or reject each mask in `anymask serve`.

    What reviewers have said so far is printed too.
    """
    need_packages()
    from anymask.engine import quality
    from anymask.engine.store import open_project

    with open_project(project, exclusive=False, create=False) as opened:
        record = {"queued": quality.open_review(opened, limit=limit)}
        record |= {"reopened": opened.jobs.reopen(quality.REVIEW) if retry else 0}
        record |= {"open": opened.jobs.counts(quality.REVIEW).get(quality.REVIEW, {}).get("open", 0)}
        record |= dataclasses.asdict(quality.review_report(opened))
    _say(record, as_json)


def release(
    project: ProjectFolder,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="An empty or missing folder.")],
    formats: Annotated[list[DataFormat] | None, typer.Option("--format", help="May be repeated.")] = None,
    short_side: Annotated[
        int | None, typer.Option(metavar="PIXELS", min=1, help="Make larger images this small; SA-1B's are 1500.")
    ] = None,
    blur: Annotated[
        str, typer.Option(metavar="HOW", help="auto, opencv, none, or the .onnx of a face detector (YuNet).")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Write images and masks as a data set in any formats, divided into train and val, with a card and checksums."""
    need_packages()
    from anymask.engine.release import ReleasePlan
    from anymask.engine.release import release as make
    from anymask.engine.store import open_project

    names = tuple(each.value for each in formats) if formats else ReleasePlan().formats
    plan = ReleasePlan(formats=names, short_side=short_side, blur=blur)
    with open_project(project, exclusive=False, create=False) as opened:
        done = make(opened, output, plan)
    _say({"release": str(done.folder), "files": done.files, **done.summary}, as_json)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The project; an empty folder.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="TAR", help="Pictures and masks in SA-1B's layout; leaves on paper, drawn, by default."),
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option("--held-out", metavar="TAR", help="More pictures and masks, to judge models by."),
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of each retraining.")] = 240,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The first model, such as anymask-s; a small one that knows nothing by default."
        ),
    ] = None,
    offline: Offline = False,
) -> None:
    """Run the whole data engine in small, with simulated people: three stages, two retrainings, a release.

    The last line printed is its report as JSON.
    """
    need_packages()
    from anymask.engine.demo.images import leaf_tars
    from anymask.engine.demo.run import DemoPlan, run_demo
    from anymask.errors import InputError

    if bool(data) != bool(held_out):
        raise InputError("give both --data and --held-out, or neither")
    if not data or not held_out:
        drawn = leaf_tars(output.with_name(f"{output.name}-sheets"))
        data, held_out = [drawn[0]], [drawn[1]]
    plan = DemoPlan()
    plan = dataclasses.replace(plan, retraining=dataclasses.replace(plan.retraining, steps=steps))
    report = run_demo(
        output,
        pictures=data,
        held_out=held_out,
        plan=plan,
        model=None if model is None else open_model(model, offline=offline, device="cpu"),
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(
        f"anymask serve {output} opens the project in the browser; its dashboard is at the address with #dashboard"
    )
    typer.echo(json.dumps(report))


def _say(record: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(record))
        return
    for name, value in record.items():
        typer.echo(f"{name:<14} {value}")
