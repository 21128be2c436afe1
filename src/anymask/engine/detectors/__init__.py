"""Class-agnostic detectors of boxes behind one interface: our own small one, and those of transformers."""

from anymask.engine.detectors.boxes import (
    BoxDetector,
    Detections,
    SmallDetector,
    SmallDetectorConfig,
    load_detector,
    train_detector,
)

__all__ = [
    "BoxDetector",
    "Detections",
    "SmallDetector",
    "SmallDetectorConfig",
    "load_detector",
    "train_detector",
]
