"""`anymask engine assist`, `prefill` and `auto`: the three stages."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymask.cli.terminal import SOME_FAILED
from anymask.cli.weights import Device, device_name
from anymask.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from anymask.engine.pool import PoolProgress
    from anymask.engine.ray_shards import Build
    from anymask.engine.store import Project
    from anymask.model import Sam

_SAY_SECONDS = 2.0

ProjectFolder = Annotated[Path, typer.Argument(metavar="PROJECT", help="The project's folder.")]
Workers = Annotated[int, typer.Option(metavar="N", min=0, help="Processes; 0 works in this one.")]
Retry = Annotated[bool, typer.Option("--retry", help="Queue images again that were skipped or put in quarantine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


def need_packages() -> None:
    """Raise MissingPackageError where the engine's own packages are missing."""
    try:
        import alembic  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"the engine's packages are missing ({error.name}): pip install 'anymask[engine]'"
        ) from error


def assist(
    project: ProjectFolder,
    simulate: Annotated[
        list[Path] | None,
        typer.Option(metavar="TRUTH", help="Let a simulated annotator work, who knows these tars' or folders' masks."),
    ] = None,
    worker: Annotated[str, typer.Option(metavar="NAME", help="What the annotator is called.")] = "simulated",
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Most images that it does.")] = None,
    retry: Retry = False,
    as_json: AsJson = False,
) -> None:
    """Stage 1, assisted-manual: queue every image for people, who draw with the model's help in `anymask serve`."""
    need_packages()
    from anymask.engine.project_model import open_project_model
    from anymask.engine.stages import ASSISTED, assisted
    from anymask.engine.stages.annotator import Truth
    from anymask.engine.store import open_project

    with open_project(project, exclusive=False, create=False) as opened:
        truth = Truth(simulate) if simulate else None
        images = [each for each in opened.images.all() if truth is None or each in truth]
        added = assisted.open_queue(opened, images)
        again = opened.jobs.reopen(ASSISTED) if retry else 0
        if truth is not None:
            assisted.Simulation(opened, open_project_model(opened), truth).run(worker, limit=limit)
        found = opened.outcomes.statistics(ASSISTED).summary()
    if as_json:
        typer.echo(json.dumps({"queued": added, "reopened": again, **found}))
        return
    typer.echo(f"queued   {added} images" + (f", {again} again" if retry else ""))
    if truth is None:
        typer.echo(f"anymask serve {project} opens them for people")
    else:
        typer.echo(_stage_line(found))


