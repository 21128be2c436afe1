"""The command `anymask`: one verb a file; what is heavy is imported inside the verbs, so that `--help` is quick.

Exit status: 0; 1 where a folder's images were done but for some that cannot be read, each with a line on standard
error; 2 for bad input of any kind, with one line on standard error and nothing written; 130 when interrupted.
`--debug`, anywhere on the line, or ANYMASK_DEBUG=1 shows the traceback as well.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import anymask
from anymask.cli import (
    edges,
    engine,
    evaluate,
    everything,
    export,
    finetune,
    instances,
    models,
    segment,
    serve,
    similar,
    train,
)
from anymask.errors import AnymaskError

BAD_INPUT = 2
INTERRUPTED = 130

app = typer.Typer(
    name="anymask",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog="Example: anymask segment coffee.jpg --point 290,130 -o out")(segment.segment)
app.command(epilog="Example: anymask everything coffee.jpg -o out --format overlay")(everything.everything)
app.command(epilog="Example: anymask edges coffee.jpg -o edges.png")(edges.edges)
app.command(epilog="Example: anymask finetune photographs annotations.json -o mine.safetensors")(finetune.finetune)
app.command(epilog="Example: anymask instances photographs boxes.json -o masks.json")(instances.instances)
app.command(epilog="Example: anymask serve --images photographs")(serve.serve)
app.command(epilog="Example: anymask similar coffee.jpg photographs --point 290,130 -o out")(similar.similar)
app.add_typer(models.app, name="models")
app.add_typer(engine.app, name="engine")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(export.app, name="export")
app.add_typer(train.app, name="train")


@app.callback()
def _anymask(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Segment anything, with any prompt."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (sys.argv by default) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if "--version" in arguments[:1]:
        print(f"anymask {anymask.__version__}")
        return 0
    debug = "--debug" in arguments or os.environ.get("ANYMASK_DEBUG", "") not in ("", "0")
    try:
        status = app(
            args=train.expand([argument for argument in arguments if argument != "--debug"]),
            prog_name="anymask",
            standalone_mode=False,
        )
    except AnymaskError as error:
        return _refuse(str(error), debug)
    except typer.TyperException as error:
        return _refuse(_with_hint(error), debug)
    except OSError as error:  # what no one foresaw of files: a disk that is full, a folder that is gone
        return _refuse(f"{error.filename or 'a file'}: {error.strerror or error}", debug)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except MemoryError:
        return _refuse("this machine has not enough memory for it; make images smaller, or fewer at a time", debug)
    except Exception as error:  # what no one foresaw at all: a line of its own, and the traceback for who asks
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return _refuse(f"failed in a way that nobody foresaw: {what}; --debug shows where", debug)
    if status == INTERRUPTED:
        print("anymask: interrupted", file=sys.stderr)
    return status if isinstance(status, int) else 0


def _refuse(message: str, debug: bool) -> int:
    """Say on one line what was wrong with the input."""
    if debug:
        traceback.print_exc()
    print(f"anymask: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def _with_hint(error: typer.TyperException) -> str:
    """Return a usage error's message with the command that explains the usage."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path} --help" if context is not None else message
