"""The page as a static site: with a model's files beside it, encoder included, it segments without a server of ours."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from anymask.checkpoints.load import model_hash
from anymask.data.files import make_folder, write_text_atomic
from anymask.errors import InputError, OutputError
from anymask.export.description import FILE_NAME, Description, require_packages
from anymask.export.onnx import export_onnx
from anymask.export.parts import PartName
from anymask.export.prebuilt import find_prebuilt
from anymask.inference.runtimes.graphs import SOURCE_HASH
from anymask.model import Sam
from anymask.samples import SAMPLES

PARTS: tuple[PartName, ...] = ("encoder", "image", "prompt")
MODELS = "models"
CONFIG_NAME = "config.json"
NOTE_NAME = "README.txt"
HEADERS_NAME = "_headers"

_STAGING = ".anymask-"
_ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOTE = """This folder is a web site: {name} segments pictures in the visitor's browser, and no picture leaves it.

Any web server can send it, from any path; opened as a file it does not work, for browsers run no modules from files.
To try it here:

    python -m http.server --bind 127.0.0.1 --directory .

It is faster with threads, which browsers allow only if the server sends these headers with every file:

{headers}

{headers_name} says so to the hosts that read such a file. Without the headers the page works on a single thread.
The site must be served by https, or from this machine: elsewhere browsers keep from pages what this one needs.
"""


def packaged_page() -> Path:
    """Return the folder of the built page; raises InputError if this build of anymask has none."""
    folder = Path(str(files("anymask"))) / "server" / "page"
    if not (folder / "index.html").is_file():
        raise InputError(
            "this build of anymask has no page: in a checkout, `make web` builds it (Node and npm needed), and then "
            "`pip install` takes it along"
        )
    return folder


def check_site(folder: Path) -> None:
    """Raise OutputError if there is something at `folder` other than an empty folder or an earlier export of a site."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; give one that is empty or not there yet")
    if any(not path.name.startswith(_STAGING) for path in folder.iterdir()) and not _is_site(folder):
        raise OutputError(f"{folder}: holds files that are not an exported site's; give a folder that is empty or new")


def export_web(
    model: Sam,
    folder: Path,
    *,
    name: str,
    licence: str | None = None,
    int8: bool = False,
    page: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Description:
    """Write the page, its samples, its configuration and the model's files to `folder`, and return `model.json`.

    With `int8` the files have 8-bit weights, and are a quarter as large; without, those that came with the package are
    taken. An earlier export is replaced when the new one is complete; other files beside it stay. `page` is the built
    page, by default the package's own. `report` is called with the name of each model file before it is made.

    Raises:
        InputError: the page is not built, a package of the extra is missing, or the page cannot run the model.
        OutputError: `folder` holds something else, or cannot be written to.
    """
    require_packages()
    page = packaged_page() if page is None else page
    check_site(folder)
    if model.config.decoder.hq_feature_width is not None:
        raise InputError("the page has no place for the second features of SAM-HQ: give a model without them")
    is_new = not folder.exists()
    try:
        with TemporaryDirectory(prefix=_STAGING, dir=make_folder(folder)) as staging:
            site = Path(staging) / "site"
            shutil.copytree(page, site)
            models = site / MODELS
            prebuilt = None if int8 else find_prebuilt(model_hash(model))
            if prebuilt is not None:
                shutil.copytree(prebuilt, models, ignore=shutil.ignore_patterns(SOURCE_HASH))
            parts = [part for part in PARTS if not (models / f"{part}.onnx").is_file()]
            description = export_onnx(model, models, name=name, parts=parts, licence=licence, int8=int8, report=report)
            if int8:
                description = _keep_int8(models, description)
            _describe_site(site, name)
            _replace(folder, site, Path(staging) / "former")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror or error})") from error
    finally:
        if is_new:  # no effect on a folder that got its files
            with suppress(OSError):
                folder.rmdir()
    return description


def _is_site(folder: Path) -> bool:
    try:
        config = json.loads((folder / CONFIG_NAME).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("backend") == "local" and (folder / "index.html").is_file()


def _keep_int8(models: Path, description: Description) -> Description:
    """Put the 8-bit files where the page looks for the others, which go."""
    kept = []
    for file in description.files:
        if file.int8:
            os.replace(models / file.file, models / f"{file.part}.onnx")
            kept.append(dataclasses.replace(file, file=f"{file.part}.onnx"))
    description = dataclasses.replace(description, files=tuple(kept))
    write_text_atomic(models / FILE_NAME, description.to_json())
    return description


def _describe_site(site: Path, name: str) -> None:
    samples = [sample.file for sample in SAMPLES.values() if (site / "samples" / sample.file).is_file()]
    config = {"backend": "local", "models": f"{MODELS}/", "samples": samples}
    headers = "\n".join(f"    {header}: {value}" for header, value in _ISOLATION.items())
    texts = {
        CONFIG_NAME: json.dumps(config, indent=1) + "\n",
        NOTE_NAME: _NOTE.format(name=name, headers=headers, headers_name=HEADERS_NAME),
        HEADERS_NAME: f"/*\n{headers}\n",
    }
    for file, text in texts.items():
        (site / file).write_text(text, encoding="utf-8")


def _replace(folder: Path, site: Path, former: Path) -> None:
    """Move the site's files and folders to `folder`, index.html last, and those in their places to `former`."""
    former.mkdir()
    for path in sorted(site.iterdir(), key=lambda path: path.name == "index.html"):
        target = folder / path.name
        if os.path.lexists(target):
            os.replace(target, former / path.name)
        os.replace(path, target)
