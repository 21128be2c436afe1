"""Open-vocabulary detectors of transformers: words in, boxes with the words that they answer out.

Legend: Q boxes that a detector proposes, K phrases, T tokens of a text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from anymask.errors import CheckpointError, PromptError
from anymask.inference.words.local_weights import read_local

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DETECTOR = "google/owlv2-base-patch16-ensemble"
"""The detector asked where none is named."""
_OWL, _GROUNDING = ("owlvit", "owlv2"), ("grounding-dino", "mm-grounding-dino")


@dataclass(frozen=True, slots=True, kw_only=True)
class WordBox:
    """A box for one of the phrases."""

    phrase: str
    score: float
    """The detector's score, from 0 to 1."""
    box: tuple[float, float, float, float]
    """(x0, y0, x1, y1) in pixels of the image; it may reach beyond it."""


class WordDetector(Protocol):
    """Whatever finds boxes for words."""

    def detect(self, image: UInt8[np.ndarray, "h w 3"], phrases: Sequence[str], /) -> list[WordBox]:
        """Return all boxes of an RGB image, each with the phrase that fits it best, by falling score."""
        ...


class TransformersDetector:
    """OWL-ViT, OWLv2 or (MM) Grounding DINO: a folder as transformers saves it, or a name in its cache.

    Nothing is downloaded, and no code that lies with the weights is run. Raises CheckpointError for weights that are
    not here (it names the command that fetches them) or of another kind, InputError where transformers is missing.
    """

    def __init__(self, name: str | os.PathLike[str] = DETECTOR, *, device: torch.device | str = "cpu") -> None:
        def read(transformers: Any, source: str) -> tuple[Any, Any]:
            kind = transformers.AutoConfig.from_pretrained(source, local_files_only=True).model_type
            if kind not in (*_OWL, *_GROUNDING):
                raise ValueError(f"it is of type {kind}; {', '.join((*_OWL, *_GROUNDING))} are known")
            processor = transformers.AutoProcessor.from_pretrained(source, local_files_only=True)
            model = transformers.AutoModelForZeroShotObjectDetection
            return processor, model.from_pretrained(source, local_files_only=True)

        self.name = str(name)
        self._processor, model = read_local(name, "open-vocabulary detector", read)
        self._model: Any = model.to(device).eval()

    def detect(self, image: UInt8[np.ndarray, "h w 3"], phrases: Sequence[str], /) -> list[WordBox]:
        """Return all boxes of an RGB image, each with the phrase that fits it best, by falling score.

        Raises PromptError for a phrase that is longer than the detector reads.
        """
        import torch

        with torch.inference_mode():
            return self._detect(image, phrases)

    def _detect(self, image: UInt8[np.ndarray, "h w 3"], phrases: Sequence[str]) -> list[WordBox]:
        ask = self._ask_owl if self._model.config.model_type in _OWL else self._ask_grounding
        scores_QK, boxes_Q4 = ask(image, phrases)
        best, phrase = scores_QK.max(1)
        order = best.argsort(descending=True, stable=True)
        corners = self._corners(boxes_Q4, image.shape[0], image.shape[1])
        if not bool(corners.isfinite().all() and best.isfinite().all()):
            raise CheckpointError(f"the detector {self.name} answered with numbers that are not finite")
        rows = zip(best[order].tolist(), phrase[order].tolist(), corners[order].tolist(), strict=True)
        return [WordBox(phrase=phrases[k], score=score, box=(x0, y0, x1, y1)) for score, k, (x0, y0, x1, y1) in rows]

    def _corners(self, boxes_Q4: Float[Tensor, "q 4"], height: int, width: int) -> Float[Tensor, "q 4"]:
        """Bring centres and sides, as shares of what the detector saw, to xyxy pixels of the image."""
        import torch

        is_padded = self._model.config.model_type == "owlv2"  # to a square, bottom and right
        seen = (max(height, width),) * 2 if is_padded else (width, height)
        centre, side = boxes_Q4.float().cpu().split(2, 1)
        corners: Tensor = torch.cat([centre - side / 2, centre + side / 2], 1)
        return corners.mul(torch.tensor(seen * 2, dtype=torch.float32))

    def _ask_owl(
        self, image: UInt8[np.ndarray, "h w 3"], phrases: Sequence[str]
    ) -> tuple[Float[Tensor, "q k"], Float[Tensor, "q 4"]]:
        longest = int(self._model.config.text_config.max_position_embeddings)
        for phrase in phrases:
            self._check_length([phrase], self._processor.tokenizer(phrase)["input_ids"], longest)
        kept = {"padding": "max_length", "max_length": longest}
        texts = self._processor.tokenizer(list(phrases), return_tensors="pt", return_attention_mask=True, **kept)
        pixels = self._processor.image_processor(images=image, return_tensors="pt")["pixel_values"]
        answered = self._model(
            pixel_values=self._placed(pixels),
            input_ids=self._placed(texts["input_ids"]),
            attention_mask=self._placed(texts["attention_mask"]),
        )
        return answered.logits[0].float().sigmoid().cpu(), answered.pred_boxes[0]

    def _ask_grounding(
        self, image: UInt8[np.ndarray, "h w 3"], phrases: Sequence[str]
    ) -> tuple[Float[Tensor, "q k"], Float[Tensor, "q 4"]]:
        """Ask for all phrases as one sentence, "a cat. a dog."; a box answers a phrase as well as its best word."""
        sentence = " ".join(" ".join(phrase.lower().replace(".", " ").split()) + "." for phrase in phrases)
        inputs = self._processor(images=image, text=sentence, return_tensors="pt")
        ids = inputs["input_ids"][0]
        self._check_length(phrases, ids.tolist(), int(self._model.config.max_text_len))
        answered = self._model(**{name: self._placed(tensor) for name, tensor in inputs.items()})
        chances_QT = answered.logits[0].float().sigmoid().cpu()[:, : len(ids)]
        words_KT = self._words(ids, len(phrases))
        chances = chances_QT[:, None].where(words_KT[None], 0.0).amax(2)
        return chances, answered.pred_boxes[0]

    def _words(self, ids: Int[Tensor, " t"], num_phrases: int) -> Bool[Tensor, "k t"]:
        """Say which tokens of the sentence are each phrase's; full stops and the two at the ends are no one's."""
        import torch

        tokenizer = self._processor.tokenizer
        stops = ids.eq(tokenizer.convert_tokens_to_ids("."))
        special = torch.tensor([int(id) in tokenizer.all_special_ids for id in ids])
        is_ours = stops.cumsum(0).eq(torch.arange(num_phrases)[:, None])
        return is_ours.logical_and(~stops).logical_and(~special)

    def _check_length(self, phrases: Sequence[str], tokens: Sequence[int], longest: int) -> None:
        if len(tokens) > longest:
            said = f"the words {phrases[0]!r} are" if len(phrases) == 1 else f"the {len(phrases)} phrases are together"
            raise PromptError(f"{said} {len(tokens)} tokens long; {self.name} reads {longest}: say it in fewer words")

    def _placed(self, tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return tensor.to(self._model.device, self._model.dtype)
        return tensor.to(self._model.device)
