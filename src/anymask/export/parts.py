"""The graphs that a model is exported as: what each computes, its inputs by name, and which of their sizes vary.

| part    | run                | inputs → outputs                                                             |
|---------|--------------------|------------------------------------------------------------------------------|
| encoder | once per image      | image → features (and SAM-HQ's hq, or skip2 and skip4)                       |
| decoder | for any prompts    | features, points, labels, mask_input, has_mask_input → the answer            |
| image   | once per image      | the encoder's outputs → what all prompts share of the image                  |
| prompt  | once per click       | that, and any prompts → the answer; decoder split in two for speed           |
| meta    | once per click       | as Meta's exported decoder → masks, iou_predictions, low_res_masks           |

Frames: `image` is RGB, resized to the long side; points are pixels (x, y) of the padded square. `labels` are
`PointLabel`s, float32 as in Meta's decoder; a prompt without a box ends with the point (0, 0) of label −1. An answer is
logits and iou, all four candidates: the first answers a clear prompt, the others an ambiguous one (SAM, app. A); and,
where the model says whether there is an object at all, object_score (SAM 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar, cast, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.geometry.frames import Fit
from anymask.model import Answer, Embedding, Prompts, Sam
from anymask.model.embedding import flatten, replace

PartName: TypeAlias = Literal["encoder", "decoder", "image", "prompt", "meta"]
PARTS: tuple[PartName, ...] = get_args(PartName)

T = TypeVar("T")

Inputs: TypeAlias = dict[str, Tensor]
Axes: TypeAlias = dict[str, dict[int, str]]

_PROMPT_AXES: Axes = {
    **{key: {0: "num_prompts", 1: "num_points"} for key in ("points", "labels")},
    **{key: {0: "num_prompts"} for key in ("mask_input", "has_mask_input", "logits", "iou", "object_score")},
}

_META_NAMES = {"features": "image_embeddings", "skip4": "high_res_feats_0", "skip2": "high_res_feats_1"}
"""Inputs of Meta's decoder; the latter two as exports of SAM 2 name them."""

_MANY = 1000.0
"""What Meta's selection adds for the mask of a clear prompt: more than any predicted IoU."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A graph to trace: its module takes a dict of inputs; `axes` name the sizes that vary, of inputs and outputs."""

    module: nn.Module
    without_mask: nn.Module | None = None
    """What runs in the module's place where no `has_mask_input` is 1: hovering pays for no mask. None: the same
    module.
    """
    example: Inputs
    outputs: tuple[str, ...]
    axes: Axes


class Encoder(nn.Module):
    """Pixels to an embedding, the normalisation and padding included."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Encode `image` (h, w, 3) uint8, no side longer than the model's image size."""
        embedding = self.model.encode(self.model.preprocess(inputs["image"].permute(2, 0, 1)[None]))
        return tuple(embedding.tensors().values())


class Decoder(nn.Module):
    """Any number of prompts on one image, of any number of points; `padded` ones are filled up with label −2."""

    def __init__(self, model: Sam, *, padded: bool) -> None:
        super().__init__()
        self.model, self.padded = model, padded

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return logits (p, 4, hm, wm), predicted IoUs (p, 4) and, where the model has them, object scores (p,)."""
        prompts = _prompts(inputs, padded=self.padded, masked=True)
        return _answered(self.model, Embedding.from_tensors(inputs), prompts)


class SharedImageModule(nn.Module):
    """What all prompts share of an image."""

    def __init__(self, model: Sam, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Project an embedding."""
        tensors = flatten(self.model.prepare(Embedding.from_tensors(inputs)).side)
        return tuple(tensors[name] for name in self.names)


