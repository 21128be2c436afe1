"""What prompts share of an image, as flat tensors with names: outputs of one graph, inputs of another.

`Embedding.side` is a dataclass whose fields are the decoder's own affair. Here it is only taken apart and put together:
tensors of the image get names from their fields; what is the same for every image is the model's, and stays in the
graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anymask.model import Embedding, Sam
from anymask.model.embedding_tensors import flatten, replace

__all__ = ["flatten", "image_tensors", "replace"]


def image_tensors(model: Sam, embedding: Embedding) -> dict[str, Tensor]:
    """Return the tensors of a prepared embedding's side that another image would change.

    Told by comparing with an image of another embedding, so that no list of names has to be kept.
    """
    other = embedding.map(lambda tensor: tensor.flip(1, 2) + 1.0)
    ours, theirs = flatten(model.prepare(embedding).side), flatten(model.prepare(other).side)
    return {name: tensor for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])}
