"""Meta's module of what resizes images and prompts."""

from __future__ import annotations

from anymask.compat.segment_anything import ResizeLongestSide

__all__ = ["ResizeLongestSide"]