def prefill(
    project: ProjectFolder,
    workers: Workers = 1,
    detector: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A detector of transformers; by default our own, trained on the project."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Propose this class alone, by its confirmed masks, on all other images."),
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps for which our own is trained.")] = 300,
    simulate: Annotated[
        list[Path] | None, typer.Option(metavar="TRUTH", help="Let a simulated annotator work on what is prefilled.")
    ] = None,
    retry: Retry = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Stage 2, semi-automatic: prefill the images that nobody has worked on, and queue them for people.

    Where the project has a verifier (`anymask engine verify`) it looks at them first, and people see what it is not
    sure of. Images that cannot be done are named by `anymask engine status`; exit status 1 says that there are any.
    """
    need_packages()
    from anymask.engine.detectors import SmallDetectorConfig
    from anymask.engine.pool import run_pool
    from anymask.engine.project_model import model_path, open_project_model
    from anymask.engine.stages import PREFILL, SEMI_AUTOMATIC, prefilling, semi_automatic
    from anymask.engine.stages.annotator import Truth
    from anymask.engine.store import open_project

    device = device_name(device)
    with open_project(project, exclusive=False, create=False) as opened:
        model = open_project_model(opened, device=device)
        if like is not None:
            _prefill_like(opened, model, like, workers, device, as_json)
            return
        config, other = SmallDetectorConfig(steps=steps), None
        if detector is None:
            prefilling.train_on_project(opened, model, config)
        else:
            from anymask.engine.detectors.boxes import HuggingFaceDetector

            other = HuggingFaceDetector(detector, device=device)
        semi_automatic.open_queue(opened, [each for each in opened.images.all() if not each.num_annotations])
        if retry:
            for kind in (PREFILL, SEMI_AUTOMATIC):
                opened.jobs.reopen(kind)
        task = prefilling.PrefillTask(
            model=str(model_path(opened)),
            detector=None if detector is None else str(detector),
            device=device,
            least=prefilling.choose_confidence(opened, model, other, config),
        )
        with _progress() as report:
            done = run_pool(opened, PREFILL, task, workers=workers, progress=report)
        if opened.verifiers.current() is None:
            semi_automatic.open_people_queue(opened)
        else:
            _verified(opened, model, workers=workers, device=device)
        if simulate:
            people = semi_automatic.SemiAutomaticSimulation(opened, model, Truth(simulate))
            people.run(kind=SEMI_AUTOMATIC)
        filled = opened.outcomes.statistics(PREFILL).summary()
        found = opened.outcomes.statistics(SEMI_AUTOMATIC).summary()
    record = {"prefilled_images": filled["images"], "prefilled_masks": filled["added"], "quarantined": done.quarantined}
    if as_json:
        typer.echo(json.dumps(record | found))
    else:
        aside = f", {done.quarantined} in quarantine"
        typer.echo(f"prefilled  {filled['images']} images with {filled['added']} masks{aside}")
        if simulate:
            typer.echo(_stage_line(found))
    if done.quarantined:
        raise typer.Exit(SOME_FAILED)


def _prefill_like(project: Project, model: Sam, name: str, workers: int, device: str, as_json: bool) -> None:
    """Propose a class where nobody has confirmed it yet, and queue those images for people."""
    from anymask.engine.pool import run_pool
    from anymask.engine.project_model import model_path
    from anymask.engine.stages import likeness

    wanted = likeness.class_named(project, name)
    least = likeness.least_similarity(project, model, wanted)
    likeness.open_queue(project, wanted)
    task = likeness.LikeTask(model=str(model_path(project)), wanted=wanted, least=least, device=device)
    with _progress() as report:
        done = run_pool(project, likeness.kind_of(wanted), task, workers=workers, progress=report)
    queued = likeness.open_people_queue(project, wanted)
    record = {"class": name, "images": done.done, "masks": done.masks, "least_similarity": round(least, 4)}
    record |= {"queued": queued, "quarantined": done.quarantined}
    typer.echo(json.dumps(record) if as_json else "\n".join(f"{key:<16} {value}" for key, value in record.items()))
    if done.quarantined:
        raise typer.Exit(SOME_FAILED)


def verify(
    project: ProjectFolder,
    workers: Workers = 1,
    train: Annotated[
        bool, typer.Option("--train", help="Train new verifiers first, on all that people have said and drawn by now.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Judge nothing: take back what the present verifier decided on masks.")
    ] = False,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Judge nothing: take the verifier before the present one again.")
    ] = False,
    simulate: Annotated[
        list[Path] | None,
        typer.Option(metavar="TRUTH", help="Let a simulated annotator work on what is left to people."),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Let verifiers judge what the second and the third stage made, and queue for people what they are not sure of.

    Masks surely right are accepted, those surely wrong dropped; images that are complete leave the queue. The first
    time verifiers are trained, and again when the model is another. A share (`audit`) goes to people all the same, who
    are not told; `anymask engine status` and the dashboard say how often they agree.
    """
    need_packages()
    from anymask.engine.project_model import open_project_model
    from anymask.engine.stages import SEMI_AUTOMATIC, VERIFY
    from anymask.engine.stages.annotator import Truth
    from anymask.engine.stages.semi_automatic import SemiAutomaticSimulation
    from anymask.engine.store import open_project
    from anymask.engine.verification import acceptance

    device = device_name(device)
    with open_project(project, exclusive=False, create=False) as opened:
        if undo or roll_back:
            current = opened.verifiers.roll_back() if roll_back else opened.verifiers.current()
            if current is None:
                raise InputError(f"{project}: has no verifier, and nothing to take back")
            taken = acceptance.undo(opened, current) if undo else 0
            record: dict[str, Any] = {"verifier": current.id, "hash": current.hash, "taken_back": taken}
        else:
            model = open_project_model(opened, device=device)
            trained = acceptance.ensure_verifiers(opened, model, anew=train)
            done = _verified(opened, model, workers=workers, device=device)
            if simulate:
                SemiAutomaticSimulation(opened, model, Truth(simulate)).run(kind=SEMI_AUTOMATIC)
            found = opened.outcomes.statistics(VERIFY)
            record = {"trained": trained, "images": found.images, "masks": found.prefilled}
            record |= {"accepted": found.confirmed, "dropped": found.rejected, "quarantined": done.quarantined}
            record["for_people"] = opened.jobs.counts(SEMI_AUTOMATIC).get(SEMI_AUTOMATIC, {}).get("open", 0)
    typer.echo(json.dumps(record) if as_json else "\n".join(f"{name:<12} {value}" for name, value in record.items()))
    if record.get("quarantined"):
        raise typer.Exit(SOME_FAILED)


def _verified(project: Project, model: Sam, *, workers: int, device: str) -> PoolProgress:
    """Let the verifiers look at what waits for them, and queue for people what they leave."""
    from anymask.engine.pool import run_pool
    from anymask.engine.project_model import model_path
    from anymask.engine.stages import VERIFY
    from anymask.engine.verification import acceptance

    acceptance.ensure_verifiers(project, model)
    acceptance.open_queue(project)
    task = acceptance.VerifyTask(model=str(model_path(project)), device=device)
    with _progress() as report:
        done = run_pool(project, VERIFY, task, workers=workers, progress=report)
    acceptance.open_people_queue(project)
    return done


