"""Graphs for annotation tools that hand over a canvas of fixed size, as X-AnyLabeling's segment-anything class does.

Such a tool draws each image, scaled, into the upper left of a black canvas of 684 × 1024 pixels (height, width), gives
the encoder that canvas as it is, keeps the encoder's one output, and gives the decoder points in the canvas's pixels.
So the graphs find out where on the canvas the image ends, and do the rest inside: they resize it to whatever the model
wants, and masks back to the canvas.

| graph   | inputs → outputs                                                                                     |
|---------|------------------------------------------------------------------------------------------------------|
| encoder | image (684, 1024, 3) float32 RGB → image_embeddings (1, n): all that prompts need, in one row         |
| decoder | as Meta's exported decoder → masks (1, 1, 684, 1024), iou_predictions (1, 1), low_res_masks (1, 1, …) |

Resizing is a product with a matrix of filter weights on either side: how much of the canvas is image is known only when
the graph runs, and the shapes of these matrices do not depend on it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.export.parts import Inputs, Part
from anymask.model import Embedding, PointLabel, Prompts, Sam

CANVAS = (684, 1024)
"""(height, width) of the canvas."""
MASK_INPUT = 256
"""Side of the mask input."""

_SIZE = 2
"""Numbers at the head of the row: height and width of the image on the canvas."""


class CanvasEncoder(nn.Module):
    """A canvas to a row of numbers."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> Float[Tensor, "1 n"]:
        """Encode `image`, RGB of values 0…255."""
        model, side = self.model, self.model.image_size
        canvas = inputs["image"].permute(2, 0, 1)
        size = _extent(canvas)
        resized = _resized(model, size)
        rows, columns = (
            _filter(length, side, size[axis], resized[axis], antialias=True) for axis, length in enumerate(CANVAS)
        )
        pixels = (rows @ (canvas @ columns.T).add(0.5).floor()).add(0.5).floor()  # as Pillow rounds, after either pass
        normalised = (pixels - model.pixel_mean) / model.pixel_std
        padded = normalised * _covered(side, resized[0])[:, None] * _covered(side, resized[1])
        embedding = model.encode(padded[None])
        return torch.cat([size, *(tensor.flatten() for tensor in embedding.tensors().values())])[None]


