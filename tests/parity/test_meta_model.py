"""The network against Meta's segment_anything: the same weights, through its own file format."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from anymask.checkpoints.load import load_model, read_checkpoint
from anymask.model import SIZES, Embedding, Prompts, Sam

TOLERANCE = 1e-4
# As vit_b, vit_l and vit_h in miniature: head widths of 64, 64 and 80, global blocks at each quarter's end.
MINIATURES = {
    "vit_b": {"embed_dim": 128, "depth": 4, "num_heads": 2, "global_attn_indexes": (0, 1, 2, 3)},
    "vit_l": {"embed_dim": 192, "depth": 8, "num_heads": 3, "global_attn_indexes": (1, 3, 5, 7)},
    "vit_h": {"embed_dim": 160, "depth": 8, "num_heads": 2, "global_attn_indexes": (1, 3, 5, 7)},
}
PROMPTS = ("one point", "points", "box", "points and box", "mask", "box and mask", "everything")


def error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def miniature(package: ModuleType, size: str, image_size: int = 256) -> nn.Module:
    parts, grid = package.modeling, image_size // 16
    return parts.Sam(
        image_encoder=parts.ImageEncoderViT(
            img_size=image_size,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            **MINIATURES[size],
        ),
        prompt_encoder=parts.PromptEncoder(
            embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(image_size,) * 2, mask_in_chans=16
        ),
        mask_decoder=parts.MaskDecoder(
            transformer_dim=256,
            transformer=parts.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        ),
    )


def prompts_of(kind: str, size: int, count: int = 3) -> tuple[dict[str, Tensor | None], Prompts]:
    """The same prompts as arguments of Meta's prompt encoder, and as ours."""
    generator = torch.Generator().manual_seed(PROMPTS.index(kind))
    points = torch.rand(count, 1 if kind == "one point" else 3, 2, generator=generator) * size
    labels = torch.randint(0, 2, points.shape[:2], generator=generator)
    corner = torch.rand(count, 2, generator=generator) * size / 2
    boxes = torch.cat([corner, corner + size / 3], 1)
    masks = 5 * torch.randn(count, 1, size // 4, size // 4, generator=generator)
    has_points = "point" in kind or kind == "everything"
    has_box, has_mask = "box" in kind or kind == "everything", "mask" in kind or kind == "everything"
    theirs = {
        "points": (points, labels) if has_points else None,
        "boxes": boxes if has_box else None,
        "masks": masks if has_mask else None,
    }
    ours = Prompts.build(
        points=points[None] if has_points else None,
        labels=labels[None] if has_points else None,
        boxes=boxes[None] if has_box else None,
        masks=masks[:, 0][None] if has_mask else None,
    )
    return theirs, ours


def check_decoder(reference: nn.Module, ours: Sam, features: Tensor, kind: str, multimask: bool) -> None:
    theirs, prompts = prompts_of(kind, ours.image_size)
    with torch.no_grad():
        sparse, dense = reference.prompt_encoder(**theirs)
        logits, iou = reference.mask_decoder(
            image_embeddings=features,
            image_pe=reference.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        encoded = ours.prompt_encoder(prompts)
        our_logits, our_iou = ours.decode(Embedding(features=features), prompts, multimask=multimask)
    if sparse.shape[1]:
        assert error(encoded.tokens[0], sparse) < TOLERANCE
    assert error(our_logits[0], logits) < TOLERANCE
    assert error(our_iou[0], iou) < TOLERANCE


@pytest.fixture(scope="module")
def vit_b(
    meta_sam: ModuleType, randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    reference = meta_sam.build_sam_vit_b()
    randomise(reference)
    path = tmp_path_factory.mktemp("meta") / "weights"
    torch.save(reference.state_dict(), path)
    ours = load_model(path)
    images = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = reference.image_encoder(images)
    return SimpleNamespace(reference=reference, ours=ours, images=images, features=features, path=path)


@pytest.mark.long
def test_config_of_vit_b_is_read_off_its_shapes(vit_b: SimpleNamespace) -> None:
    config, _, kind = read_checkpoint(vit_b.path)
    assert (config, kind) == (SIZES["vit_b"], "meta")


@pytest.mark.long
def test_encoder_of_vit_b_at_1024(vit_b: SimpleNamespace) -> None:
    with torch.no_grad():
        ours = vit_b.ours.encode(vit_b.images).features
    assert error(ours, vit_b.features) < TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", ["one point", "everything"])
def test_decoder_of_vit_b_at_1024(vit_b: SimpleNamespace, kind: str, multimask: bool) -> None:
    check_decoder(vit_b.reference, vit_b.ours, vit_b.features, kind, multimask)


@pytest.fixture(scope="module", params=list(MINIATURES))
def small(
    request: pytest.FixtureRequest,
    meta_sam: ModuleType,
    randomise: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> SimpleNamespace:
    reference = miniature(meta_sam, request.param).eval()
    randomise(reference)
    path: Path = tmp_path_factory.mktemp("meta") / "weights"
    torch.save(reference.state_dict(), path)
    return SimpleNamespace(reference=reference, ours=load_model(path))


def test_encoder_of_every_size(small: SimpleNamespace) -> None:
    images = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = small.reference.image_encoder(images)
        ours = small.ours.encode(images).features
    assert error(ours, theirs) < TOLERANCE


def test_encoder_where_gradients_are_wanted(small: SimpleNamespace) -> None:
    images = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(2))
    ours = small.ours.encode(images).features
    theirs = small.reference.image_encoder(images)
    assert error(ours.detach(), theirs.detach()) < TOLERANCE
    (our_gradient,) = torch.autograd.grad(ours.square().mean(), small.ours.image_encoder.blocks[0].attn.rel_pos_h)
    (their_gradient,) = torch.autograd.grad(
        theirs.square().mean(), small.reference.image_encoder.blocks[0].attn.rel_pos_h
    )
    assert error(our_gradient, their_gradient) < 1e-3


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_and_decoder(small: SimpleNamespace, kind: str, multimask: bool) -> None:
    features = torch.randn(1, 256, 16, 16, generator=torch.Generator().manual_seed(3))
    check_decoder(small.reference, small.ours, features, kind, multimask)


def test_preprocessing(small: SimpleNamespace) -> None:
    image = torch.randint(0, 256, (3, 256, 171), generator=torch.Generator().manual_seed(4))
    theirs = small.reference.preprocess(image.float())
    assert error(small.ours.preprocess(image[None])[0], theirs) < 1e-6
