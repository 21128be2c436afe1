"""A click answered by exported graphs, with onnxruntime and neither torch nor anymask.

anymask export onnx anymask-s -o exported && python examples/onnx_without_torch.py exported IMAGE X Y
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

folder, path, x, y = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
about = json.loads((folder / "model.json").read_text())  # describes every input and output, and how to prepare them
encoder, decoder = (onnxruntime.InferenceSession(folder / f"{part}.onnx") for part in ("encoder", "decoder"))

# Resized frame: the long side has image_size pixels. The encoder normalises and pads.
image = Image.open(path).convert("RGB")
scale = about["image_size"] / max(image.size)
width, height = (max(1, round(side * scale)) for side in image.size)
pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
embedding = encoder.run(None, {"image": pixels})

# One prompt of one click; a prompt without a box ends with a point that is none (label -1).
inputs = {
    "points": np.array([[[x * scale, y * scale], [0, 0]]], np.float32),
    "labels": np.array([[1, -1]], np.float32),
    "mask_input": np.zeros((1, about["mask_size"], about["mask_size"]), np.float32),
    "has_mask_input": np.zeros(1, np.float32),
}
named = dict(zip((output.name for output in encoder.get_outputs()), embedding, strict=True))
logits, iou = decoder.run(None, named | inputs)
best = 1 + int(iou[0, 1:].argmax())  # index 0 answers a clear prompt, 1 to 3 an ambiguous one, as a lone click is

square = Image.fromarray(logits[0, best]).resize((about["image_size"],) * 2, Image.Resampling.BILINEAR)
mask = np.asarray(square.crop((0, 0, width, height)).resize(image.size, Image.Resampling.BILINEAR)) > 0
Image.fromarray(mask).save("mask.png")
print(f"mask.png: {mask.sum()} pixels, predicted IoU {iou[0, best]:.2f}")