class CanvasDecoder(nn.Module):
    """One prompt on an encoded canvas, answered as `Predictor` does by default, but for what it tidies.

    The clear answer is taken for several points or a box, the best of three for one point; a lone point or box is asked
    about again with the logits of the first answer.
    """

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits on the canvas, the predicted IoU, and logits in the padded frame, each of one mask."""
        model = self.model
        row = inputs["image_embeddings"][0]
        size, embedding = row[:_SIZE], _unpacked(model, row[_SIZE:])
        resized = _resized(model, size)
        points = inputs["point_coords"] * (resized / size).flip(0)
        labels = _labels(inputs["point_labels"], pads_boxes=model.config.pads_boxes)
        clicks = ((labels == PointLabel.FOREGROUND) | (labels == PointLabel.BACKGROUND)).sum()
        has_box, has_mask = (labels == PointLabel.TOP_LEFT).any(), inputs["has_mask_input"] > 0
        lone_point = (clicks == 1) & ~has_box & ~has_mask[0]
        lone_box = (clicks == 0) & has_box & ~has_mask[0]

        mask_side = (model.mask_size, model.mask_size)
        mask = F.interpolate(inputs["mask_input"], mask_side, mode="bilinear", align_corners=False)
        logits, iou = model.decode(embedding, _prompts(points, labels, mask, has_mask))
        clear = F.one_hot(torch.zeros(1, dtype=torch.long), iou.shape[2]).bool()[None]
        best = torch.where(clear == lone_point, -torch.inf, iou).argmax(2).flatten()
        first, score = logits.index_select(2, best), iou.index_select(2, best)

        again, _ = model.decode(embedding, _prompts(points, labels, first[:, :, 0], torch.ones_like(has_mask)))
        found = torch.where(lone_point | lone_box, again[:, :, :1], first)[0]
        return self._on_canvas(found[0], size, resized)[None], score[0], found

    def _on_canvas(
        self, logits: Float[Tensor, "1 hm wm"], size: Float[Tensor, " 2"], resized: Float[Tensor, " 2"]
    ) -> Float[Tensor, "1 h w"]:
        side = self.model.image_size
        square = F.interpolate(logits[None], (side, side), mode="bilinear", align_corners=False)[0]
        rows, columns = (
            _filter(side, length, resized[axis], size[axis], antialias=False) for axis, length in enumerate(CANVAS)
        )
        return rows @ square @ columns.T


def _extent(canvas: Float[Tensor, "3 h w"]) -> Float[Tensor, " 2"]:
    """Return (height, width) of the upper left part outside of which all is black; the whole canvas if all is."""
    lengths = []
    for axis, length in ((2, CANVAS[0]), (1, CANVAS[1])):
        lit = canvas.amax((0, axis)) > 0
        end = (lit * torch.arange(1, length + 1)).amax(0)
        lengths.append(torch.where(end > 0, end, length))
    return torch.stack(lengths).float()


def _resized(model: Sam, size: Float[Tensor, " 2"]) -> Float[Tensor, " 2"]:
    """Do as `geometry.frames.resized_size` does, for a size that is known only when the graph runs."""
    if model.config.fit == "stretch":
        return torch.ones(2) * model.image_size
    return (model.image_size / size.amax(0) * size + 0.5).floor().clamp(min=1)


def _filter(
    given: int, wanted: int, given_used: Float[Tensor, ""], wanted_used: Float[Tensor, ""], *, antialias: bool
) -> Float[Tensor, "wanted given"]:
    """Return the weights that resize the first `given_used` of `given` pixels to `wanted_used` of `wanted` ones.

    The filter is a triangle, as Pillow's bilinear one (antialias) or torch's; pixels beyond those used repeat the last.
    """
    scale = given_used / wanted_used
    reach = scale.clamp(min=1) if antialias else torch.ones(())
    centres = (torch.arange(wanted) + 0.5) * scale
    centres = torch.minimum(centres.clamp(min=0.5), given_used - 0.5)
    places = torch.arange(given) + 0.5
    weights = (1 - (places - centres[:, None]).abs() / reach).clamp(min=0) * (places < given_used)
    return weights / weights.sum(1, keepdim=True)


def _covered(side: int, resized: Float[Tensor, ""]) -> Float[Tensor, " s"]:
    """Mark the pixels that are image and no padding."""
    return (torch.arange(side) < resized).float()


def _unpacked(model: Sam, row: Float[Tensor, " n"]) -> Embedding:
    tensors, start = {}, 0
    for name, shape in model.embedding_shapes().items():
        length = torch.Size(shape).numel()
        tensors[name] = row[start : start + length].reshape(1, *shape)
        start += length
    return Embedding.from_tensors(tensors)


def _labels(labels: Float[Tensor, "1 n"], *, pads_boxes: bool) -> Float[Tensor, "1 n"]:
    """Take away the padding point that the tools add to boxes too, unless the model wants it."""
    if pads_boxes:
        return labels
    has_box = (labels == PointLabel.TOP_LEFT).any()
    return torch.where((labels == PointLabel.NOT_A_POINT) & has_box, float(PointLabel.ABSENT), labels)


def _prompts(points: Tensor, labels: Tensor, mask: Tensor, has_mask: Tensor) -> Prompts:
    return Prompts(
        points=points[None],
        labels=labels[None].long(),
        masks=mask,
        has_mask=has_mask[None],
        padded=True,
        has_padding=True,
    )


def canvas_encoder(model: Sam) -> Part:
    """Return the encoder's graph; the model is as `build_part` wants it."""
    image = torch.arange(CANVAS[0] * CANVAS[1] * 3).remainder(251).float().reshape(*CANVAS, 3)
    return Part(module=CanvasEncoder(model), example={"image": image}, outputs=("image_embeddings",), axes={})


def canvas_decoder(model: Sam) -> Part:
    """Return the decoder's graph; the model is as `build_part` wants it."""
    length = _SIZE + sum(torch.Size(shape).numel() for shape in model.embedding_shapes().values())
    row = torch.arange(length).mul(0.7).sin()
    row[:_SIZE] = torch.tensor(CANVAS) / 2
    axes = {"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}}
    return Part(
        module=CanvasDecoder(model),
        example={
            "image_embeddings": row[None],
            "point_coords": torch.arange(8).reshape(1, 4, 2) * 50.0,
            "point_labels": torch.ones(1, 4),
            "mask_input": torch.zeros(1, 1, MASK_INPUT, MASK_INPUT),
            "has_mask_input": torch.zeros(1),
            "orig_im_size": torch.tensor(CANVAS).float(),
        },
        outputs=("masks", "iou_predictions", "low_res_masks"),
        axes=axes,
    )
