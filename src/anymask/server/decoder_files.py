"""The decoder as ONNX in two parts: the embedded model's come with the package, others are made once and kept.

Tracing takes some ten seconds of Python that would hold up every answer: a process of its own does it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from anymask.data.files import make_folder
from anymask.errors import AnymaskError
from anymask.export.description import FORMAT
from anymask.export.prebuilt import find_prebuilt
from anymask.inference.runtimes import AnyModel, ExportedModel

if TYPE_CHECKING:
    from anymask.model import Sam

logger = logging.getLogger("anymask.server")

Part: TypeAlias = Literal["image", "prompt"]
PARTS: tuple[Part, ...] = get_args(Part)


class Parts:
    """The files of one model: those that came with the package, or in a folder that other projects may share."""

    def __init__(self, folder: Path, model: AnyModel, *, name: str, model_hash: str) -> None:
        self._folder = folder / f"{model_hash}-{FORMAT}"
        self._prebuilt = model.folder if isinstance(model, ExportedModel) else find_prebuilt(model_hash)
        self._model = model
        self._name = name
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="export")
        self._making: Future[None] | None = None
        self._exporter = Exporter()
        self.failure: str | None = None
        """Why they could not be made, if that is so."""

    def find(self, part: Part) -> Path | None:
        """Return a part's file, or None while it is not there."""
        folder = self._folder if self._prebuilt is None else self._prebuilt
        path = folder / f"{part}.onnx"
        return path if path.is_file() else None

    def make(self) -> Future[None]:
        """Begin to export what is missing, unless an export is running; a failure is noted, not raised."""
        with self._lock:
            if self._making is None or self._making.done():
                self._making = self._thread.submit(self._make)
            return self._making

    def close(self) -> None:
        """Stop a running export."""
        self._exporter.stop()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _make(self) -> None:
        missing = [part for part in PARTS if self.find(part) is None]
        if not missing or self.failure is not None or isinstance(self._model, ExportedModel):
            return
        try:
            make_folder(self._folder)
            self._exporter.export(self._model, self._folder, self._name, missing)
        except AnymaskError as error:
            self.failure = f"the page's decoder cannot be exported: {error}"
        except Exception:
            logger.exception("the decoder could not be exported")
            self.failure = "the page's decoder cannot be exported: the server's log says why"


class Exporter:
    """Exports parts of a model in another process."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._is_stopped = False
        self._lock = threading.Lock()

    def export(self, model: Sam, folder: Path, name: str, parts: Sequence[Part]) -> None:
        """Write `<part>.onnx` for each part; raises AnymaskError with what the process says, or RuntimeError."""
        from anymask.checkpoints import save_model

        context = multiprocessing.get_context("spawn")
        hears, says = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix=".weights-", dir=folder) as staging, hears:
            weights = Path(staging) / "model.safetensors"
            save_model(model, weights)
            with self._lock:
                if self._is_stopped:
                    return
                process = context.Process(target=_export, args=(weights, folder, name, parts, says), daemon=True)
                process.start()
                self._process = process
            says.close()
            try:
                failure = hears.recv()
            except EOFError:
                failure = None
            process.join()
        if failure is not None:
            raise AnymaskError(failure)
        if process.exitcode and not self._is_stopped:
            raise RuntimeError(f"the exporting process ended with {process.exitcode}")

    def stop(self) -> None:
        """End the process, if it runs; none is started after."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None and self._process.is_alive():
                self._process.terminate()


def _export(weights: Path, folder: Path, name: str, parts: Sequence[Part], says: Connection) -> None:
    """What the other process does; it ends with the one that wants its work, however that ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        from anymask.checkpoints import load_model
        from anymask.export.onnx import export_onnx

        export_onnx(load_model(weights), folder, name=name, parts=parts)
    except (AnymaskError, ImportError) as error:
        says.send(" ".join(str(error).split()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
