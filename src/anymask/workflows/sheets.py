"""Contact sheets of training: what the model sees, and what it answers.

Frame: the padded model frame. Legend: B images, P masks per image, G grid of the masks.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8

from anymask.data.loader import Batch
from anymask.geometry import points as point_geometry
from anymask.geometry.masks import pair_iou
from anymask.model import MASK_THRESHOLD, PointLabel, Prompts, Sam
from anymask.model.mae import MaskedAutoencoder, patch_statistics, patchify, unpatchify
from anymask.plots import contact_sheet, draw_answer
from anymask.task import PromptConfig, initial_prompts
from anymask.training.objectives.mae import normalise
from anymask.training.objectives.sam import preprocess

_COLUMNS = 4
_CELL = 320
"""Pictures are drawn at this side at least: prompts on smaller ones would hide them."""


def batch_sheet(batch: Batch, prompts: PromptConfig, *, seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """Draw each image with its masks and the prompts that a first round would begin with."""
    generator = torch.Generator().manual_seed(seed)
    size = batch.images.shape[-1]
    asked = initial_prompts(batch.masks, prompts, image_size=size, valid=batch.valid, generator=generator)
    scale = max(_CELL, size) / size
    cells, captions = [], []
    for index, key in enumerate(batch.keys):
        masks = np.unique(batch.masks[index].numpy(), axis=0)  # images with few masks repeat them
        points, labels, boxes = [], [], []
        for xy, kinds in zip((asked.points[index] * scale).tolist(), asked.labels[index].tolist(), strict=True):
            points += [p for p, kind in zip(xy, kinds, strict=True) if kind in (0, 1)]
            labels += [kind for kind in kinds if kind in (0, 1)]
            if kinds[0] == PointLabel.TOP_LEFT:
                boxes.append([*xy[0], *xy[1]])
        cells.append(draw_answer(*_enlarged(batch, index, masks), points=points, labels=labels, boxes=boxes))
        captions.append(f"{key} · {len(masks)} mask{'s' * (len(masks) > 1)}")
    return contact_sheet(cells, _COLUMNS, captions)


@torch.no_grad()
def prediction_sheet(model: Sam, batch: Batch) -> UInt8[np.ndarray, "h w 3"]:
    """Draw, for the largest mask of each image, the truth beside the best answer to a click at its centre."""
    size, grid = batch.images.shape[-1], batch.masks.shape[-1]
    largest = batch.masks.sum((2, 3)).argmax(1)
    truths = batch.masks[torch.arange(len(largest)), largest].numpy()
    clicks = torch.tensor([point_geometry.centre(truth) or (0, 0) for truth in truths])
    points = ((clicks + 0.5) * (size / grid) - 0.5)[:, None, None]
    prompts = Prompts.build(
        points=points.to(model.device), labels=torch.ones(points.shape[:3], dtype=torch.long, device=model.device)
    )
    logits, iou = model(preprocess(model, batch.to(model.device)), prompts, multimask=True)
    best = iou[:, 0].argmax(1).cpu()
    scale = max(_CELL, size) / size
    cells, captions = [], []
    for index, truth in enumerate(truths):
        predicted = (logits[index, 0, best[index]] > MASK_THRESHOLD).cpu().numpy() & batch.valid[index].numpy()
        score = float(iou[index, 0, best[index]])
        for mask in (truth, predicted):
            shown = _enlarged(batch, index, mask[None])
            cells.append(draw_answer(*shown, points=(points[index, 0] * scale).tolist(), labels=[1]))
        captions += ["truth", f"IoU {float(pair_iou(predicted, truth)):.2f}, predicted {score:.2f}"]
    return contact_sheet(cells, _COLUMNS, captions)


@torch.no_grad()
def reconstruction_sheet(model: MaskedAutoencoder, batch: Batch, *, seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """Draw each image as it is, with its hidden patches grey, and with them as the model fills them in.

    Where the model predicts patches relative to their own mean and deviation, these are taken from the truth.
    """
    images = normalise(model, batch.to(model.device))
    visible = model.draw_visible(len(images), torch.Generator().manual_seed(seed))
    hidden = model.hidden(visible)[..., None]
    patches = patchify(images, model.patch_size)
    filled = model(images, visible).float()
    if model.mae.normalise:
        mean, deviation = patch_statistics(patches)
        filled = filled * deviation + mean
    stages = [patches, patches.masked_fill(hidden, 0.0), torch.where(hidden, filled, patches)]
    pixels = [unpatchify(stage, model.patch_size) * model.pixel_std + model.pixel_mean for stage in stages]
    drawn = [stage.clamp(0, 255).round().byte().permute(0, 2, 3, 1).cpu().numpy() for stage in pixels]
    cells = [stage[index] for index in range(len(images)) for stage in drawn]
    cells = [np.asarray(cv2.resize(cell, (_CELL, _CELL), interpolation=cv2.INTER_NEAREST), np.uint8) for cell in cells]
    return contact_sheet(cells, 3, ["image", "seen", "reconstructed"] * len(images))


def _enlarged(
    batch: Batch, index: int, masks: Bool[np.ndarray, "m g g"]
) -> tuple[UInt8[np.ndarray, "s s 3"], Bool[np.ndarray, "m s s"]]:
    """Return an image and masks of it, both at the side that they are drawn at."""
    image = np.ascontiguousarray(batch.images[index].permute(1, 2, 0).numpy())
    side = (max(_CELL, image.shape[0]),) * 2
    full = [cv2.resize(mask.view(np.uint8) * 255, side, interpolation=cv2.INTER_LINEAR) > 127 for mask in masks]
    return np.asarray(cv2.resize(image, side, interpolation=cv2.INTER_LINEAR), np.uint8), np.stack(full)
