"""Fine-tune the mask decoder on a COCO file: `python examples/finetune_coco.py IMAGES ANNOTATIONS.json [STEPS]`.

`anymask finetune` does more: it replays data from before, chooses how much of the new weights to take, and reports
what was gained and lost.
"""

import sys
from dataclasses import replace
from pathlib import Path

import anymask
from anymask.checkpoints import save_model
from anymask.data.open import open_data
from anymask.data.sample import split
from anymask.evaluation.single_point import quick_validation
from anymask.training.finetuning.finetune import FinetuneConfig, finetune

images, annotations = sys.argv[1:3]
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 300
output = Path("out/finetune_coco")
output.mkdir(parents=True, exist_ok=True)

model = anymask.load("anymask-s")
training, held_out = split(open_data(images, annotations), (0.2,))
print(f"{len(training)} images to learn from, {len(held_out)} held out")

# The encoder is frozen: each image is encoded once in `views` variations, and a step costs what clicks cost.
config = FinetuneConfig(views=4)
config = replace(config, run=replace(config.run, steps=steps), optim=replace(config.optim, warmup=steps // 10))
tuned = finetune(model, training, [], config, output / "run")

for name, each in (("before", model), ("after", tuned)):
    found = quick_validation(each, {"held out": held_out})
    print(f"{name}: mean IoU {found['miou_1']:.3f} at 1 click, {found['miou_3']:.3f} at 3, {found['box']:.3f} by boxes")
save_model(tuned, output / "model.safetensors")
