"""`anymask connect`: models in other people's tools."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.weights import Device, Runtime, open_model
from anymask.errors import InputError

PORT = 9090

app = typer.Typer(help="Connect a model to the tools that people already use.")


@app.callback()
def _connect() -> None:
    """Keep the tool's name on the line while there is one tool."""


@app.command("label-studio", epilog="Example: anymask connect label-studio mine.safetensors --port 9090")
def label_studio(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `anymask models list`, or a path.")] = (
        "anymask-s"
    ),
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine a password is demanded.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="NUMBER", min=0, max=65535, help="0 takes any.")] = PORT,
    password: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What Label Studio has to show; made up where one is needed and none is given."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Label Studio's address, if not the one that it says itself.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A token for its images, if not the one that it says itself."),
    ] = None,
    detail: Annotated[
        float, typer.Option(metavar="PIXELS", help="Polygons are simpler than the mask's outline by so much.")
    ] = 0.5,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where embeddings of images are kept from one day to the next.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print address and password as a line of JSON.")] = False,
    device: Device = "auto",
    runtime: Runtime = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network for the model.")] = False,
) -> None:
    """Serve a model as a backend of Label Studio: masks for its points, boxes and strokes, and of everything.

    In Label Studio: Settings, Model, Connect Model, the address that is printed, and "Interactive preannotations" on.
    """
    from anymask.server import check_server_packages

    check_server_packages()
    if password is not None and len(password) < 8:
        raise InputError("--password needs 8 characters or more")

    import uvicorn

    from anymask.cli.listening import listening
    from anymask.inference import EmbeddingCache
    from anymask.integrations.label_studio.app import create_app
    from anymask.integrations.label_studio.backend import Backend, BackendOptions
    from anymask.server.settings import Settings

    options = BackendOptions(detail=detail, url=url, token=token)
    if password is None and not Settings(host=host).is_loopback:
        password = secrets.token_urlsafe(24)
    kept = None if cache is None else EmbeddingCache(cache)
    loaded = open_model(model, offline=offline, device=device, runtime=runtime)
    version = Path(model).stem if Path(model).exists() else model
    with listening(host, [port]) as listener:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        if as_json:
            typer.echo(json.dumps({"url": address, "password": password}))
        else:
            typer.echo(f"backend   {address}" + (f"\npassword  {password}" if password else "") + "\nCtrl-C ends it.")
        backend = Backend(loaded, version=version, options=options, cache=kept)
        config = uvicorn.Config(create_app(backend, password=password), log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])
