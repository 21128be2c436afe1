"""How much memory a step's activations take: what autograd keeps of the model, run on tensors without values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from anymask.model import Embedding, Prompts, Sam, SamConfig, ViTConfig, build_sam
from anymask.model.image_encoder import ImageEncoderViT


def kept_bytes(compute: Callable[[], object], parameters: set[int]) -> int:
    """Return the bytes of the distinct storages that autograd keeps of `compute`, those of `parameters` left out."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        alive.append(storage)  # a freed storage's address may be another's
        return tensor

    alive: list[torch.UntypedStorage] = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = compute()
    del result
    return sum(size for address, size in kept.items() if address not in parameters)


def encoder_bytes(config: SamConfig, precision: torch.dtype) -> tuple[int, int]:
    """Return the bytes that one image's encoding keeps, and those it would with each ViT block computed again.

    The latter is 0 for encoders that are no ViT. Copies of the weights in `precision` are counted too.
    """
    vit, mode = config.encoder, FakeTensorMode()
    model = _without_values(config, mode)
    with mode, torch.autocast("cpu", precision, enabled=precision != torch.float32):
        encoder, images = model.image_encoder, torch.empty(1, 3, config.image_size, config.image_size)
        whole = kept_bytes(lambda: encoder(images), _storages(encoder))
        if not isinstance(vit, ViTConfig) or not isinstance(encoder, ImageEncoderViT):
            return whole, 0
        dense = torch.empty(1, config.embedding_size, config.embedding_size, vit.width, dtype=precision)
        dense.requires_grad_()
        windowed, over_all = (kept_bytes(partial(block, dense), _storages(block)) for block in encoder.blocks)
    rest, num_global = max(0, whole - windowed - over_all), len(vit.global_blocks)
    blocks = (vit.depth - num_global) * windowed + num_global * over_all
    again = vit.depth * dense.untyped_storage().nbytes() + max(windowed, over_all)
    return rest + blocks, rest + again


def round_bytes(config: SamConfig, num_prompts: int, points: int, precision: torch.dtype) -> int:
    """Return the bytes that one round's answers to prompts about one image keep, the image's embedding left out."""
    mode, side = FakeTensorMode(), config.embedding_size
    model = _without_values(config, mode)
    with mode, torch.autocast("cpu", precision, enabled=precision != torch.float32):
        asked = Prompts(
            points=torch.empty(1, num_prompts, points, 2),
            labels=torch.ones(1, num_prompts, points, dtype=torch.long),
            masks=torch.empty(1, num_prompts, 4 * side, 4 * side),
            padded=False,
            has_padding=True,
        )
        features = torch.empty(1, config.width, side, side, dtype=precision, requires_grad=True)
        return kept_bytes(lambda: model.decode(Embedding(features=features), asked), _storages(model))


def _without_values(config: SamConfig, mode: FakeTensorMode) -> Sam:
    """Build a model of the mode's tensors; of a ViT's blocks one in windows and one that is global."""
    if isinstance(config.encoder, ViTConfig):
        config = replace(config, encoder=replace(config.encoder, depth=2, global_blocks=(1,)))
    with torch.random.fork_rng([]):
        model = build_sam(config)
    with FakeCopyMode(mode):
        return copy.deepcopy(model).train()


def _storages(module: nn.Module) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
