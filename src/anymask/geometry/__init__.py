"""Arrays in, arrays out: frames, boxes, run lengths, masks, suppression, regions, points, crops, polygons.

Points are (x, y) in pixels, boxes (x0, y0, x1, y1) with exclusive right and bottom edges, sizes (height,
width). Import the modules, not their names: ``from anymask.geometry import boxes, rle``.
"""

from anymask.geometry import boxes, crops, frames, masks, nms, points, polygons, regions, rle, run_regions

__all__ = ["boxes", "crops", "frames", "masks", "nms", "points", "polygons", "regions", "rle", "run_regions"]
