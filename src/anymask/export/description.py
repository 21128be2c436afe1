"""What a page or another program must know of exported files: `model.json`, and the same inside each file.

`model.json` names every file with its inputs and outputs (type and shape; a name in a shape is a size that varies), the
model's sizes, and how pixels and prompts are prepared. Each ONNX file repeats all but the list of files in its
metadata, under `anymask`, so that it can be told whose it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from anymask.errors import InputError, MissingPackageError
from anymask.inference.runtimes import graphs
from anymask.model import MASK_THRESHOLD, PointLabel

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from anymask.model import Sam


FILE_NAME, FORMAT = graphs.DESCRIPTION, graphs.FORMAT
METADATA_KEY = "anymask"

_PREPROCESSING = (
    "RGB, 0 to 255, resized with an antialiased bilinear filter so that the long side is image_size pixels, or both "
    "sides where fit is stretch; the encoder normalises by pixel_mean and pixel_std and pads with zeros to the right "
    "and below"
)
_PROMPTS = (
    "points are pixels (x, y) of the resized image; a box is its two corners; a prompt without a box ends with the "
    "point (0, 0) of label not_a_point, and one with a box too where pads_boxes is true; mask_input is the logits of "
    "an earlier answer, used where has_mask_input is 1"
)
_ANSWERS = (
    "logits over mask_threshold are the mask, in the padded square; index 0 answers a clear prompt, indices 1 to 3 are "
    "whole, part and subpart of an ambiguous one (a lone point); iou is the predicted quality of each; object_score, "
    "where a model has it, is a logit below 0 where there is no object"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """An input or output: its name, its type as NumPy calls it, its sizes or their names."""

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """One exported file."""

    part: str
    file: str
    int8: bool
    bytes: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What `model.json` says."""

    format: int = FORMAT
    name: str
    hash: str
    """Of the model's config and weights, as `model_hash` gives it."""
    licence: str | None
    image_size: int
    embedding_size: int
    mask_size: int
    width: int
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    opset: int
    fit: str = "pad"
    pads_boxes: bool = False
    config: dict[str, Any] | None = None
    """The model's `SamConfig`, as plain values."""
    channels: dict[str, Any] | None = None
    """How pictures become RGB for it, as plain values; None: as any picture does."""
    mask_threshold: float = MASK_THRESHOLD
    labels: dict[str, int] = field(default_factory=lambda: {label.name.lower(): int(label) for label in PointLabel})
    preprocessing: str = _PREPROCESSING
    prompts: str = _PROMPTS
    answers: str = _ANSWERS
    files: tuple[FileInfo, ...] = ()

    @classmethod
    def of(cls, model: Sam, *, name: str, licence: str | None, opset: int) -> Self:
        """Describe a model, with no files yet."""
        from anymask.checkpoints.load import model_hash

        return cls(
            name=name,
            hash=model_hash(model),
            licence=licence,
            image_size=model.image_size,
            embedding_size=model.embedding_size,
            mask_size=model.mask_size,
            width=model.config.width,
            pixel_mean=model.config.pixel_mean,
            pixel_std=model.config.pixel_std,
            opset=opset,
            fit=model.config.fit,
            pads_boxes=model.config.pads_boxes,
            config=json.loads(json.dumps(model.config.to_dict())),
            channels=model.channels,
        )

    def to_json(self) -> str:
        """Return the text of `model.json`."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def metadata(self) -> dict[str, str]:
        """Return what goes into each ONNX file."""
        values = asdict(self)
        del values["files"]
        return {METADATA_KEY: json.dumps(values)}


def describe_file(path: Path, graph: ModelProto, *, part: str, int8: bool) -> FileInfo:
    """Describe a file that has been written; weights beside it count."""
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    inputs, outputs = (tuple(map(_tensor, values)) for values in (graph.graph.input, graph.graph.output))
    return FileInfo(part=part, file=path.name, int8=int8, bytes=size, inputs=inputs, outputs=outputs)


def read_description(path: Path) -> Description:
    """Read `model.json`; raises InputError if it is none of ours."""
    try:
        values = json.loads(path.read_text())
        if values["format"] != FORMAT:
            raise InputError(f"{path}: is of another version of anymask; export the model again")
        files = tuple(
            FileInfo(**{**file, "inputs": _listed(file["inputs"]), "outputs": _listed(file["outputs"])})
            for file in values.pop("files")
        )
        return _from_values(values | {"files": files})
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: does not describe exported files; `anymask export onnx` writes one") from error


def read_metadata(path: Path, metadata: Mapping[str, str]) -> tuple[Description, str]:
    """Return what an ONNX file's metadata say of the model, and the file's part; raises InputError if none are ours."""
    try:
        return _from_values(json.loads(metadata[METADATA_KEY])), metadata["part"]
    except (KeyError, ValueError, TypeError):
        raise InputError(
            f"{path}: was not exported by this version of anymask; `anymask export onnx` writes what can be verified"
        ) from None


def _from_values(values: dict[str, Any]) -> Description:
    lists = {name: tuple(values[name]) for name in ("pixel_mean", "pixel_std")}
    return Description(**{**values, **lists})


def _listed(values: list[dict[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(**{**value, "shape": tuple(value["shape"])}) for value in values)


def _tensor(value: ValueInfoProto) -> TensorInfo:
    from onnx import helper

    kind = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
    return TensorInfo(name=value.name, type=str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape=shape)


PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_packages() -> None:
    """Raise MissingPackageError unless all packages of the extra are here."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"exports need {' and '.join(missing)}: pip install 'anymask[export]' brings what is missing"
        )
