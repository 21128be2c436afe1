"""One click on a photograph, then a second one that corrects the answer: `python examples/one_click.py`."""

from pathlib import Path

import numpy as np
from PIL import Image

import anymask
from anymask.plots import draw_answer
from anymask.samples import sample_path

output = Path("out/one_click")
output.mkdir(parents=True, exist_ok=True)
photograph = np.array(Image.open(sample_path("coffee")))

predictor = anymask.Predictor(anymask.load("anymask-s"))
predictor.set_image(photograph)

# A lone click is ambiguous: it gives three masks, best first, each with the IoU that the model predicts for it.
first = predictor.predict(points=[(290, 130)])
print("one click:", [f"{score:.2f}" for score in first.scores])

# A second click, off the object (label 0), goes on from the best mask's logits. The prompt is clear now: one mask.
points, labels = [(290, 130), (20, 20)], [1, 0]
second = predictor.predict(points=points, labels=labels, mask=first.logits[0])
print(f"two clicks: {second.best.sum()} pixels, predicted IoU {second.scores[0]:.2f}")

Image.fromarray(second.best).save(output / "mask.png")
Image.fromarray(draw_answer(photograph, second.masks, points=points, labels=labels)).save(output / "overlay.png")
