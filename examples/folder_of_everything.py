"""Masks of everything in a folder of images, as one COCO file: `python examples/folder_of_everything.py FOLDER`.

`anymask everything FOLDER -o OUT --format coco` does the same, and goes on where it was stopped.
"""

import json
import sys
from pathlib import Path

from PIL import Image

import anymask
from anymask.inference.automatic.masks import sa1b_annotation

folder = Path(sys.argv[1])
output = Path("out/everything.json")
output.parent.mkdir(parents=True, exist_ok=True)
paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))

# points_per_side is the trade of time for small objects: Meta's grid is 32. `adaptive` leaves out settled points.
generator = anymask.AutomaticMasks(anymask.load("anymask-s"), points_per_side=16, adaptive=True)

images, annotations = [], []
for image_id, (path, records) in enumerate(zip(paths, generator.generate_many(paths), strict=True), start=1):
    print(f"{path.name}: {len(records)} masks")
    for record in records:
        numbered = sa1b_annotation(len(annotations) + 1, record)
        annotations.append(numbered | {"image_id": image_id, "category_id": 1, "iscrowd": 0})
    with Image.open(path) as image:
        width, height = image.size
    images.append({"id": image_id, "file_name": path.name, "height": height, "width": width})

categories = [{"id": 1, "name": "object"}]
output.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
