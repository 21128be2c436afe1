"""Faces and number plates made unrecognisable, by whichever detector is available."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from anymask.errors import InputError

FindPrivate: TypeAlias = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "n 4"]]
"""Returns the boxes (x0, y0, x1, y1) of what is to be blurred in an RGB image."""

_CASCADES = ("haarcascade_frontalface_default.xml", "haarcascade_russian_plate_number.xml")
_STRENGTH = 0.15
"""Standard deviation of the blur, as a share of the box's longer side."""


def blurrer(name: str) -> tuple[FindPrivate | None, str]:
    """Return a detector by name, and what a data set's card says of it.

    "none" blurs nothing; "auto" takes the cascades that OpenCV ships, where this build of it has any; a path of .onnx
    is a face detector of OpenCV's YuNet kind. Raises InputError for anything else.
    """
    if name == "none":
        return None, "Nothing was blurred."
    if name in ("auto", "opencv"):
        shipped = _shipped()
        if shipped:
            return _cascades(shipped), "Faces and plates that OpenCV's cascades find are blurred."
        if name == "opencv":
            raise InputError("this build of OpenCV ships no cascades; give a face detector's .onnx, or none")
        return None, "Nothing was blurred: this build of OpenCV ships no detector of faces or plates."
    if Path(name).suffix.lower() == ".onnx" and Path(name).is_file():
        return _yunet(Path(name)), f"Faces that {Path(name).name} finds are blurred."
    raise InputError(f"--blur {name}: is neither auto, opencv, none nor a detector's .onnx")


def blur(image: UInt8[np.ndarray, "h w 3"], boxes: Float[np.ndarray, "n 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return the image with the insides of boxes blurred beyond recognition."""
    blurred = image.copy()
    height, width = image.shape[:2]
    for x0, y0, x1, y1 in np.asarray(boxes).round().astype(int).tolist():
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x1 > x0 and y1 > y0:
            inside = blurred[y0:y1, x0:x1]
            inside[:] = cv2.GaussianBlur(inside, (0, 0), max(1.0, _STRENGTH * max(x1 - x0, y1 - y0)))
    return blurred


def _shipped() -> list[str]:
    folder = Path(str(getattr(getattr(cv2, "data", None), "haarcascades", "") or "nowhere"))
    if not hasattr(cv2, "CascadeClassifier"):
        return []
    return [str(folder / name) for name in _CASCADES if (folder / name).is_file()]


def _cascades(paths: list[str]) -> FindPrivate:
    kind: Any = getattr(cv2, "CascadeClassifier")  # noqa: B009  # not every build of OpenCV has it
    loaded = [kind(path) for path in paths]

    def find(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 4"]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found = [np.asarray(each.detectMultiScale(grey, 1.1, 5), np.float64).reshape(-1, 4) for each in loaded]
        boxes = np.concatenate(found)
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    return find


def _yunet(path: Path) -> FindPrivate:
    detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320))

    def find(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 4"]:
        detector.setInputSize((image.shape[1], image.shape[0]))
        _, faces = detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        boxes = np.zeros((0, 4)) if faces is None else np.asarray(faces, np.float64)[:, :4]
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    return find
