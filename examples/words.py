"""Objects by words: `python examples/words.py IMAGE "a cup" "a spoon"`.

The detector's weights must be on the machine: `hf download google/owlv2-base-patch16-ensemble`. DETECTOR in the
environment names another one, by its folder or its name in transformers' cache. Needs `pip install 'anymask[text]'`.
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import anymask
from anymask.inference.words.detector import DETECTOR
from anymask.plots import draw_everything

image, *phrases = sys.argv[1:]
predictor = anymask.Predictor(anymask.load("anymask-s"), detector=os.environ.get("DETECTOR", DETECTOR))
predictor.set_image(image)

# The detector finds boxes for the phrases, each box the phrase that fits it best; the model makes their masks.
found = predictor.find(phrases, threshold=0.2)
for one in found:
    x0, y0, x1, y1 = one.box
    print(f"{one.phrase}: score {one.score:.2f}, box {x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}")
print(f"{len(found)} objects")

output = Path("out/words.jpg")
output.parent.mkdir(parents=True, exist_ok=True)
pixels = np.array(Image.open(image).convert("RGB"))
Image.fromarray(draw_everything(pixels, [one.rle for one in found])).save(output)
