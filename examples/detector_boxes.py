"""Masks for the boxes of any detector: `python examples/detector_boxes.py`.

For whole data sets: `anymask instances IMAGES DETECTIONS.json -o MASKS.json` reads and writes COCO's results.
"""

import json
from pathlib import Path

import anymask
from anymask.inference.instances import Detection, Instances
from anymask.samples import sample_path

# What a detector found: boxes (x0, y0, x1, y1) in pixels of the image, with its category and score.
detections = [
    Detection(category_id=47, score=0.94, box=(170, 16, 416, 290)),  # a cup
    Detection(category_id=50, score=0.71, box=(325, 200, 425, 328)),  # a spoon
]

# Each box is answered, then once more together with the mask that it gave, as in the paper (sec. 7.4).
segmenter = Instances(anymask.load("anymask-s"), refinements=1)
instances = segmenter.segment(sample_path("coffee"), detections)
for instance in instances:
    print(f"category {instance.detection.category_id}: predicted IoU {instance.predicted_iou:.2f}")

output = Path("out/detector_boxes.json")
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text(json.dumps([instance.to_coco("coffee.jpg") for instance in instances]))
