"""Run in an environment with supervision: our records and answers are its detections, and its boxes our prompts.

Arguments: folders to import anymask and what it needs from, apart by colons; the image. Its own packages go first.
"""

import sys

folders, image = sys.argv[1:]
sys.path += folders.split(":")

import numpy as np  # noqa: E402
import supervision as sv  # noqa: E402
from PIL import Image  # noqa: E402

import anymask  # noqa: E402
from anymask.geometry import rle  # noqa: E402
from anymask.integrations.detections import boxes_of, to_supervision  # noqa: E402

model = anymask.load("anymask-s")
records = anymask.AutomaticMasks(model).generate(image)
everything = to_supervision(records)
assert isinstance(everything, sv.Detections) and len(everything) == len(records)
assert (everything.mask == np.stack([rle.decode(record.rle) for record in records])).all()
assert (everything.area == [record.area for record in records]).all()
sure = everything[everything.confidence > 0.8]
assert len(sure) == sum(np.float32(record.predicted_iou) > np.float32(0.8) for record in records)
assert len(sure.data["stability_score"]) == len(sure)
predictor = anymask.Predictor(model)
predictor.set_image(image)
detected = sv.Detections(xyxy=np.array([[150.0, 50, 450, 250], [10, 10, 200, 200]]), class_id=np.array([3, 5]))
answers = predictor.predict_boxes(boxes_of(detected))
found = to_supervision(answers, class_id=detected.class_id)
assert found.class_id.tolist() == [3, 5] and (found.mask[0] == answers[0].best).all()
drawn = sv.MaskAnnotator().annotate(np.array(Image.open(image).convert("RGB")), found)
assert drawn.shape == (400, 600, 3)
assert len(to_supervision([])) == 0
print(len(everything))
