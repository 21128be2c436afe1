"""The command `anymask`: one verb per file; what is heavy is imported inside the verbs, so that `--help` is quick.

Exit status: 0; 1 where a folder's images were done but for some that cannot be read, each with a line on standard
error; 2 for bad input of any kind, with one line on standard error and nothing written; 130 when interrupted.
`--debug`, anywhere on the line, or ANYMASK_DEBUG=1 shows the traceback as well; `--max-pixels NUMBER`, anywhere on it,
or ANYMASK_MAX_PIXELS takes larger images than by default.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

import anymask
from anymask.errors import AnymaskError, InputError

MAX_PIXELS_VARIABLE = "ANYMASK_MAX_PIXELS"
"""The variable of `anymask.data.images`, which is imported only when it is needed."""
BAD_INPUT = 2
INTERRUPTED = 130

_EXAMPLES = {
    "segment": "anymask segment coffee.jpg --point 290,130 -o out",
    "everything": "anymask everything coffee.jpg -o out --format overlay",
    "edges": "anymask edges coffee.jpg -o edges.png",
    "finetune": "anymask finetune photographs annotations.json -o mine.safetensors",
    "instances": "anymask instances photographs boxes.json -o masks.json",
    "serve": "anymask serve --images photographs",
    "similar": "anymask similar coffee.jpg photographs --point 290,130 -o out",
}
"""An example for each verb; a verb is a function of its name in a module of its name."""
_GROUPS = {
    "models": "models",
    "connect": "connect",
    "engine": "engine.app",
    "evaluate": "evaluate",
    "export": "export",
    "people": "people",
    "train": "train",
}
"""Groups of verbs, and the module of each."""
VERBS = (*_EXAMPLES, *_GROUPS)


def build_app(verbs: Sequence[str] = VERBS) -> typer.Typer:
    """Return the command with these verbs, whose modules alone are imported."""
    app = typer.Typer(
        name="anymask",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_anymask)
    for verb in verbs:
        module = import_module(f"anymask.cli.{_GROUPS.get(verb, verb)}")
        if verb in _GROUPS:
            app.add_typer(module.app, name=verb)
        else:
            app.command(epilog=f"Example: {_EXAMPLES[verb]}")(getattr(module, verb))
    return app


def _anymask(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option("--max-pixels", metavar="NUMBER", min=1, help="Take images of up to so many pixels; 200,000,000."),
    ] = None,
) -> None:
    """Segment anything, with any prompt."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (sys.argv by default) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if "--version" in arguments[:1]:
        print(f"anymask {anymask.__version__}")
        return 0
    debug = "--debug" in arguments or os.environ.get("ANYMASK_DEBUG", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    before = os.environ.get(MAX_PIXELS_VARIABLE)
    try:
        arguments = _take_max_pixels(arguments)
        status = _app_for(arguments)(args=_expand(arguments), prog_name="anymask", standalone_mode=False)
    except AnymaskError as error:
        return _refuse(str(error), debug)
    except typer.TyperException as error:
        return _refuse(_with_hint(error), debug)
    except OSError as error:  # files: a disk that is full, a folder that is gone
        return _refuse(f"{error.filename or 'a file'}: {error.strerror or error}", debug)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except MemoryError:
        return _refuse("this machine has not enough memory for it; make images smaller, or fewer at a time", debug)
    except Exception as error:  # a bug: one line, and the traceback with --debug
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return _refuse(f"unexpected error: {what}; --debug shows where", debug)
    finally:
        if os.environ.get(MAX_PIXELS_VARIABLE) != before:
            os.environ.pop(MAX_PIXELS_VARIABLE)
            os.environ.update({} if before is None else {MAX_PIXELS_VARIABLE: before})
    if status == INTERRUPTED:
        print("anymask: interrupted", file=sys.stderr)
    return status if isinstance(status, int) else 0


def _take_max_pixels(arguments: list[str]) -> list[str]:
    """Put `--max-pixels NUMBER` into the environment, where everything that reads images looks it up; return the other
    arguments.
    """
    for place, argument in enumerate(arguments):
        name, is_joined, said = argument.partition("=")
        if name != "--max-pixels":
            continue
        said = said if is_joined else (arguments[place + 1 : place + 2] or [""])[0]
        plain = said.replace("_", "").replace(",", "")
        if not (plain.isascii() and plain.isdecimal() and 0 < int(plain) < 2**62):
            raise InputError(f"--max-pixels {said[:40]}: a number of pixels was expected, such as 400000000")
        os.environ[MAX_PIXELS_VARIABLE] = plain
        return arguments[:place] + arguments[place + (1 if is_joined else 2) :] or ["--help"]
    return arguments


def _app_for(arguments: list[str]) -> typer.Typer:
    """Return the command with the one verb that is named; with all of them for its help and for a wrong name."""
    return build_app([arguments[0]] if arguments[0] in VERBS else VERBS)


def _expand(arguments: list[str]) -> list[str]:
    """Read `train RECIPE` as `train run RECIPE`."""
    if arguments[0] != "train":
        return arguments
    from anymask.cli import train

    return train.expand(arguments)


def _refuse(message: str, debug: bool) -> int:
    """Print on one line what was wrong with the input."""
    if debug:
        traceback.print_exc()
    print(f"anymask: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def _with_hint(error: typer.TyperException) -> str:
    """Return a usage error's message with the command that explains the usage."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path} --help" if context is not None else message
