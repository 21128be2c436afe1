"""Proof that exported files answer as the model does: ONNX Runtime against torch, on photographs and random prompts.

Each part is compared by what it comes to, mask logits: an encoder by the masks of its embedding, an image part by those
of its projections. A float32 file passes if no logit is off by more than `MAX_LOGIT` and no more than `MAX_PIXELS` of
all pixels change sides; an int8 file if its masks overlap the model's by `MIN_IOU` on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from anymask.checkpoints.load import model_hash
from anymask.errors import InputError
from anymask.export.comparisons import COMPARISONS, ExportedFile, sample_picture
from anymask.export.description import FILE_NAME, read_description, read_metadata, require_packages
from anymask.geometry.masks import pair_iou
from anymask.model import MASK_THRESHOLD, Sam

MAX_LOGIT = 1e-3
MAX_PIXELS = 1e-3
MIN_IOU = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result for one file."""

    file: str
    part: str
    int8: bool
    megabytes: float
    masks: int
    """Number of masks that were compared."""
    largest: float
    """The largest difference of a logit, of a mask or of an object score."""
    pixels: float
    """The share of pixels that changed sides of the threshold."""
    iou: float
    """Mean IoU of the masks with the model's; 1 where both are empty."""

    @property
    def passed(self) -> bool:
        """Whether the file may be used in the model's place."""
        if self.int8:
            return self.iou >= MIN_IOU
        return self.largest <= MAX_LOGIT and self.pixels <= MAX_PIXELS


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the ONNX files that are named, and those that a folder's `model.json` lists; raises InputError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [path / file.file for file in read_description(path / FILE_NAME).files]
        else:
            found.append(path)
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        path = missing[0] if missing else paths[0]
        raise InputError(f"{path}: there is no such file; `anymask export onnx` writes them")
    return found


def open_exported(path: Path, *, threads: int | None = None) -> ExportedFile:
    """Open a file in ONNX Runtime; raises InputError if it is none, or not ours."""
    require_packages()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        raise InputError(f"{path}: cannot be read as ONNX ({_first_line(error)})") from error
    metadata = session.get_modelmeta().custom_metadata_map
    description, part = read_metadata(path, metadata)
    return ExportedFile(
        path=path, session=session, part=part, int8=metadata.get("int8") == "yes", description=description
    )


def verify(model: Sam, files: Sequence[ExportedFile], *, rounds: int = 4, seed: int = 0) -> Iterator[Verdict]:
    """Compare each file with the model on photographs of random sizes, `rounds` times with some prompts each.

    Raises InputError if a file is another model's.
    """
    expected = model_hash(model)
    for exported in files:
        if exported.description.hash != expected:
            raise InputError(
                f"{exported.path}: was exported from {exported.description.name} with other weights than this model's; "
                "name its own with --model"
            )
    for exported in files:
        yield _verify(model, exported, rounds, torch.Generator().manual_seed(seed))


def _verify(model: Sam, exported: ExportedFile, rounds: int, generator: torch.Generator) -> Verdict:
    compare = COMPARISONS[exported.part]
    largest, flipped, total = 0.0, 0, 0
    ious: list[float] = []
    for index in range(rounds):
        picture = sample_picture(model, index, generator)
        with torch.no_grad():
            embedding = model.encode(model.preprocess(torch.from_numpy(picture).permute(2, 0, 1)[None]))
            for theirs, ours in compare(model, exported, picture, embedding, generator):
                largest = max(largest, float((theirs - ours).abs().max()))
                if ours.ndim < 3:  # object scores
                    continue
                found, wanted = (x.flatten(0, -3).numpy() > MASK_THRESHOLD for x in (theirs, ours))
                flipped, total = flipped + int((found != wanted).sum()), total + found.size
                overlaps = np.where((found | wanted).any((1, 2)), pair_iou(found, wanted), 1.0)
                ious += overlaps.tolist()
    return Verdict(
        file=exported.path.name,
        part=exported.part,
        int8=exported.int8,
        megabytes=exported.path.stat().st_size / 1e6,
        masks=len(ious),
        largest=largest,
        pixels=flipped / total,
        iou=float(np.mean(ious)),
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
