"""BSDS500 as it is published: photographs, and what about five humans each drew on them, in MATLAB's files.

Source: Arbeláez, Maire, Fowlkes and Malik, 2011. The folder is the data set's own `data`: images/test/*.jpg and
groundTruth/test/*.mat, each with a cell `groundTruth` of structs whose `Boundaries` are 1 on edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from anymask.errors import DataError, MissingPackageError

_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class BsdsImage:
    """A photograph and the file of its edges."""

    name: str
    image: Path
    truth: Path


def list_images(folder: str | Path, split: str = "test") -> list[BsdsImage]:
    """Return the images of a split by name.

    Raises DataError if the folder is not laid out as BSDS500's `data`, or an image has no edges.
    """
    images, truths = Path(folder) / "images" / split, Path(folder) / "groundTruth" / split
    for part in (images, truths):
        if not part.is_dir():
            raise DataError(f"{folder}: there is no folder {part.relative_to(folder)} in it; give BSDS500's own data/")
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise DataError(f"{images}: holds no photographs; BSDS500 has *.jpg there")
    listed = [BsdsImage(name=path.stem, image=path, truth=truths / f"{path.stem}.mat") for path in found]
    missing = [image for image in listed if not image.truth.is_file()]
    if missing:
        more = f", nor have {len(missing) - 1} others" if len(missing) > 1 else ""
        raise DataError(f"{missing[0].image.name} has no edges{more}: {missing[0].truth} was expected")
    return listed


def read_boundaries(path: str | Path) -> list[Bool[np.ndarray, "h w"]]:
    """Read the edges that each human drew; all of one size.

    Raises DataError for a file that holds no such thing, MissingPackageError where SciPy is missing.
    """
    require_scipy()
    from scipy.io import loadmat

    try:
        cell = loadmat(path)["groundTruth"]
    except KeyError as error:
        raise DataError(f"{path}: holds no groundTruth; one of BSDS500's own files was expected") from error
    except Exception as error:  # whatever MATLAB's format meets in zlib, struct and SciPy when it is broken
        raise DataError(f"{path}: cannot be read as a MATLAB file ({' '.join(str(error).split())})") from error
    try:
        boundaries = [np.asarray(human["Boundaries"][0, 0]) != 0 for human in cell.ravel()]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path}: groundTruth has no Boundaries; a cell of structs was expected") from error
    if not boundaries or boundaries[0].ndim != 2 or len({edges.shape for edges in boundaries}) != 1:
        shapes = [edges.shape for edges in boundaries]
        raise DataError(f"{path}: has Boundaries of {shapes or 'nobody'}; maps of one size were expected")
    return boundaries


def require_scipy() -> None:
    """Raise MissingPackageError unless SciPy is here."""
    if find_spec("scipy") is None:
        raise MissingPackageError("the edge benchmark needs SciPy: pip install 'anymask[evaluate]' brings it")
