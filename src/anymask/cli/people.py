"""`anymask people`: who may use a server, each with a token of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymask.server import check_server_packages

app = typer.Typer(help="Give people tokens, for `anymask serve --people FILE`.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name, as the author of masks.")]
File = Annotated[
    Path, typer.Option("--file", metavar="FILE", help="The file of people; it holds only hashes of tokens.")
]


@app.command(epilog="Example: anymask people add Ann")
def add(name: Name, file: File = Path("people.json")) -> None:
    """Add a person, and print the token: once, as it is kept nowhere. A server with this file knows it at once."""
    check_server_packages()
    from anymask.server.people import add_person

    typer.echo(add_person(file, name))


@app.command(epilog="Example: anymask people remove Ann")
def remove(name: Name, file: File = Path("people.json")) -> None:
    """Remove a person: the token is no longer valid, and what the person made stays."""
    check_server_packages()
    from anymask.server.people import remove_person

    remove_person(file, name)


@app.command(name="list", epilog="Example: anymask people list")
def list_(file: File = Path("people.json")) -> None:
    """Print the names in a file of people."""
    check_server_packages()
    from anymask.server.people import list_people

    for name in list_people(file):
        typer.echo(name)
