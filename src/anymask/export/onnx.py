"""Models as ONNX files: one per part, whole or not at all, with `model.json` beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anymask.data.files import make_folder, write_text_atomic
from anymask.errors import InputError, OutputError
from anymask.export.description import (
    FILE_NAME,
    Description,
    FileInfo,
    describe_file,
    read_description,
    require_packages,
)
from anymask.export.int8 import quantise
from anymask.export.parts import PARTS, PartName, build_part
from anymask.export.tracing import OPSETS, frozen, trace
from anymask.model import Sam

if TYPE_CHECKING:
    import onnx_ir as ir

_WHOLE_BYTES = 1_900_000_000
"""A file cannot hold 2 GB; larger weights go into a second one, named `<file>.data`."""


def export_onnx(
    model: Sam,
    folder: Path,
    *,
    name: str,
    parts: Sequence[PartName] = PARTS,
    licence: str | None = None,
    opset: int = OPSETS[-1],
    int8: bool = False,
    return_single_mask: bool = True,
    report: Callable[[str], None] | None = None,
) -> Description:
    """Write the parts of a model as `<part>.onnx`, with int8 also as `<part>.int8.onnx`, and return `model.json`.

    Parts that the folder has of the same model stay. `return_single_mask` is an option of Meta's decoder, as there.
    `report` is called with the name of each file before it is made.

    Raises:
        InputError: a package of the extra is missing, the opset or the part is none, or the model cannot be traced.
        OutputError: the folder cannot be written to.
    """
    require_packages()
    traced = frozen(model)
    check_parts(traced, parts)
    description = Description.of(traced, name=name, licence=licence, opset=opset)
    earlier = _earlier(make_folder(folder), description.hash)
    written: list[FileInfo] = []
    try:
        with TemporaryDirectory(prefix=".anymask-", dir=folder) as staging:
            for part in parts:
                path = Path(staging) / f"{part}.onnx"
                _tell(report, path)
                graph = trace(build_part(traced, part, return_single_mask=return_single_mask), opset)
                written.append(_write(path, graph, description, part))
                if int8:
                    small = path.with_suffix(".int8.onnx")
                    _tell(report, small)
                    written.append(_write_int8(path, small, part))
            for path in Path(staging).iterdir():
                os.replace(path, folder / path.name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror or error})") from error
    new = {file.file for file in written}
    files = (*(file for file in earlier if file.file not in new), *written)
    description = replace(description, files=files)
    write_text_atomic(folder / FILE_NAME, description.to_json())
    return description


def check_parts(model: Sam, parts: Sequence[PartName]) -> None:
    """Raise InputError for a name that is no part's, or a part that this model has not."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise InputError(f"there is no part {unknown[0]!r} to export; there are {', '.join(PARTS)}")
    if "meta" in parts and model.config.decoder.hq_feature_width is not None:
        raise InputError(
            "SAM-HQ has no form of Meta's decoder, whose inputs lack the features that it needs: "
            "export its decoder, or image and prompt"
        )


def parts_of(model: Sam) -> tuple[PartName, ...]:
    """Return all parts that the model has."""
    has_hq = model.config.decoder.hq_feature_width is not None
    return tuple(part for part in PARTS if not (has_hq and part == "meta"))


def _write(path: Path, graph: ir.Model, description: Description, part: str) -> FileInfo:
    write_graph(path, graph, name=part, metadata=description.metadata() | {"part": part})
    return _described(path, part, int8=False)


def write_graph(path: Path, graph: ir.Model, *, name: str, metadata: Mapping[str, str]) -> None:
    """Write a graph with its name and metadata; weights that no file holds go beside it, as `<file>.data`."""
    import onnx_ir as ir

    graph.metadata_props.update(metadata)
    graph.producer_name, graph.graph.name = "anymask", name
    weights = sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value)
    ir.save(graph, path, external_data=f"{path.name}.data" if weights > _WHOLE_BYTES else None)


def _write_int8(path: Path, target: Path, part: str) -> FileInfo:
    import onnx

    graph = onnx.load(path)
    quantise(graph)
    graph.metadata_props.add(key="int8", value="yes")
    onnx.save(graph, target)
    return _described(target, part, int8=True)


def _described(path: Path, part: str, *, int8: bool) -> FileInfo:
    import onnx

    return describe_file(path, onnx.load(path, load_external_data=False), part=part, int8=int8)


def _earlier(folder: Path, model: str) -> tuple[FileInfo, ...]:
    """Return the files that an earlier export of the same model left in the folder."""
    path = folder / FILE_NAME
    if not path.exists():
        return ()
    description = read_description(path)
    if description.hash != model:
        raise InputError(f"{folder}: holds exports of another model, {description.name}; give another folder")
    return tuple(file for file in description.files if (folder / file.file).is_file())


def _tell(report: Callable[[str], None] | None, path: Path) -> None:
    if report is not None:
        report(path.name)
