"""The predictor: an image encoded once, then any number of prompts answered on it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike

from anymask.data.images import ImageSource
from anymask.errors import ImageError, PromptError
from anymask.geometry.rle import RLE
from anymask.inference.answers import EncodedImage, Masks, answer, encode, evaluating, kept_image, read
from anymask.inference.embeddings import EmbeddingCache, embedding_key, read_npy
from anymask.inference.prompts import ModelPrompt, Prompt, box_prompts, to_model, to_model_all
from anymask.inference.refinement import Refinement
from anymask.inference.runtimes import AnyModel, model_name, runtime_of
from anymask.inference.session import Session
from anymask.inference.similar import SearchExample, Similar, SimilarOptions, SimilarRegion
from anymask.inference.words.clip import Clip, Words
from anymask.inference.words.detector import DETECTOR, WordBox, WordDetector
from anymask.inference.words.text import TextInstance, TextMasks
from anymask.inference.zoom import Crops
from anymask.model import Embedding

if TYPE_CHECKING:
    import torch


class Predictor:
    """Masks for prompts, in pixels of the original image.

    device and dtype, where given, move and convert the model in place, as `torch.nn.Module.to` does; bfloat16
    and float16 are for CUDA. The model runs in evaluation mode, and is left in the mode that it came in. With
    a cache, embeddings are looked up before an image is encoded, and kept after; the weights must not change
    meanwhile. Words are looked for by `detector`, a folder of transformers or a name in its cache, read when words
    first come; a model that was trained on words itself reads them with `clip` (None: the CLIP that its file names).
    `refinement` says how first answers are made finer; `PLAIN` leaves them as the network gives them.
    """

    def __init__(
        self,
        model: AnyModel,
        *,
        refinement: Refinement | None = None,
        cache: EmbeddingCache | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        detector: WordDetector | str | os.PathLike[str] = DETECTOR,
        clip: Clip | str | os.PathLike[str] | None = None,
    ) -> None:
        self.model: AnyModel = model.to(device=device, dtype=dtype)
        self.refinement = refinement or Refinement()
        self.cache = cache
        self._finder = TextMasks(self.model, detector)
        self._words = Words(self.model, clip)
        self._image: EncodedImage | None = None
        self._pixels: UInt8[np.ndarray, "h w 3"] | None = None
        self._model_name: str | None = None

    def set_image(self, image: ImageSource) -> None:
        """Encode the image that prompts are about: a path, bytes, a PIL image or an array (see `read_image`).

        Raises ImageError; the image set before then stays.
        """
        pixels = read(self.model, image)
        self._image = self._encode([pixels])[0]
        self._pixels = pixels

    def set_embedding(self, embedding: Embedding | str | os.PathLike[str], size: tuple[int, int]) -> None:
        """Set an image by the embedding it left, (1, c, h, w), and its original (height, width).

        A path is that of a .npy file, as `anymask export embedding` writes it. Raises ImageError; the image set before
        then stays.
        """
        if not isinstance(embedding, Embedding):
            embedding = read_npy(embedding)
        self._check(embedding)
        try:
            frame = self.model.frame(size)
        except (TypeError, ValueError) as error:
            raise ImageError(f"the image's size is {size}; (height, width) of at least 1 was expected") from error
        self._image = EncodedImage(embedding=self._moved(embedding), frame=frame)
        self._pixels = None

    def _check(self, embedding: Embedding) -> None:
        """Raise ImageError unless an embedding has the shapes of this model's."""
        given = embedding.tensors()
        for name, shape in self.model.embedding_shapes().items():
            if name not in given:
                raise ImageError(
                    f"the embedding lacks {name}, which this model needs: take one that the same model made"
                )
            if tuple(given[name].shape) != (1, *shape):
                raise ImageError(
                    f"the embedding's {name} have shape {tuple(given[name].shape)}, but this model's have "
                    f"{(1, *shape)}: take one that the same model made of one image"
                )

    def reset(self) -> None:
        """Forget the image."""
        self._image = self._pixels = None

    @property
    def image(self) -> EncodedImage:
        """The image as it was set; raises PromptError if none was."""
        if self._image is None:
            raise PromptError("no image is set: call set_image before asking for masks")
        return self._image

    def predict(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        text: str | None = None,
        multimask: bool | None = None,
    ) -> Masks:
        """Answer one prompt: any mix of points, a box and a mask, as `Prompt` describes them.

        multimask None gives three masks for one lone point, which is ambiguous, and one otherwise (SAM,
        sec. 3). Many boxes are many prompts: see `predict_boxes`. Words alone give a mask for each object that the
        detector finds, none or many, those of its highest scores first (`find` gives names and scores too); models
        that were trained on words answer them themselves, beside other prompts too. Raises PromptError.
        """
        image = self.image
        prompt = Prompt(points=points, labels=labels, box=box, mask=mask, text=text)
        if prompt.is_words_alone and self._words.read is None:
            return self._finder.joined(image, self._boxes([text or ""]))
        checked = to_model(prompt, image.frame, self.model.mask_size, self._words.read)
        return next(self._answers(image, [checked], multimask))

    def check(self, prompts: Sequence[Prompt], size: tuple[int, int]) -> None:
        """Raise PromptError if one of the prompts makes no sense for an image of `size` = (height, width)."""
        frame = self.model.frame(size)
        if len(prompts) == 1:
            to_model(prompts[0], frame, self.model.mask_size, self._words.read)
        else:
            to_model_all(prompts, frame, self.model.mask_size, self._words.read)

    def find(self, phrases: Sequence[str], *, threshold: float | None = None) -> list[TextInstance]:
        """Find the objects of the image that any of several phrases describes (see `TextMasks.find`)."""
        image = self.image
        return self._finder.masks(image, self._boxes(phrases, threshold))

    def example(self, prompt: Prompt) -> SearchExample:
        """Take a region of the image as an example for `similar`: a binary mask as it is, all else is asked.

        Raises PromptError where the prompt cannot be answered or its mask is empty.
        """
        return Similar(self.model).example_of(self.image, prompt)

    def similar(
        self,
        example: SearchExample | Sequence[SearchExample],
        *,
        taken: Sequence[RLE] = (),
        options: SimilarOptions | None = None,
    ) -> list[SimilarRegion]:
        """Find regions of the image that are like an example, or any of several, of this image or of others.

        The most similar come first; those that `taken` masks of this image overlap are left out. Raises PromptError.
        """
        return Similar(self.model, options).find_in(self.image, example, taken=taken)

    def predict_boxes(
        self, boxes: Float[np.ndarray, "k 4"] | ArrayLike, *, multimask: bool | None = None
    ) -> list[Masks]:
        """Answer (k, 4) boxes (x0, y0, x1, y1), each a prompt of its own."""
        return self.predict_many(box_prompts(boxes), multimask=multimask)

    def predict_many(self, prompts: Sequence[Prompt], *, multimask: bool | None = None) -> list[Masks]:
        """Answer many prompts on the image, in their order; all are checked before the first is answered."""
        return list(self.iterate(prompts, multimask=multimask))

    def iterate(self, prompts: Sequence[Prompt], *, multimask: bool | None = None) -> Iterator[Masks]:
        """Answer many prompts one after the other, so that not all full-size masks are held at once."""
        image = self.image
        checked = to_model_all(prompts, image.frame, self.model.mask_size, self._words.read)
        return self._answers(image, checked, multimask)

    def predict_batch(
        self,
        images: Sequence[ImageSource],
        prompts: Sequence[Sequence[Prompt]],
        *,
        multimask: bool | None = None,
        batch_size: int = 4,
    ) -> list[list[Masks]]:
        """Answer any number of prompts on each of several images; the image that was set stays set.

        `batch_size` images are encoded at a time. Raises ImageError or PromptError, which say which of them.
        """
        if len(images) != len(prompts):
            raise PromptError(
                f"{len(images)} images came with prompts for {len(prompts)}: give one list for each image"
            )
        if batch_size < 1:
            raise ImageError(f"batch_size is {batch_size}; at least 1 image must be encoded at a time")
        results: list[list[Masks]] = []
        for start in range(0, len(images), batch_size):
            batch = range(start, min(start + batch_size, len(images)))
            for image in self._encode([self._read(images[number], number) for number in batch]):
                try:
                    checked = to_model_all(prompts[len(results)], image.frame, self.model.mask_size, self._words.read)
                except PromptError as error:
                    raise PromptError(f"image {len(results)}, {error}") from error
                results.append(list(self._answers(image, checked, multimask)))
        return results

    def _answers(self, image: EncodedImage, prompts: Sequence[ModelPrompt], multimask: bool | None) -> Iterator[Masks]:
        return answer(self.model, image, prompts, multimask=multimask, refinement=self.refinement)

    def _read(self, source: ImageSource, number: int) -> UInt8[np.ndarray, "h w 3"]:
        try:
            return read(self.model, source)
        except ImageError as error:
            raise ImageError(f"image {number}, {error}") from error

    def session(self) -> Session:
        """Begin a conversation of clicks about the image that is set."""
        return Session(self.model, self.image, refinement=self.refinement)

    def _boxes(self, phrases: Sequence[str], threshold: float | None = None) -> list[WordBox]:
        """Ask the detector about the image that is set."""
        if self._pixels is None:
            raise PromptError("a detector needs the image itself, but an embedding was set: call set_image")
        return self._finder.boxes(self._pixels, phrases, threshold=threshold)

    def _encode(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[EncodedImage]:
        """Encode images, or find them in the cache."""
        if self.cache is None:
            return encode(self.model, images)
        keys = [embedding_key(image, self._name()) for image in images]
        found: dict[int, EncodedImage] = {}
        for index, (key, pixels) in enumerate(zip(keys, images, strict=True)):
            kept = self.cache.get(key)
            if kept is not None:
                found[index] = kept_image(self.model, kept, pixels, self._encode)
        missing = [index for index in range(len(images)) if index not in found]
        fresh = encode(self.model, [images[index] for index in missing]) if missing else []
        for index, image in zip(missing, fresh, strict=True):
            self.cache.put(keys[index], image.embedding)
            found[index] = replace(image, crops=Crops(images[index], self._encode))
        return [found[index] for index in range(len(images))]

    def _name(self) -> str:
        """Whatever an embedding depends on besides the image; the hash of the weights is taken once."""
        if self._model_name is None:
            self._model_name = model_name(self.model)
        return self._model_name

    def _moved(self, embedding: Embedding) -> Embedding:
        with evaluating(self.model, kept=True):
            return runtime_of(self.model).restored(embedding)
