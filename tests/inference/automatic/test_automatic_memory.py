"""How much automatic masks hold, measured in processes of their own: torch's memory is no one else's to count."""

from __future__ import annotations

import subprocess
import sys

_MIB = 1 << 20

_SELECTION = """
import resource, sys
import numpy as np, torch
from anymask.geometry.frames import Frame
from anymask.inference import AutomaticOptions
from anymask.inference.automatic.candidates import Candidate
from anymask.inference.automatic.selection import CropSelection
from anymask.inference.automatic.upsampling import LogitWindow

torch.set_num_threads(1)
height, width, memory_limit = map(int, sys.argv[1:])

def select(height, width):
    frame = Frame((height, width), 1024)
    # A mask of the whole image but for holes, so that it has many runs as well.
    logits = torch.full((256, 256), 6.0)
    logits[::16, ::16] = -6.0
    box = (0, 0, width, height)
    options = AutomaticOptions(
        memory_limit=memory_limit, pred_iou_thresh=0, stability_score_thresh=0, min_mask_region_area=100
    )
    selection = CropSelection(frame, 256, box, (height, width), options)
    for score in (0.9, 0.8):
        window = LogitWindow(logits=logits.clone(), origin=(0, 0), box=box)
        empty = (0, 0, 0, 0)
        selection.add([Candidate(window=window, inner=empty, outer=box, predicted_iou=score, point=(0.0, 0.0))])
    return selection.select()

select(500, 500)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(mask,) = select(height, width)
assert 0.9 < mask.area / (height * width) < 1
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def grown(program: str, *arguments: int) -> int:
    """The bytes that a program says its peak grew by."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_the_images_area_costs_no_memory() -> None:
    """A whole-image mask of 100 megapixels is 400 MB as logits and 100 MB as a mask."""
    limit = 32 * _MIB
    small, large = grown(_SELECTION, 2_000, 2_000, limit), grown(_SELECTION, 10_000, 10_000, limit)
    assert small < limit and large < limit


_GENERATION = """
import resource, sys
import numpy as np
import anymask
from anymask.inference import answers

def quickly(image, size):
    # Pillow's own copies of the image, of four bytes per pixel, are no part of what is measured.
    rows, columns = (np.linspace(0, side - 1, new).astype(int) for side, new in zip(image.shape, size))
    return image[rows[:, None], columns]

answers.resize_image = quickly
height, width, memory_limit = map(int, sys.argv[1:])
generator = anymask.AutomaticMasks(
    anymask.load("anymask-s"), points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, memory_limit=memory_limit
)
def image(height, width):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = 200
    return pixels

generator.generate(image(300, 400))
pixels = image(height, width)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert generator.generate(pixels)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_100_megapixels_are_segmented_in_little_more_than_the_image() -> None:
    assert grown(_GENERATION, 8_000, 12_500, 64 * _MIB) < 64 * _MIB
