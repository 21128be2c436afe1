"""The decoder as ONNX in two parts, made once a model and kept."""

from __future__ import annotations

import importlib
import logging
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from anymask.data.files import make_folder
from anymask.model import Sam

logger = logging.getLogger("anymask.server")

Part: TypeAlias = Literal["image", "prompt"]
PARTS: tuple[Part, ...] = get_args(Part)


class Parts:
    """The files of one model, by the hash of its weights, in a folder that other projects and processes may share."""

    def __init__(self, folder: Path, model: Sam, model_hash: str) -> None:
        self._folder = folder / model_hash
        self._model = model
        self._lock = threading.Lock()
        self.failure: str | None = None
        """Why they could not be made, if that is so."""

    def find(self, part: Part) -> Path | None:
        """Return a part's file, or None while it is not there."""
        path = self._folder / f"{part}.onnx"
        return path if path.is_file() else None

    def make(self) -> None:
        """Export what is missing; a failure is noted, not raised."""
        with self._lock:
            if all(self.find(part) for part in PARTS):
                return
            try:
                self._export()
            except ImportError as error:
                self.failure = f"the decoder cannot be exported for the page: install anymask[onnx] ({error})"
            except Exception as error:
                logger.exception("the decoder could not be exported")
                self.failure = f"the decoder cannot be exported for the page: {' '.join(str(error).split())[:200]}"

    def _export(self) -> None:
        export = importlib.import_module("anymask.export.onnx")
        make_folder(self._folder)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=self._folder) as staging:
            export.export_onnx(self._model, Path(staging), parts=PARTS)
            for made in Path(staging).iterdir():
                shutil.move(made, self._folder / made.name)
