"""From an encoded image and prompts to masks: batches bounded in memory, results at the original size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TypeAlias, TypeVar

import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.data.channels import ChannelMapping, read_mapped
from anymask.data.images import ImageSource
from anymask.geometry import arrays, masks
from anymask.geometry.arrays import Array
from anymask.geometry.frames import Frame
from anymask.inference.automatic.upsampling import upsample_mask
from anymask.inference.edge_filter import guide_of, mask_along_edges
from anymask.inference.prompts import ModelPrompt, join, to_model
from anymask.inference.refinement import Refinement, tidied
from anymask.inference.resize import resize_image
from anymask.inference.runtimes import AnyModel, ExportedModel, runtime_of
from anymask.inference.zoom import Crops, closer
from anymask.model import MASK_THRESHOLD, Answer, Embedding

_DECODER_BYTES = 1 << 30
"""What the decoder may hold at a time, roughly."""
_COPIES = 16
"""Tensors as large as the image embedding that the decoder holds for each prompt, measured and rounded up."""

Tag = TypeVar("Tag")
Pixels: TypeAlias = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masks:
    """The answer to one prompt, best first: one mask, or three for an ambiguous prompt."""

    masks: Bool[np.ndarray, "m h w"]
    """Masks at the original image's size."""
    scores: Float[np.ndarray, " m"]
    """Predicted IoU of each, float32."""
    logits: Float[np.ndarray, "m hm wm"]
    """Before the threshold, low resolution, padded model frame, float32: the mask prompt of a next round."""
    object_score: float | None = None
    """Logit of there being an object where the prompt points: below 0, the masks are of nothing. None: the model does
    not say (SAM 2 does)."""

    @property
    def best(self) -> Bool[np.ndarray, "h w"]:
        """The mask of the highest predicted IoU."""
        mask: Bool[np.ndarray, "h w"] = self.masks[0]
        return mask

    def __len__(self) -> int:
        """How many masks."""
        return len(self.masks)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedImage:
    """An image as prompts need it: its embedding (batch of one) and its frames."""

    embedding: Embedding
    frame: Frame
    guide: Pixels | None = None
    """The image itself, or a smaller copy, for masks along its edges; None where only an embedding is known."""
    crops: Crops | None = None
    """Parts of the image for a closer look; None where only an embedding is known."""


@contextmanager
def evaluating(model: AnyModel, *, kept: bool = False) -> Iterator[None]:
    """Run without gradients and in evaluation mode, and leave every module in the mode it was in.

    What is `kept`, such as an embedding that a decoder may be trained on, is no tensor of torch's inference mode, which
    is a little faster.
    """
    if isinstance(model, ExportedModel):  # which can do nothing else
        yield
        return
    import torch

    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad() if kept else torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def channels_of(model: AnyModel) -> ChannelMapping | None:
    """Return the mapping of channels that a model was tuned with, or None where it sees plain pictures."""
    return None if model.channels is None else ChannelMapping.from_dict(model.channels)


def read(model: AnyModel, source: ImageSource) -> Pixels:
    """Read an image as the model wants it: by its own mapping of channels where it has one; raises ImageError."""
    return read_mapped(source, channels_of(model))


def encode(model: AnyModel, images: Sequence[Pixels]) -> list[EncodedImage]:
    """Encode images of any sizes in one batch."""
    frames = [model.frame((image.shape[0], image.shape[1])) for image in images]
    resized = [resize_image(image, frame.resized) for image, frame in zip(images, frames, strict=True)]
    with evaluating(model, kept=True):
        embeddings = runtime_of(model).encode(resized)
    again = partial(encode, model)
    return [
        EncodedImage(embedding=embedding, frame=frame, guide=guide_of(image), crops=Crops(image, again))
        for embedding, frame, image in zip(embeddings, frames, images, strict=True)
    ]


