"""Meta's module of masks of everything."""

from __future__ import annotations

from anymask.compat.automatic_mask_generator import SamAutomaticMaskGenerator

__all__ = ["SamAutomaticMaskGenerator"]
