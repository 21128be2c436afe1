"""`anymask engine`: the data engine on a team's own pictures; the verbs of stages and models are in their own files."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymask.cli.engine import data as engine_data
from anymask.cli.engine import models as engine_models
from anymask.cli.engine import stages as engine_stages
from anymask.cli.weights import Offline, open_model
from anymask.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    help="The data engine: a model helps people, people's masks improve the model, until it annotates alone.",
    epilog="Example: anymask engine init herbarium && anymask engine import herbarium images photographs",
)
app.command(epilog="Example: anymask engine assist herbarium --simulate masks.tar")(engine_stages.assist)
app.command(epilog="Example: anymask engine prefill herbarium --workers 2")(engine_stages.prefill)
app.command(epilog="Example: anymask engine verify herbarium --workers 2")(engine_stages.verify)
app.command(epilog="Example: anymask engine auto herbarium --workers 4")(engine_stages.auto)
app.command(epilog="Example: anymask engine retrain herbarium --steps 1000")(engine_models.retrain)
app.command(epilog="Example: anymask engine check herbarium --sample 50")(engine_models.check)
app.command(epilog="Example: anymask engine review herbarium --limit 200")(engine_models.review)
app.command(epilog="Example: anymask engine release herbarium -o herbarium-1.0 --format sa1b --format coco")(
    engine_models.release
)
app.command(epilog="Example: anymask engine export herbarium -o herbarium-yolo --format yolo --with-images")(
    engine_data.export
)
app.command(epilog="Example: anymask engine honeypot herbarium known-masks.tar")(engine_data.honeypot)
app.command(epilog="Example: anymask engine demo -o demo --data masks-train.tar --held-out masks-val.tar")(
    engine_models.demo
)


class Split(StrEnum):
    """What images are for, where that is not left to chance."""

    train = "train"
    held_out = "held-out"


class ImportFormat(StrEnum):
    """What can be imported."""

    coco = "coco"
    sa1b = "sa1b"
    labelme = "labelme"
    masks = "masks"
    images = "images"


@app.command(epilog="Example: anymask engine init herbarium --set mask_seconds=45")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder, made if need be.")],
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="postgresql://user@host/name; a file in the folder by default.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="What helps at first: a name of `anymask models list`, or a path.")
    ] = "anymask-s",
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting; may be repeated.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Make a project: a folder, a database, and a model that helps at first."""
    engine_stages.need_packages()
    from anymask.engine.project_model import set_project_model
    from anymask.engine.store import EngineSettings, init_project, open_project

    settings = EngineSettings().replace(_settings(values or []))
    loaded = open_model(model, offline=offline, device="cpu")
    made = init_project(folder, url=database)
    with open_project(made, exclusive=False) as project:
        project.settings.replace(settings)
        stored = set_project_model(project, loaded, trigger=f"the first: {model}")
    typer.echo(f"project  {made}\nmodel    {model} ({stored.hash})")


def _settings(values: Sequence[str]) -> dict[str, Any]:
    pairs = [value.partition("=") for value in values]
    for name, sign, _ in pairs:
        if not sign:
            raise InputError(f"--set {name}: NAME=VALUE was expected, such as mask_seconds=45")
    return {name: value for name, _, value in pairs}


@app.command(epilog="Example: anymask engine settings herbarium --set mask_seconds=45 --set retrain_masks=500")
def settings(
    project: engine_stages.ProjectFolder,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print names and values as JSON.")] = False,
) -> None:
    """Print a project's settings with what they mean, and change some first, all of those given or none.

    They hold for what comes after: queues stay as they were filled. A server that runs takes them from its next image.
    """
    engine_stages.need_packages()
    import dataclasses

    from anymask.engine.store import MEANINGS, open_project

    with open_project(project, exclusive=False, create=False) as opened:
        if values:
            opened.settings.replace(opened.settings.current().replace(_settings(values)))
        found = dataclasses.asdict(opened.settings.current())
    if as_json:
        typer.echo(json.dumps(found))
    else:
        typer.echo("\n".join(f"{name:<18} {value!s:<6} {MEANINGS[name]}" for name, value in found.items()))


