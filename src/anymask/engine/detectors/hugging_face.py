"""Detectors of transformers (RT-DETR, DETR, YOLOS, …) as detectors of anything: what a box shows is not asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from anymask.engine.detectors.interface import Detections
from anymask.errors import CheckpointError, MissingPackageError
from anymask.geometry import nms


class HuggingFaceDetector:
    """A detector in a folder as transformers saves it; nothing is downloaded, and no code of the folder's is run.

    Raises CheckpointError for a folder that holds none, MissingPackageError without transformers.
    """

    def __init__(self, folder: str | Path, *, device: str = "cpu") -> None:
        try:
            from transformers import AutoImageProcessor, AutoModelForObjectDetection
        except ImportError as error:
            raise MissingPackageError("detectors of transformers need it: pip install 'anymask[text]'") from error
        try:
            processors: Any = AutoImageProcessor
            detectors: Any = AutoModelForObjectDetection
            self._processor: Any = processors.from_pretrained(folder, local_files_only=True)
            self._model: Any = detectors.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder}: holds no detector of transformers ({error})") from error
        self._model.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def detect(self, image: UInt8[np.ndarray, "h w 3"]) -> Detections:
        """Return boxes by falling score, whatever their class, duplicates suppressed."""
        inputs = self._processor(images=image, return_tensors="pt").to(self._device)
        answered = self._processor.post_process_object_detection(
            self._model(**inputs), threshold=0.0, target_sizes=[image.shape[:2]]
        )[0]
        boxes = answered["boxes"].float().cpu().numpy()
        scores = answered["scores"].float().cpu().numpy()
        kept = nms.box_nms(boxes, scores, 0.6)
        return Detections(boxes=boxes[kept], scores=scores[kept])
