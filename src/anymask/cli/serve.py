"""`anymask serve`: the browser tool on a project."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import secrets
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from anymask.cli.listening import listening
from anymask.cli.weights import Device, Offline, Runtime, RuntimeName, Threads, open_model
from anymask.errors import CheckpointError, InputError
from anymask.server import check_server_packages

if TYPE_CHECKING:
    from fastapi import FastAPI

    from anymask.engine.store import Project
    from anymask.inference.runtimes import AnyModel
    from anymask.server.context import DetectorWords
    from anymask.server.settings import Settings

PORT = 8017
MODEL = "anymask-s"
_TRIES = 20
_ROOT_PATH = re.compile(r"/|(/[A-Za-z0-9._~-]+)+/?")


def serve(
    project: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PROJECT]",
            help="The project's folder, made if need be; by default one for these --images, or one for all that has "
            "no other, both kept with the user's data and the same each time.",
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="A folder of images, added by reference: they stay where they are."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A name of `anymask models list`, or a checkpoint's path; anymask-s, or a data engine's own.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine a token is required.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=0, max=65535, help=f"{PORT}, or the next that is free; 0 takes any."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The token to require; generated where one is needed and none is given."),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="People, each with a token, as `anymask people add` writes them: a token tells its owner's name.",
        ),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Below which path a reverse proxy serves this, / for none; it is trusted on scheme and "
            "address, and a token is required.",
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print address, token and project as a line of JSON when all is ready.")
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What finds words: a detector's folder, or a name in transformers' cache; by default "
            "google/owlv2-base-patch16-ensemble, if it is on this machine.",
        ),
    ] = None,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
    offline: Offline = False,
) -> None:
    """Serve the browser tool: masks by clicking, kept in a project.

    Annotations are on the disk as soon as they are made. Ctrl-C ends it, and says what opens the project again. On a
    project of `anymask engine init` people get images from its queues, and there is a dashboard.
    """
    check_server_packages()
    for folder in images or []:
        if not folder.is_dir():
            raise InputError(f"--images {folder}: is no folder")
    if token is not None and (len(token) < 8 or not token.isascii() or not token.isprintable() or " " in token):
        raise InputError("--token needs 8 or more letters, digits or signs, without spaces")
    if root_path is not None and not _ROOT_PATH.fullmatch(root_path):
        raise InputError(f"--root-path {root_path}: is no path such as /annotate, or /")
    folder = _default_folder(images or []) if project is None else project
    _check_is_project(folder)

    from anymask.server.front import Front
    from anymask.server.people import list_people
    from anymask.server.run import run
    from anymask.server.settings import Settings

    if people is not None:
        list_people(people)
    settings = Settings(
        host=host, token=token, people=people, root_path=root_path, parts=_parts_folder(), export_at_start=True
    )
    if threads is not None:
        settings = dataclasses.replace(settings, threads=threads)
    if token is None and people is None and settings.needs_token:
        settings = dataclasses.replace(settings, token=secrets.token_urlsafe(24))
    choice = _Choice(model=model, detector=detector, device=device, offline=offline, runtime=runtime)
    with (
        listening(host, range(PORT, PORT + _TRIES) if port is None else [port]) as listener,
        contextlib.ExitStack() as stack,
    ):
        url = _url(settings, listener)
        opened: list[Project] = []

        def create() -> FastAPI:
            opened.append(stack.enter_context(_opened(folder)))
            return _create_app(opened[0], choice, settings, images or [])

        def listens() -> None:
            if not as_json:
                typer.echo(f"page     {url}")
            if open_page:
                typer.launch(url)

        def created() -> None:
            if as_json:
                typer.echo(json.dumps({"url": url, "token": settings.token, "project": str(opened[0].folder)}))
                return
            board = "" if opened[0].models.current() is None else f"board    {url}#dashboard\n"
            typer.echo(f"{board}project  {opened[0].folder}\nCtrl-C ends it.")

        front = Front(create, settings, created=created)
        run(front, listener, listens, behind_proxy=settings.root_path is not None)
    if not as_json and opened:
        typer.echo(f"anymask serve {shlex.quote(str(opened[0].folder))} opens it again")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What finds masks, as the options say."""

    model: str | None
    detector: str | None
    device: str
    offline: bool
    runtime: RuntimeName


def _opened(folder: Path) -> contextlib.AbstractContextManager[Project]:
    from anymask.engine.store import open_project

    return open_project(folder)


def _create_app(project: Project, choice: _Choice, settings: Settings, folders: Sequence[Path]) -> FastAPI:
    """Load the model, the project's own unless another is named, and build the application over it."""
    from anymask.engine.project_model import model_path
    from anymask.server.app import create_app

    own = project.models.current()
    name = source = choice.model or MODEL
    if choice.model is None and own is not None:
        name, source = f"{project.name}, model {own.id}", str(model_path(project))
    model = open_model(
        source, offline=choice.offline, device=choice.device, runtime=choice.runtime, threads=settings.threads
    )
    words = _words(model, choice.detector, project)
    return create_app(project, model, model_name=name, settings=settings, folders=folders, text=words)


def _words(model: AnyModel, detector: str | None, project: Project) -> DetectorWords | None:
    """Return what finds words, if its weights are here; raises CheckpointError if those that were named are not."""
    from anymask.engine.project_model import embedding_cache
    from anymask.inference.words.detector import DETECTOR
    from anymask.inference.words.local_weights import is_on_this_machine, missing
    from anymask.server.context import DetectorWords

    if is_on_this_machine(detector or DETECTOR):
        return DetectorWords(model, detector or DETECTOR, embedding_cache(project))
    if detector is not None:
        raise CheckpointError(missing(detector))
    return None


def _default_folder(images: Sequence[Path]) -> Path:
    """Return where the project of folders of images goes, or without any that of all that has no other.

    The same folders have the same project, however they are named.
    """
    import platformdirs

    parent = Path(platformdirs.user_data_dir("anymask", appauthor=False)) / "projects"
    if not images:
        return parent / "default"
    places = sorted({str(folder.resolve()) for folder in images})
    digest = hashlib.blake2b("\n".join(places).encode(errors="surrogatepass"), digest_size=4).hexdigest()
    name = re.sub(r"[^\w.-]+", "-", Path(places[0]).name).strip("-.")[:60]
    return parent / f"{name or 'images'}-{digest}"


def _check_is_project(folder: Path) -> None:
    """Raise InputError for a folder with other things in it, among which a project's files would be scattered."""
    from anymask.engine import is_project

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; a project is a folder")
    if not folder.is_dir() or is_project(folder):
        return
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(
            f"{folder}: is no project, and not empty; did you mean --images {shlex.quote(str(folder))}? A new project "
            "needs a folder of its own"
        )


def _parts_folder() -> Path:
    """Return where exported decoders are kept for all projects."""
    from anymask.data.files import cache_folder

    return cache_folder() / "onnx"


def _url(settings: Settings, listener: socket.socket) -> str:
    """Return the address to open; with the token, which the page then keeps as a cookie."""
    number = listener.getsockname()[1]
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(settings.host, settings.host)
    shown = f"[{name}]" if ":" in name else name
    root = settings.root_path or ""
    return f"http://{shown}:{number}{root}/" + (f"?token={quote(settings.token, safe='')}" if settings.token else "")
