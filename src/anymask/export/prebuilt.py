"""The embedded model's decoder for the page, made when the package is built: no first start has to export it.

`make web` makes them and puts them beside the weights. They serve whatever model has the hash they were made of, as
long as exports are of the present format; otherwise it is as if there were none.
"""

from __future__ import annotations

import os
import shutil
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from anymask.errors import InputError
from anymask.export.description import FILE_NAME, read_description
from anymask.export.parts import PartName

_PARTS: tuple[PartName, ...] = ("image", "prompt")
"""Not the encoder, which only sites without a server need: it is as large as all weights."""
_NAME, _LICENCE = "anymask-s", "Apache-2.0"


def find_prebuilt(model_hash: str) -> Path | None:
    """Return the folder of the prebuilt files of a model, None if this build of anymask has none of it."""
    folder = _folder()
    try:
        description = read_description(folder / FILE_NAME)
    except InputError:  # there are none, or of an earlier format
        return None
    names = {file.file for file in description.files if (folder / file.file).is_file()}
    whole = names >= {f"{part}.onnx" for part in _PARTS}
    return folder if whole and description.hash == model_hash else None


def make_prebuilt() -> Path:
    """Export the parts of the embedded model in the place of earlier ones, and return their folder."""
    from anymask.checkpoints import load_model
    from anymask.export.onnx import export_onnx

    folder = _folder()
    with TemporaryDirectory(prefix=".onnx-", dir=folder.parent) as staging:
        made = Path(staging) / "onnx"
        export_onnx(load_model(_NAME), made, name=_NAME, licence=_LICENCE, parts=_PARTS)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    return folder


def _folder() -> Path:
    return Path(str(files("anymask"))) / "weights" / "onnx"


if __name__ == "__main__":
    print(make_prebuilt())
