from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

import anymask as package
from anymask import cli
from anymask.checkpoints import places
from anymask.cli import MAX_PIXELS_VARIABLE, build_app
from anymask.data import images
from anymask.errors import InputError
from anymask.export.web import packaged_page
from anymask.samples import sample_path


def _commands(group: typer.Typer, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every verb as it is typed, with the last lines of its help."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield (*prefix, command.name or command.callback.__name__), command.epilog or ""
    for inner in group.registered_groups:
        assert inner.typer_instance is not None and inner.name is not None
        yield from _commands(inner.typer_instance, (*prefix, inner.name))


COMMANDS = dict(_commands(build_app()))


def test_the_verbs() -> None:
    assert set(COMMANDS) == {
        ("connect", "label-studio"),
        ("edges",),
        ("everything",),
        ("finetune",),
        ("instances",),
        ("segment",),
        ("serve",),
        ("connect", "label-studio"),
        ("similar",),
        *(("evaluate", protocol) for protocol in ("single-point", "edges", "proposals", "instances", "text", "all")),
        *(("evaluate", "rating", verb) for verb in ("sheet", "summary")),
        *(("engine", verb) for verb in ("init", "import", "status", "assist", "prefill", "auto", "retrain", "check")),
        *(("engine", verb) for verb in ("review", "release", "export", "honeypot", "demo", "settings", "verify")),
        *(("export", verb) for verb in ("embedding", "onnx", "verify", "web", "x-anylabeling")),
        *(("models", verb) for verb in ("list", "download", "convert", "average", "tune", "publish")),
        *(("people", verb) for verb in ("add", "remove", "list")),
        *(("train", verb) for verb in ("run", "plan", "preview", "render", "regions", "text")),
    }


@pytest.mark.parametrize("verb", COMMANDS, ids=" ".join)
def test_every_verb_explains_itself_with_an_example(anymask: Callable[..., Any], verb: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        ran = anymask(*verb, flag)
        assert ran.status == 0 and ran.err == ""
        assert "Example: anymask " in ran.out


# The network; what does not end by itself; data sets, projects and exported files, which have tests of their own.
NOT_RUN = {
    ("models", "download"),
    ("models", "tune"),
    ("serve",),
    ("connect", "label-studio"),
    ("export", "verify"),
    ("finetune",),
    ("instances",),
    ("similar",),
} | {verb for verb in COMMANDS if verb[0] in ("evaluate", "engine") or verb == ("train", "text")}


@pytest.fixture
def exportable(
    anymask: Callable[..., Any],
    stirred_weights: Path,
    kept_traces: None,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Have a model in the embedded one's place whose graphs are traced for other tests as well, and a page."""
    monkeypatch.setitem(places.EMBEDDED, "anymask-s", str(stirred_weights))
    try:
        packaged_page()
    except InputError:  # `make web` has not built it
        page = tmp_path_factory.mktemp("page")
        (page / "index.html").write_text("the page")
        monkeypatch.setattr("anymask.export.web.packaged_page", lambda: page)


@pytest.mark.parametrize("verb", [v for v in COMMANDS if v not in NOT_RUN], ids=" ".join)
def test_the_examples_work_as_they_stand(
    anymask: Callable[..., Any],
    request: pytest.FixtureRequest,
    tiny_recipe: str,
    smoke_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
) -> None:
    if verb[0] == "export":
        request.getfixturevalue("exportable")
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample_path("coffee"), "coffee.jpg")
    shutil.copy(smoke_weights, "checkpoint.pth")
    Path("photographs").mkdir()
    shutil.copy("coffee.jpg", "photographs")
    Path("recipes").mkdir()
    Path("recipes/smoke.toml").write_text(tiny_recipe)
    if verb in (("people", "list"), ("people", "remove")):
        assert anymask("people", "add", "Ann").status == 0
    program, *arguments = shlex.split(COMMANDS[verb].removeprefix("Example: "))
    assert program == "anymask"
    ran = anymask(*arguments)
    assert ran.status == 0, ran.err
    if "-o" in arguments:
        assert Path(arguments[arguments.index("-o") + 1]).exists()


def test_no_arguments_show_the_help(anymask: Callable[..., Any]) -> None:
    ran = anymask()
    assert ran.status == 0 and "segment" in ran.out


def test_version(anymask: Callable[..., Any]) -> None:
    assert anymask("--version").out == f"anymask {package.__version__}\n"


@pytest.mark.parametrize("arguments", [["segmant"], ["models"], ["models", "lst"], ["segment"], ["--nope"], ["train"]])
def test_usage_errors_take_one_line(refused: Callable[..., str], arguments: list[str]) -> None:
    assert "--help" in refused(*arguments)


def test_debug_shows_the_traceback(anymask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    call = ["segment", "missing.jpg", "--point", "1,1", "--json"]
    for arguments in (["--debug", *call], [*call, "--debug"]):
        ran = anymask(*arguments)
        assert ran.status == 2 and "Traceback" in ran.err and ran.err.splitlines()[-1].startswith("anymask: ")
    monkeypatch.setenv("ANYMASK_DEBUG", "1")
    assert "Traceback" in anymask(*call).err
    monkeypatch.setenv("ANYMASK_DEBUG", "0")
    assert "Traceback" not in anymask(*call).err


def test_help_imports_nothing_heavy() -> None:
    program = """
import sys
from anymask.cli import main
status = main(["segment", "--help"])
heavy = {"torch", "numpy", "cv2", "PIL", "httpx", "pycocotools", "scipy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else status)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WRONG = [
    ["segment", "missing.jpg", "--point", "1,1", "--json"],
    ["segment", "text.jpg", "--point", "1,1", "--json"],
    ["segment", "coffee.jpg", "--point", "1;1", "--json"],
    ["everything", "missing.jpg", "-o", "out"],
    ["everything", "text.jpg", "-o", "out"],
    ["edges", "missing.jpg", "-o", "edges.png"],
    ["similar", "missing.jpg", "coffee.jpg", "--point", "1,1", "-o", "out"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_what_is_wrong_is_told_before_the_model_is_imported(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    shutil.copy(sample_path("coffee"), tmp_path / "coffee.jpg")
    program = f"""
import sys
from anymask.cli import main
status = main({arguments})
sys.exit("imported torch" if "torch" in sys.modules else status)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("anymask: "), done.stderr


def test_as_a_process_with_exit_status_and_no_traceback(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "anymask", "segment", "missing.jpg", "--point", "1,1", "-o", "out"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"anymask: missing\.jpg: there is no such file\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("by\nzero"), "unexpected error: ZeroDivisionError: by zero; --debug shows where"),
        (MemoryError(), "not enough memory"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), "UnicodeEncodeError"),
    ],
)
def test_what_nobody_foresaw_is_one_line_too(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_app_for", lambda _: fail)
    assert cli.main(["models", "list"]) == cli.BAD_INPUT
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and "Traceback" not in told
    assert cli.main(["--debug", "models", "list"]) == cli.BAD_INPUT
    assert "Traceback" in capsys.readouterr().err


def test_larger_images_are_taken_where_it_is_asked_for(
    anymask: Callable[..., Any], refused: Callable[..., str], tmp_path: Path
) -> None:
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    command = ("edges", tmp_path / "a.png", "-o", tmp_path / "edges.png")
    assert "100 pixels, more than the 99 allowed; raise --max-pixels" in refused(*command, "--max-pixels", "99")
    assert "a number of pixels was expected" in refused("--max-pixels", "many", *command)
    assert MAX_PIXELS_VARIABLE not in os.environ and not (tmp_path / "edges.png").exists()
    assert cli.main(["--max-pixels=1,000"]) == 0


def test_the_variable_is_the_readers() -> None:
    assert MAX_PIXELS_VARIABLE == images.MAX_PIXELS_VARIABLE