def kept_image(
    model: AnyModel, embedding: Embedding, pixels: Pixels, encode: Callable[[Sequence[Pixels]], list[EncodedImage]]
) -> EncodedImage:
    """Return an image whose embedding was kept, such as in a cache; its crops are encoded by `encode`."""
    with evaluating(model, kept=True):
        restored = runtime_of(model).restored(embedding)
    frame = model.frame((pixels.shape[0], pixels.shape[1]))
    return EncodedImage(embedding=restored, frame=frame, guide=guide_of(pixels), crops=Crops(pixels, encode))


def encode_ahead(
    model: AnyModel, images: Iterable[tuple[ImageSource, Tag]], *, batch_size: int
) -> Iterator[tuple[Pixels, EncodedImage, Tag]]:
    """Read and encode images, `batch_size` in one call, and yield each with what came with it, in their order.

    A thread reads as many of the next meanwhile; so twice as many are held. Where an image cannot be read, those before
    it come first; then ImageError is raised.
    """
    sources = iter(images)
    reader = ThreadPoolExecutor(1, thread_name_prefix="anymask-reader")
    try:
        waiting = _submitted(reader, model, sources, batch_size)
        failure: Exception | None = None
        while waiting and failure is None:
            batch, failure = _taken(waiting)
            waiting = _submitted(reader, model, sources, batch_size) if failure is None else []
            encoded = encode(model, [pixels for pixels, _ in batch]) if batch else []
            for (pixels, tag), image in zip(batch, encoded, strict=True):
                yield pixels, image, tag
        if failure is not None:
            raise failure
    finally:
        reader.shutdown(cancel_futures=True)


def _submitted(
    reader: ThreadPoolExecutor, model: AnyModel, sources: Iterator[tuple[ImageSource, Tag]], count: int
) -> list[Future[tuple[Pixels, Tag]]]:
    """Have the next images read; where their iterator fails, the last of the results does."""
    submitted: list[Future[tuple[Pixels, Tag]]] = []
    try:
        for source, tag in islice(sources, count):
            submitted.append(reader.submit(lambda source, tag: (read(model, source), tag), source, tag))
    except Exception as error:
        submitted.append(Future())
        submitted[-1].set_exception(error)
    return submitted


def _taken(waiting: Iterable[Future[tuple[Pixels, Tag]]]) -> tuple[list[tuple[Pixels, Tag]], Exception | None]:
    """Return what was read, up to the first image that could not be, and why it could not."""
    batch: list[tuple[Pixels, Tag]] = []
    try:
        for future in waiting:
            batch.append(future.result())
    except Exception as error:
        return batch, error
    return batch, None


def answer(
    model: AnyModel,
    image: EncodedImage,
    prompts: Sequence[ModelPrompt],
    *,
    multimask: bool | None,
    refinement: Refinement,
) -> Iterator[Masks]:
    """Answer prompts in their order, a chunk at a time.

    multimask True gives three masks per prompt, False one, None three for a lone point and one otherwise.
    """
    size = chunk_size(model)
    for start in range(0, len(prompts), size):
        chunk = prompts[start : start + size]
        refined = _refine(model, image, chunk, _decode(model, image, chunk, multimask), refinement)
        for prompt, decoded in zip(chunk, refined, strict=True):
            found = _masks(decoded, image.frame, image.guide if refinement.edges else None)
            yield _zoomed(model, image, prompt, found, refinement) if refinement.zooms(model.image_size) else found


def _zoomed(model: AnyModel, image: EncodedImage, prompt: ModelPrompt, found: Masks, refinement: Refinement) -> Masks:
    """Draw the mask ranked first again, as a crop around it shows it; scores and logits stay the whole image's."""
    look = None if image.crops is None else closer(prompt, found.best, image.frame)
    if image.crops is None or look is None:
        return found
    window, question = look
    crop = image.crops.encoded(window)
    asked = to_model(question, crop.frame, model.mask_size)
    seen = next(answer(model, crop, [asked], multimask=False, refinement=replace(refinement, zoom=False))).best
    if not seen.any():
        return found
    masks = found.masks.copy()
    masks[0] = False
    window.paste(masks[0], seen)
    return replace(found, masks=masks)


