"""Meta's module of the predictor."""

from __future__ import annotations

from anymask.compat.segment_anything import Sam, SamPredictor

__all__ = ["Sam", "SamPredictor"]
