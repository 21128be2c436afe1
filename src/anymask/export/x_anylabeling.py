"""A model as X-AnyLabeling and AnyLabeling load one of their own: two graphs, and the YAML file that names them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from anymask.data.files import make_folder, write_text_atomic
from anymask.errors import InputError, OutputError
from anymask.export.canvas import CANVAS, canvas_decoder, canvas_encoder
from anymask.export.description import require_packages
from anymask.export.onnx import write_graph
from anymask.export.tracing import OPSETS, frozen, trace
from anymask.model import Sam

_OPSET = OPSETS[0]
"""The oldest: these tools come with whatever ONNX Runtime their users have."""


def export_x_anylabeling(
    model: Sam, folder: Path, *, name: str, display_name: str | None = None, report: Callable[[str], None] | None = None
) -> tuple[Path, ...]:
    """Write `NAME.encoder.onnx`, `NAME.decoder.onnx` and `NAME.yaml`, and return their paths, the YAML file's last.

    `name` becomes what the tools take for a name: letters, digits, dots, hyphens and underscores. `report` hears the
    name of each graph's file before it is made.

    Raises:
        InputError: a package of the extra is missing, or the model cannot be traced or sees no plain pictures.
        OutputError: the folder cannot be written to.
    """
    require_packages()
    if model.channels is not None:
        raise InputError(
            "the model sees pictures through a mapping of channels, which these tools cannot apply: "
            "export one that was tuned on plain pictures"
        )
    traced = frozen(model)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"
    graphs = {f"{stem}.encoder.onnx": canvas_encoder, f"{stem}.decoder.onnx": canvas_decoder}
    make_folder(folder)
    try:
        with TemporaryDirectory(prefix=".anymask-", dir=folder) as staging:
            for file, build in graphs.items():
                if report is not None:
                    report(file)
                write_graph(Path(staging) / file, trace(build(traced), _OPSET), name=stem, metadata={})
            for path in Path(staging).iterdir():
                os.replace(path, folder / path.name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror or error})") from error
    config = folder / f"{stem}.yaml"
    write_text_atomic(config, _yaml(stem, display_name or f"{name} (anymask)", *graphs))
    return (*(folder / file for file in graphs), config)


def _yaml(name: str, display_name: str, encoder: str, decoder: str) -> str:
    values: dict[str, str | int] = {
        "type": "segment_anything",
        "name": name,
        "provider": "anymask",
        "display_name": display_name,
        "encoder_model_path": encoder,
        "decoder_model_path": decoder,
        "input_size": CANVAS[1],
        "max_width": CANVAS[1],
        "max_height": CANVAS[0],
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())
