"""The seam: how images become embeddings, and prompts masks; in torch, or through graphs.

Legend: P prompts, M masks of each. The model stays a `Sam`, and its embeddings are the same whatever made them. What
the graphs do not cover is torch's: words, and prompts of different lengths in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from anymask.geometry import arrays
from anymask.inference.runtimes.engines import Array, Graph
from anymask.inference.runtimes.graphs import Part
from anymask.model import Answer, Embedding, Prompts, Sam
from anymask.model.embedding import flatten
from anymask.model.prompt_encoder import with_padding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runtime:
    """Computes a model's answers: what there is a graph for by that, the rest in torch."""

    model: Sam
    graphs: Mapping[Part, Graph] = field(default_factory=dict)

    def encode(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[Embedding]:
        """Encode RGB images whose long sides are the model's; each embedding is a batch of one, and prepared."""
        graph = self.graphs.get("encoder")
        if graph is None:
            return [self.model.prepare(one) for one in self._encode_in_torch(images)]
        found = (graph.run({"image": np.ascontiguousarray(image)}) for image in images)
        embeddings = [Embedding.from_tensors({name: torch.from_numpy(x) for name, x in each.items()}) for each in found]
        return [self.model.prepare(embedding) for embedding in embeddings]

    def restored(self, embedding: Embedding) -> Embedding:
        """Prepare an embedding that was kept, of any type and kind, for prompts."""
        model = self.model
        return model.prepare(embedding.map(lambda x: torch.as_tensor(x).to(model.device, model.dtype)))

    def decode(
        self, embedding: Embedding, prompts: Prompts, *, multimask: bool | None
    ) -> tuple[Float[Tensor, "1 p m hm wm"], Float[Tensor, "1 p m"]]:
        """Answer prompts about one image, as `Sam.decode` does."""
        answer = self.answer(embedding, prompts, multimask=multimask)
        return answer.logits, answer.iou

    def answer(self, embedding: Embedding, prompts: Prompts, *, multimask: bool | None) -> Answer:
        """Answer prompts about one image, as `Sam.answer` does; they may be NumPy's arrays."""
        prompts = self._in_torch(prompts)
        graph = self.graphs.get("click" if prompts.points.shape[1] == 1 else "batch")
        if graph is not None and self.model.config.pads_boxes:
            prompts = with_padding(prompts)
        if graph is None or embedding.side is None or prompts.text is not None or prompts.padded is not False:
            return self.model.answer(embedding, prompts, multimask=multimask)
        candidates = {True: slice(1, None), False: slice(0, 1), None: slice(None)}[multimask]
        given = embedding.tensors() | flatten(embedding.side) | self._prompt_tensors(prompts)
        found = graph.run({name: _plain(given[name]) for name in graph.inputs})
        logits, iou = (torch.from_numpy(found[name][:, candidates])[None] for name in ("logits", "iou"))
        score = torch.from_numpy(found["object_score"])[None] if "object_score" in found else None
        return Answer(logits, iou, score)

    def _in_torch(self, prompts: Prompts) -> Prompts:
        """Return prompts as tensors on the model's device."""
        parts = {name: getattr(prompts, name) for name in ("points", "labels", "masks", "has_mask", "text")}
        device = self.model.device
        moved: dict[str, Any] = {
            name: torch.from_numpy(part).to(device) for name, part in parts.items() if isinstance(part, np.ndarray)
        }
        return replace(prompts, **moved)

    def _encode_in_torch(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[Embedding]:
        model = self.model
        pixels = [torch.from_numpy(image).to(model.device).permute(2, 0, 1)[None] for image in images]
        batch = model.encode(torch.cat([model.preprocess(each) for each in pixels]))
        return [_one(batch, index) for index in range(len(images))]

    def _prompt_tensors(self, prompts: Prompts) -> dict[str, Tensor]:
        """Return the graph's inputs, of which masks are always one."""
        count, side = prompts.points.shape[1], self.model.mask_size
        if prompts.masks is None:
            masks, has_mask = torch.zeros(count, side, side), torch.zeros(count)
        else:
            masks = prompts.masks[0]
            has_mask = torch.ones(count) if prompts.has_mask is None else prompts.has_mask[0].float()
        return {
            "points": prompts.points[0].float(),
            "labels": prompts.labels[0].float(),
            "mask_input": masks.float(),
            "has_mask_input": has_mask,
        }


def _plain(tensor: Tensor) -> Array:
    return np.ascontiguousarray(arrays.to_numpy(tensor))


def _one(batch: Embedding, index: int) -> Embedding:
    """Cut one image out of a batch, leaving the rest free to be released."""
    return batch.map(lambda tensor: tensor[index : index + 1].clone())