@app.command("import", epilog="Example: anymask engine import herbarium coco annotations.json --images photographs")
def import_(
    project: Annotated[Path, typer.Argument(metavar="PROJECT", help="The project's folder.")],
    kind: Annotated[ImportFormat, typer.Argument(metavar="FORMAT", help="coco, sa1b, labelme, masks or images.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file, a tar, a folder, or an address of images.")],
    images: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder of a COCO file's images; the file's own by default.")
    ] = None,
    images_only: Annotated[bool, typer.Option("--images-only", help="Leave the masks out.")] = False,
    split: Annotated[Split | None, typer.Option(help="Use all of them for this; by chance otherwise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was new, as JSON.")] = False,
) -> None:
    """Add images, by reference, and masks: all of a source or nothing; what the project has already stays as it is."""
    engine_stages.need_packages()
    import dataclasses

    from anymask.engine.imports import import_found, read_source
    from anymask.engine.store import open_project

    with open_project(project, exclusive=False, create=False) as opened:
        found = read_source(kind.value, source, images=images, masks=not images_only)
        done = import_found(opened, found, source=source, split=None if split is None else split.value)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(done)))
    else:
        typer.echo(f"new      {done.images} images, {done.masks} masks")
        typer.echo(f"known    {done.known_images} images, {done.known_masks} masks")


@app.command(epilog="Example: anymask engine status herbarium --json")
def status(
    project: Annotated[Path, typer.Argument(metavar="PROJECT", help="The project's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Say where a project stands: stages, queues, people, models, verifiers with their audits, images in quarantine."""
    engine_stages.need_packages()
    from anymask.engine.status import status as look
    from anymask.engine.store import open_project

    with open_project(project, exclusive=False, create=False) as opened:
        found = look(opened)
    typer.echo(json.dumps(found) if as_json else _described(found))


def _described(found: dict[str, Any]) -> str:
    """Return the status as lines of text."""
    lines = [f"project   {found['project']}", f"images    {found['images']:,} with {found['masks']:,} masks"]
    for kind, numbers in found["stages"].items():
        queue = ", ".join(f"{count} {state}" for state, count in sorted(found["queues"].get(kind, {}).items()))
        if queue:
            lines.append(
                f"{kind:<15} {queue}; {numbers['masks_per_image']} masks per image, {numbers['seconds_per_mask']} s "
                f"and {numbers['clicks_per_mask']} clicks per mask, {numbers['by_hand']:.0%} by hand"
            )
    for kind, people in found["people"].items():
        lines += [f"{name} ({kind}): {_made(numbers)}" for name, numbers in people.items()]
    for model in found["models"]:
        scores = "  ".join(f"{name} {value:.3f}" for name, value in model["scores"].items())
        mark = "*" if model["is_current"] else " "
        lines.append(f"model {model['id']}{mark}  {model['hash']}  {model['verdict']}  {scores}".rstrip())
    for verifier in found["verifiers"]:
        scores = "  ".join(f"{name} {value:.3f}" for name, value in verifier["scores"].items())
        lines.append(f"{verifier['kind']} {verifier['id']}  {verifier['hash']}  {scores}".rstrip())
        for each in verifier["verdicts"]:
            state = "on" if each["is_on"] else "off"
            lines.append(f"  {each['verdict']:<9} {state:<4} {each['applied']:,} without a person; {each['word']}")
    for each in found["quarantined"]:
        lines.append(f"{each['state']}  {each['image']} ({each['stage']}, {each['tries']} tries): {each['reason']}")
    if found["due"]:
        lines.append(f"a new model is due: {found['due']}")
    return "\n".join(lines)


def _made(numbers: dict[str, Any]) -> str:
    """Return what a person has done as text."""
    told = ("confirmed", "fixed", "rejected", "added")
    return ", ".join([f"{numbers['images']} images", *(f"{numbers[name]} {name}" for name in told if numbers[name])])