class PromptSide(nn.Module):
    """Prompts without masks on a prepared image."""

    def __init__(self, model: Sam, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return logits (p, 4, hm, wm), predicted IoUs (p, 4) and, where the model has them, object scores (p,).

        Of the preparation, only what no image changes is left in the graph; a runtime computes it when it loads.
        """
        prepared = self.model.prepare(Embedding.from_tensors(inputs))
        embedding = replace(prepared, {f"side_{name}": inputs[name] for name in self.names})
        return _answered(self.model, embedding, _prompts(inputs, padded=False, masked=False))


class MetaDecoder(nn.Module):
    """Meta's exported decoder: its names, its shapes, and its choice of one mask by the number of points.

    Source: the ONNX export of the public SAM code. Points may be padded by label −1, which is a token of its own there
    too; `single` returns the mask of a clear prompt for three points or more, the best of the others for fewer.
    `by_stability` puts the stability of each mask at this offset of its logits in the place of its predicted IoU.
    """

    def __init__(self, model: Sam, *, single: bool, by_stability: float | None = None) -> None:
        super().__init__()
        self.model, self.single, self.by_stability = model, single, by_stability

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks (1, m, h, w) as logits at the original size, predicted IoUs (1, m), logits (1, m, hm, wm)."""
        prompts = Prompts(
            points=inputs["point_coords"][None],
            labels=inputs["point_labels"][None].long(),
            masks=inputs["mask_input"].transpose(0, 1),
            has_mask=inputs["has_mask_input"][None] > 0,
            padded=False,
            has_padding=True,
        )
        embedding = Embedding.from_tensors(
            {ours: inputs[theirs] for ours, theirs in _META_NAMES.items() if theirs in inputs}
        )
        logits, iou = (x[0] for x in self.model.decode(embedding, prompts))
        if self.by_stability is not None:
            inner, outer = ((logits > shift).sum((-1, -2)) for shift in (self.by_stability, -self.by_stability))
            iou = inner / outer.clamp(min=1)
        if self.single:
            logits, iou = _choose(logits, iou, inputs["point_coords"].shape[1])
        return (
            _at_original_size(logits, inputs["orig_im_size"], self.model.image_size, self.model.config.fit),
            iou,
            logits,
        )


def _answered(model: Sam, embedding: Embedding, prompts: Prompts) -> tuple[Tensor, ...]:
    """Return what a model says to prompts about one image, in the order of `_answer_names`."""
    return tuple(part[0] for part in model.answer(embedding, prompts) if part is not None)


def _answer_names(model: Sam) -> tuple[str, ...]:
    return Answer._fields if model.config.decoder.object_score else ("logits", "iou")


def _choose(
    logits: Float[Tensor, "1 m hm wm"], iou: Float[Tensor, "1 m"], num_points: int
) -> tuple[Float[Tensor, "1 1 hm wm"], Float[Tensor, "1 1"]]:
    """Choose as Meta's decoder does: its points always end with a padding point or a box."""
    clear = _MANY * F.one_hot(torch.zeros(1, dtype=torch.long), iou.shape[1])
    best = (iou + (num_points - 2.5) * clear).argmax(1)
    return logits.index_select(1, best), iou.index_select(1, best)


def _at_original_size(
    logits: Float[Tensor, "1 m hm wm"], size: Float[Tensor, " 2"], model_size: int, fit: Fit
) -> Float[Tensor, "1 m h w"]:
    """Do as `inference.resize.upsample_logits` does, for a (height, width) that is known only when the graph runs."""
    square = F.interpolate(logits, (model_size, model_size), mode="bilinear", align_corners=False)
    if (
        torch._C._get_tracing_state() is not None
    ):  # by the older exporter, which follows tensors where a length is asked for
        return _traced_at_original_size(square, size, model_size, fit)
    original = tuple(_length(side) for side in size.unbind())
    if fit == "stretch":
        return F.interpolate(square, original, mode="bilinear", align_corners=False)
    resized = (model_size / size.max() * size + 0.5).floor().clamp(min=1)
    rows, columns = (_length(side, model_size) for side in resized.unbind())
    covered = square.narrow(2, 0, rows).narrow(3, 0, columns)
    return F.interpolate(covered, original, mode="bilinear", align_corners=False)


def _traced_at_original_size(
    square: Float[Tensor, "1 m s s"], size: Float[Tensor, " 2"], model_size: int, fit: Fit
) -> Float[Tensor, "1 m h w"]:
    height, width = size.long().unbind()
    if fit != "stretch":
        rows, columns = (model_size / size.max() * size + 0.5).floor().clamp(min=1).long().unbind()
        square = square[:, :, :rows, :columns]
    return F.interpolate(square, (height, width), mode="bilinear", align_corners=False)  # type: ignore[arg-type]


def _length(value: Float[Tensor, ""], limit: int | None = None) -> int:
    """Read a length out of a tensor, and promise the tracer that it is one."""
    length = cast(int, value.long().item())  # int() would ask the tracer for the number itself
    torch._check(length >= 1)
    if limit is not None:
        torch._check(length <= limit)
    return length


def _prompts(inputs: Inputs, *, padded: bool, masked: bool) -> Prompts:
    return Prompts(
        points=inputs["points"][None],
        labels=inputs["labels"][None].long(),
        masks=inputs["mask_input"][None] if masked else None,
        has_mask=inputs["has_mask_input"][None] > 0 if masked else None,
        padded=padded,
        has_padding=True,  # which is the caller's to see to
    )


@torch.no_grad()
def build_part(model: Sam, name: PartName, *, return_single_mask: bool = False) -> Part:
    """Return the graph of that name; the model is on the CPU, float32 and in evaluation mode.

    Sizes of the examples are such that no two that vary are the same, nor 0 or 1, which a tracer would take for fixed.
    """
    match name:
        case "encoder":
            return _encoder(model)
        case "decoder":
            return _decoder(model)
        case "image":
            return _image(model)
        case "prompt":
            return _prompt(model)
        case "meta":
            return _meta(model, single=return_single_mask)


def _encoder(model: Sam) -> Part:
    pixels: UInt8[Tensor, "h w 3"] = torch.zeros(model.image_size // 2, model.image_size - 8, 3, dtype=torch.uint8)
    return Part(
        module=Encoder(model),
        example={"image": pixels},
        outputs=tuple(_embedded(model)),
        axes={"image": {0: "height", 1: "width"}},
    )


def _decoder(model: Sam) -> Part:
    return Part(
        module=Decoder(model, padded=True),
        example=_embedded(model) | _prompt_example(model, 3, 4),
        outputs=_answer_names(model),
        axes=_PROMPT_AXES,
    )


def _image(model: Sam) -> Part:
    embedded = _embedded(model)
    names = tuple(image_tensors(model, Embedding.from_tensors(embedded)))
    example = {name: tensor for name, tensor in embedded.items() if name != "hq"}  # which is the prompts' affair
    return Part(module=SharedImageModule(model, names), example=example, outputs=names, axes={})


def _prompt(model: Sam) -> Part:
    embedded = _embedded(model)
    tensors = image_tensors(model, Embedding.from_tensors(embedded))
    return Part(
        module=Decoder(model, padded=False),
        without_mask=PromptSide(model, tuple(tensors)),
        example=embedded | tensors | _prompt_example(model, 3, 4),
        outputs=_answer_names(model),
        axes=_PROMPT_AXES,
    )


def _meta(model: Sam, *, single: bool) -> Part:
    prompt = _prompt_example(model, 1, 4)
    example = {
        **meta_names(_embedded(model)),
        "point_coords": prompt["points"],
        "point_labels": prompt["labels"],
        "mask_input": prompt["mask_input"][None],
        "has_mask_input": prompt["has_mask_input"],
        "orig_im_size": torch.tensor([3.0, 2.0]) * model.image_size,
    }
    return Part(
        module=MetaDecoder(model, single=single),
        example=example,
        outputs=("masks", "iou_predictions", "low_res_masks"),
        axes={
            "point_coords": {1: "num_points"},
            "point_labels": {1: "num_points"},
            "masks": {2: "height", 3: "width"},
        },
    )


def meta_names(embedded: Mapping[str, T]) -> dict[str, T]:
    """Give the parts of an embedding the names that Meta's decoder has for them."""
    return {_META_NAMES[name]: value for name, value in embedded.items()}


def _embedded(model: Sam) -> Inputs:
    """Return an embedding to trace with, deterministic and not all alike."""
    return {name: _ramp(1, *shape) for name, shape in model.embedding_shapes().items()}


def _prompt_example(model: Sam, num_prompts: int, num_points: int) -> Inputs:
    return {
        "points": _ramp(num_prompts, num_points, 2).abs() * model.image_size,
        "labels": torch.ones(num_prompts, num_points),
        "mask_input": _ramp(num_prompts, model.mask_size, model.mask_size),
        "has_mask_input": torch.ones(num_prompts),
    }


def _ramp(*shape: int) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.arange(count, dtype=torch.float32).mul(0.7).sin().reshape(shape)


def image_tensors(model: Sam, embedding: Embedding) -> dict[str, Tensor]:
    """Return the tensors of a prepared embedding's side that another image would change.

    `Embedding.side` is a dataclass whose fields are the decoder's own: its tensors get names from their fields, and
    become outputs of one graph and inputs of another. What is the same for every image is the model's, and stays in the
    graph: told by comparing with an image of another embedding, so that no list of names has to be kept.
    """
    other = embedding.map(lambda tensor: tensor.flip(1, 2) + 1.0)
    ours, theirs = flatten(model.prepare(embedding).side), flatten(model.prepare(other).side)
    return {name: tensor for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])}
