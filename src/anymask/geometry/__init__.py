"""Arrays in, arrays out: frames, boxes, run lengths, masks and points."""

from anymask.geometry import boxes, frames, masks, points, rle

__all__ = ["boxes", "frames", "masks", "points", "rle"]
