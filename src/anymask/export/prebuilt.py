"""The embedded model's graphs, made when the package is built: no first start has to export them.

`make web` makes them and puts them beside the weights. They serve whatever model has the hash they were made of, as
long as exports are of the present format; otherwise it is as if there were none.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anymask.checkpoints.places import resolve
from anymask.data.files import write_text_atomic
from anymask.inference.runtimes.graphs import SOURCE_HASH, file_hash, packaged_folder, read_exported

if TYPE_CHECKING:
    from anymask.export.parts import PartName

_PARTS: tuple[PartName, ...] = ("encoder", "image", "prompt")
"""All that answers prompts without torch (`anymask.inference.runtimes`)."""
_NAME, _LICENCE = "anymask-s", "Apache-2.0"


def find_prebuilt(model_hash: str) -> Path | None:
    """Return the folder of the prebuilt files of a model, None if this build of anymask has none of it."""
    exported = read_exported(packaged_folder())
    return packaged_folder() if exported is not None and exported.hash == model_hash else None


def make_prebuilt() -> Path:
    """Export the parts of the embedded model in the place of earlier ones, and return their folder."""
    from anymask.checkpoints import load_model
    from anymask.export.onnx import export_onnx

    folder = packaged_folder()
    with TemporaryDirectory(prefix=".onnx-", dir=folder.parent) as staging:
        made = Path(staging) / "onnx"
        export_onnx(load_model(_NAME), made, name=_NAME, licence=_LICENCE, parts=_PARTS)
        write_text_atomic(made / SOURCE_HASH, file_hash(resolve(_NAME)) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    return folder


if __name__ == "__main__":
    print(make_prebuilt())
