"""What verification asks of an exported file and of the model: the same photographs, and the same random prompts.

A comparison yields mask logits (…, h, w) or object scores (p,), the file's and the model's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from anymask.data.images import read_image
from anymask.export.description import Description
from anymask.export.parts import meta_names
from anymask.inference.resize import resize_image, upsample_logits
from anymask.model import Answer, Embedding, PointLabel, Prompts, Sam
from anymask.model.embedding import flatten, replace
from anymask.samples import SAMPLES, sample_path

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Arrays = dict[str, Shaped[np.ndarray, "..."]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportedFile:
    """A file to verify, and what its metadata say."""

    path: Path
    session: InferenceSession
    part: str
    int8: bool
    description: Description

    def run(self, inputs: Arrays) -> dict[str, Tensor]:
        """Run the file on those of the inputs that it takes."""
        wanted = {value.name for value in self.session.get_inputs()}
        names = [value.name for value in self.session.get_outputs()]
        found = self.session.run(names, {name: value for name, value in inputs.items() if name in wanted})
        return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


Comparison = Callable[
    [Sam, ExportedFile, UInt8[np.ndarray, "h w 3"], Embedding, torch.Generator], Iterator[tuple[Tensor, Tensor]]
]


def _encoder(
    model: Sam, exported: ExportedFile, picture: UInt8[np.ndarray, "h w 3"], ours: Embedding, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    found = exported.run({"image": picture})
    theirs = Embedding.from_tensors(found)
    prompts = random_prompts(model, generator, (2, 1, 3))
    yield model.decode(theirs, prompts)[0][0], model.decode(ours, prompts)[0][0]


def _image(
    model: Sam, exported: ExportedFile, picture: UInt8[np.ndarray, "h w 3"], ours: Embedding, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    prepared = model.prepare(ours)
    found = exported.run(_arrays(ours))
    theirs = dataclasses.replace(ours, side=replace(prepared.side, found))
    prompts = random_prompts(model, generator, (1,))
    yield model.decode(theirs, prompts)[0][0], model.decode(ours, prompts)[0][0]


def _decoder(
    model: Sam, exported: ExportedFile, picture: UInt8[np.ndarray, "h w 3"], ours: Embedding, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    for counts, has_mask in (((1,), False), ((2, 1, 4), True), ((1, 3, 1, 2, 5), False)):
        prompts = random_prompts(model, generator, counts, has_mask=has_mask)
        found = exported.run(_arrays(ours) | _prompt_arrays(model, prompts))
        yield from _compared(found, model.answer(ours, prompts))


def _prompt(
    model: Sam, exported: ExportedFile, picture: UInt8[np.ndarray, "h w 3"], ours: Embedding, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    side = {name: tensor.numpy() for name, tensor in flatten(model.prepare(ours).side).items()}
    # Prompts of one length each: every other has a box, which is one point longer than what ends the rest.
    for counts, has_mask in (((1,), False), ((2,), True), ((12,), False), ((3, 2, 3), False), ((5, 4), True)):
        prompts = random_prompts(model, generator, counts, has_mask=has_mask)
        found = exported.run(_arrays(ours) | side | _prompt_arrays(model, prompts))
        yield from _compared(found, model.answer(ours, prompts))


def _compared(found: dict[str, Tensor], ours: Answer) -> Iterator[tuple[Tensor, Tensor]]:
    yield found["logits"], ours.logits[0]
    if ours.object_score is not None:
        yield found["object_score"], ours.object_score[0]


def _meta(
    model: Sam, exported: ExportedFile, picture: UInt8[np.ndarray, "h w 3"], ours: Embedding, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    original = tuple(int(torch.randint(side, 3 * side, (), generator=generator)) for side in picture.shape[:2])
    for num_points, has_mask in ((1, False), (4, True)):
        prompts = random_prompts(model, generator, (num_points,), has_mask=has_mask)
        ordinary = _prompt_arrays(model, prompts)
        found = exported.run(
            {
                **meta_names(_arrays(ours)),
                "point_coords": ordinary["points"],
                "point_labels": ordinary["labels"],
                "mask_input": ordinary["mask_input"][None],
                "has_mask_input": ordinary["has_mask_input"],
                "orig_im_size": np.array(original, np.float32),
            }
        )
        low = model.decode(ours, prompts)[0][0]
        if found["low_res_masks"].shape[1] == 1:
            low = low[:, _nearest(low[0], found["low_res_masks"][0, 0])][:, None]
        yield found["low_res_masks"], low
        resized = model.frame((original[0], original[1])).resized
        full = upsample_logits(low, model_size=model.image_size, resized=resized, original=(original[0], original[1]))
        yield found["masks"], full


COMPARISONS: dict[str, Comparison] = {
    "encoder": _encoder,
    "decoder": _decoder,
    "image": _image,
    "prompt": _prompt,
    "meta": _meta,
}


def random_prompts(model: Sam, generator: torch.Generator, counts: Sequence[int], *, has_mask: bool = False) -> Prompts:
    """Return a prompt for each number of points, every other with a box, shorter ones filled up with absent points.

    With `has_mask`, every other prompt has a mask, the first one too.
    """
    made = [_random_prompt(model, generator, count, boxed=index % 2 == 1) for index, count in enumerate(counts)]
    points = pad_sequence([points for points, _ in made], batch_first=True)
    labels = pad_sequence([labels for _, labels in made], batch_first=True, padding_value=PointLabel.ABSENT)
    if not has_mask:
        return Prompts(points=points[None], labels=labels[None])
    coarse = 6 * torch.randn(1, len(counts), 8, 8, generator=generator)
    masks = F.interpolate(coarse, (model.mask_size, model.mask_size), mode="bilinear")
    return Prompts(
        points=points[None], labels=labels[None], masks=masks, has_mask=torch.arange(len(counts))[None] % 2 == 0
    )


def _random_prompt(
    model: Sam, generator: torch.Generator, num_points: int, *, boxed: bool
) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]:
    points = model.image_size * torch.rand(num_points, 2, generator=generator)
    labels = torch.randint(0, 2, (num_points,), generator=generator)
    if boxed:
        corners, _ = (model.image_size * torch.rand(2, 2, generator=generator)).sort(0)
        kinds = [PointLabel.TOP_LEFT, PointLabel.BOTTOM_RIGHT]
        if model.config.pads_boxes:
            corners, kinds = torch.cat([corners, torch.zeros(1, 2)]), [*kinds, PointLabel.NOT_A_POINT]
    else:
        corners, kinds = torch.zeros(1, 2), [PointLabel.NOT_A_POINT]
        labels[0] = PointLabel.FOREGROUND
    return torch.cat([points, corners]), torch.cat([labels, torch.tensor(kinds)])


def sample_picture(model: Sam, index: int, generator: torch.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Return a sample photograph, cut to a random shape and resized as an encoder wants it."""
    name = list(SAMPLES)[index % len(SAMPLES)]
    pixels = read_image(sample_path(name))
    share = 0.4 + 0.6 * torch.rand(2, generator=generator).numpy()
    height, width = (max(1, int(side * part)) for side, part in zip(pixels.shape[:2], share, strict=True))
    cut = pixels[:height, :width]
    return resize_image(cut, model.frame((height, width)).resized)


def _arrays(embedding: Embedding) -> Arrays:
    return {name: tensor.numpy() for name, tensor in embedding.tensors().items()}


def _prompt_arrays(model: Sam, prompts: Prompts) -> Arrays:
    count = prompts.points.shape[1]
    empty = torch.zeros(count, model.mask_size, model.mask_size)
    given = torch.zeros(count) if prompts.has_mask is None else prompts.has_mask[0].float()
    return {
        "points": prompts.points[0].numpy(),
        "labels": prompts.labels[0].float().numpy(),
        "mask_input": (empty if prompts.masks is None else prompts.masks[0]).numpy(),
        "has_mask_input": given.numpy(),
    }


def _nearest(candidates: Float[Tensor, "m hm wm"], chosen: Float[Tensor, "hm wm"]) -> int:
    return int((candidates - chosen).abs().flatten(1).amax(1).argmin())