def chunk_size(model: AnyModel) -> int:
    """Return how many prompts the decoder may take at a time."""
    return max(1, _DECODER_BYTES // (_COPIES * 4 * model.embedding_size**2 * model.config.width))


def _refine(
    model: AnyModel,
    image: EncodedImage,
    prompts: Sequence[ModelPrompt],
    first: Sequence[Answer],
    refinement: Refinement,
) -> list[Answer]:
    """Ask lone points and boxes again, each with the logits of the mask ranked first, whose place the answer takes.

    Then their masks are tidied. Of three masks all keep their scores: that of the new answer would rank it against
    others that the same token did not give.
    """
    decoded = list(first)
    opening = [index for index, prompt in enumerate(prompts) if prompt.is_lone_point or prompt.is_lone_box]
    waiting = opening
    for _ in range(refinement.passes):
        ranked = [int(decoded[index].iou.argmax()) for index in waiting]
        before = [decoded[index].logits[rank] for index, rank in zip(waiting, ranked, strict=True)]
        asked = [
            replace(prompts[index], mask=arrays.to_numpy(mask), is_lone_point=False, is_lone_box=False)
            for index, mask in zip(waiting, before, strict=True)
        ]
        still = []
        for index, rank, mask, found in zip(
            waiting, ranked, before, _decode(model, image, asked, multimask=False), strict=True
        ):
            logits, scores, _ = decoded[index]
            if _agreement(mask, found.logits[0]) < refinement.agreement:
                still.append(index)
            changed = arrays.copied(logits)
            changed[rank] = found.logits[0]
            decoded[index] = Answer(changed, found.iou if len(scores) == 1 else scores, found.object_score)
        waiting = still
    if refinement.tidy:
        for index in opening:
            tidy = tidied(decoded[index].logits, prompts[index], image.frame)
            decoded[index] = decoded[index]._replace(logits=tidy)
    return decoded


def _agreement(one: Float[Array, "hm wm"], other: Float[Array, "hm wm"]) -> float:
    """Return the IoU of two masks at low resolution."""
    inside = [arrays.to_numpy(logits > MASK_THRESHOLD) for logits in (one, other)]
    return float(masks.pair_iou(inside[0], inside[1]))


def _decode(
    model: AnyModel, image: EncodedImage, prompts: Sequence[ModelPrompt], multimask: bool | None
) -> list[Answer]:
    """Decode one chunk to an answer per prompt, without batch axes.

    Prompts with and without a mask or words, for three masks and for one, go separately.
    Without masks all prompts share the image embedding; one mask among them would unshare it for all.
    """
    groups: dict[tuple[bool, bool, bool], list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        three = prompt.is_lone_point if multimask is None else multimask
        groups[three, prompt.mask is not None, prompt.text is not None].append(index)
    answers: dict[int, Answer] = {}
    with evaluating(model):
        for (three, _, _), members in groups.items():
            batch = join([prompts[index] for index in members])
            found = runtime_of(model).answer(image.embedding, batch, multimask=three)
            for place, index in enumerate(members):
                score = None if found.object_score is None else float(found.object_score[0, place])
                logits, iou = (arrays.float32(part[0, place]) for part in (found.logits, found.iou))
                answers[index] = Answer(logits, iou, score)
    return [answers[index] for index in range(len(prompts))]


def _masks(answer: Answer, frame: Frame, guide: Pixels | None) -> Masks:
    """Sort by score, and bring one mask after the other to the original size, along the edges of a guide if any."""
    logits, values = answer.logits, arrays.to_numpy(answer.iou)
    order = np.argsort(-values, kind="stable")
    found = np.empty((len(order), *frame.original), np.bool_)
    for mask, index in zip(found, order.tolist(), strict=True):
        if guide is None:
            mask[:] = upsample_mask(logits[index], frame)
        else:
            mask[:] = mask_along_edges(logits[index], guide, frame)
    score = None if answer.object_score is None else float(answer.object_score)
    return Masks(masks=found, scores=values[order], logits=arrays.to_numpy(logits)[order], object_score=score)