def auto(
    project: ProjectFolder,
    workers: Workers = 1,
    preset: Annotated[str, typer.Option(metavar="NAME", help="A preset of `anymask everything`.")] = "paper",
    points_per_side: Annotated[
        int | None, typer.Option(min=1, help="Points per side of the grid, in place of the preset's.")
    ] = None,
    crop_n_layers: Annotated[int | None, typer.Option(min=0, help="Layers of crops, in place of the preset's.")] = None,
    retry: Retry = False,
    device: Device = "auto",
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Work on a Ray cluster, such as auto; `local` starts Ray here."),
    ] = None,
    shards: Annotated[
        str | None, typer.Option(metavar="URL", help="With --ray: where tars in SA-1B's layout go, a folder or bucket.")
    ] = None,
    images_per_shard: Annotated[int, typer.Option(metavar="N", min=1, help="With --ray.")] = 200,
    gpus: Annotated[
        float, typer.Option(metavar="N", min=0, help="With --ray: GPUs, or a share of one, for each worker.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Stage 3, fully automatic: masks of everything in every image; a run that was killed can be resumed.

    Images that cannot be done are named by `anymask engine status`; exit status 1 says that there are any. With --ray
    the images' addresses have to be within the workers' reach, and the shards are what is made;
    `anymask engine import` takes them into a project.
    """
    need_packages()
    if (ray is None) != (shards is None):
        raise InputError("--ray ADDRESS and --shards URL belong together; give both, or neither")
    from anymask.engine.pool import run_pool
    from anymask.engine.project_model import model_path
    from anymask.engine.stages import AUTOMATIC, automatic
    from anymask.engine.store import open_project

    # A cluster's workers may have GPUs where this machine has none.
    device = "cuda" if device == "auto" and gpus else device_name(device)
    given = {"points_per_side": points_per_side, "crop_n_layers": crop_n_layers}
    with open_project(project, exclusive=False, create=False) as opened:
        task = automatic.AutomaticTask(
            model=str(model_path(opened)),
            preset=preset,
            device=device,
            overrides={name: value for name, value in given.items() if value is not None},
        )
        options = task.options(opened)  # refused now rather than by every worker
        if ray is not None and shards is not None:
            addresses = [
                each.location if "://" in each.location else str(opened.path(each.location).resolve())
                for each in opened.images.all()
            ]
            build = automatic.ModelBuild(model=str(model_path(opened)), options=options, device=device)
            _auto_on_ray(addresses, shards, build, ray, (images_per_shard, workers, gpus), as_json)
            return
        automatic.open_queue(opened)
        if retry:
            opened.jobs.reopen(AUTOMATIC)
        with _progress() as report:
            done = run_pool(opened, AUTOMATIC, task, workers=workers, progress=report)
    record = {
        "images": done.done,
        "masks": done.masks,
        "quarantined": done.quarantined,
        "images_per_second": round(done.images_per_second, 4),
        "seconds": round(done.seconds, 2),
    }
    if as_json:
        typer.echo(json.dumps(record))
    else:
        typer.echo(f"images   {done.done} with {done.masks} masks, {done.quarantined} in quarantine")
    if done.quarantined:
        raise typer.Exit(SOME_FAILED)


def _auto_on_ray(
    addresses: Sequence[str],
    target: str,
    build: Build,
    cluster: str,
    sizes: tuple[int, int, float],
    as_json: bool,
) -> None:
    """Make shards on a cluster; `sizes` are images per shard, workers, and GPUs for each."""
    from anymask.engine.ray_shards import annotate_on_ray, plan_shards

    per_shard, workers, gpus = sizes
    address = None if cluster == "local" else cluster
    planned = plan_shards(addresses, per_shard)
    made = annotate_on_ray(planned, target, build, address=address, workers=max(1, workers), gpus=gpus)
    images, masks, failed = 0, 0, dict[str, str]()
    for count, result in enumerate(made, start=1):
        images, masks, failed = images + result.images, masks + result.masks, failed | result.failed
        typer.echo(f"{result.name}  {result.images} images, {result.masks} masks, shard {count} of this run", err=True)
    for name, reason in failed.items():
        typer.echo(f"{name}: {reason}", err=True)
    record = {"shards": len(planned), "images": images, "masks": masks, "failed": len(failed), "target": target}
    typer.echo(json.dumps(record) if as_json else f"images   {images} with {masks} masks in {target}")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _stage_line(found: dict[str, Any]) -> str:
    return (
        f"done     {found['images']} images, {found['masks_per_image']} masks per image, {found['seconds_per_mask']} s "
        f"and {found['clicks_per_mask']} clicks per mask, {found['by_hand']:.0%} by hand"
    )


@contextmanager
def _progress() -> Iterator[Callable[[PoolProgress], None]]:
    """Say every few seconds, on standard error, how far a queue is, how fast it goes and how long it takes yet."""
    last = time.monotonic()

    def report(seen: PoolProgress) -> None:
        nonlocal last
        if time.monotonic() - last < _SAY_SECONDS:
            return
        last = time.monotonic()
        left = seen.seconds_left
        rest = "" if left is None else f"  {left / 60:.0f} min left"
        per_image = seen.masks / max(seen.done, 1)
        said = (
            f"{seen.done}/{seen.done + seen.left}  {seen.images_per_second:.2f} images/s  {per_image:.0f} masks/image"
        )
        typer.echo(said + rest, err=True)

    yield report
