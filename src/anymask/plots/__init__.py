"""Pictures of masks: overlays on photographs, and contact sheets of many."""

from anymask.plots.colors import oklch_to_rgb, palette
from anymask.plots.overlays import draw_answer, draw_boxes, draw_everything, draw_masks, draw_points
from anymask.plots.sheets import contact_sheet

__all__ = [
    "contact_sheet",
    "draw_answer",
    "draw_boxes",
    "draw_everything",
    "draw_masks",
    "draw_points",
    "oklch_to_rgb",
    "palette",
]
