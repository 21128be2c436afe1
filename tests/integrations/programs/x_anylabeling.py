"""Run in an environment with X-AnyLabeling or AnyLabeling: its own class loads an export and answers marks.

Arguments: the YAML file, an image, a JSON file with a list of lists of marks, and the .npz file to write.
"""

import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import anylabeling.config
import numpy as np
import yaml
from anylabeling.services.auto_labeling.segment_anything import SegmentAnything
from PIL import Image
from PyQt6.QtGui import QImage
from PyQt6.QtWidgets import QApplication

config, image, marks, output = sys.argv[1:]
if hasattr(anylabeling.config, "get_work_directory"):  # X-AnyLabeling's application says where its settings are
    anylabeling.config.current_config_file = os.path.expanduser("~/.xanylabelingrc")
application = QApplication([])
with open(config) as file:
    values = yaml.safe_load(file) | {"config_file": config}
model = SegmentAnything(values, print)
pixels = np.array(Image.open(image).convert("RGB"))
encoded = model.model.encode(pixels)
found = {}
with open(marks) as file:
    for number, prompt in enumerate(json.load(file)):
        logits = model.model.predict_masks(encoded, prompt)
        found[f"mask{number}"] = (logits[0][0] if logits.ndim == 4 else logits[0]) > 0
        model.set_auto_labeling_marks(prompt)
        shapes = model.predict_shapes(QImage(image), image).shapes
        found[f"polygons{number}"] = np.array([len(shape.points) for shape in shapes])
np.savez(output, **found)
