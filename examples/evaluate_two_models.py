"""Compare two models by the paper's clicks and boxes: `python examples/evaluate_two_models.py DATA MODEL MODEL`.

DATA is a tar or folder of SA-1B's layout, a COCO or LVIS file, or a folder of images and masks; a MODEL is a name of
`anymask models list` or a path. `anymask evaluate all` makes a page of this, with plots and examples.
"""

import sys

import anymask
from anymask.data.open import open_sets
from anymask.evaluation.single_point import ModelSegmenter, SinglePointConfig, evaluate

data, *names = sys.argv[1:]
sets = open_sets([data])
# The same images and masks for every model: they are drawn by the seed.
config = SinglePointConfig(max_images=20, max_masks=8, seed=0)

print(f"{'model':24} 1 click  3 clicks  5 clicks    box  clicks to 85 %")
for name in names:
    mean = evaluate(ModelSegmenter(anymask.load(name)), sets, config).mean
    clicks = "".join(f"{mean.miou[count]:10.3f}" for count in (1, 3, 5))
    print(f"{name[-24:]:21}{clicks}{mean.box:7.3f}{mean.noc[85]:16.2f}")
