"""SAM-HQ with a ViT encoder against `segment_anything_hq`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from anymask.checkpoints.load import load_model, read_checkpoint
from anymask.model import Prompts

SIDE = 256


def error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def fine(
    hq_sam: ModuleType, randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    parts = hq_sam.modeling
    reference = parts.Sam(
        image_encoder=parts.ImageEncoderViT(
            img_size=SIDE,
            embed_dim=128,
            depth=4,
            num_heads=2,
            global_attn_indexes=(1, 3),
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
        ),
        prompt_encoder=parts.PromptEncoder(
            embed_dim=256, image_embedding_size=(16, 16), input_image_size=(SIDE, SIDE), mask_in_chans=16
        ),
        mask_decoder=parts.MaskDecoderHQ(
            transformer_dim=256,
            transformer=parts.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            vit_dim=128,
        ),
    ).eval()
    randomise(reference)
    path = tmp_path_factory.mktemp("hq") / "weights"
    torch.save(reference.state_dict(), path)
    return SimpleNamespace(reference=reference, ours=load_model(path), path=path)


def test_kind_and_width_of_the_early_features(fine: SimpleNamespace) -> None:
    config, _, kind = read_checkpoint(fine.path)
    assert (kind, config.decoder.hq_feature_width) == ("sam_hq", 128)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("with_mask", [True, False])
def test_two_images_with_prompts_each(fine: SimpleNamespace, multimask: bool, with_mask: bool) -> None:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    points = torch.rand(2, 3, 2, 2, generator=generator) * SIDE
    labels = torch.randint(0, 2, (2, 3, 2), generator=generator)
    masks = 5 * torch.randn(2, 3, SIDE // 4, SIDE // 4, generator=generator) if with_mask else None
    with torch.no_grad():
        features, early = fine.reference.image_encoder(images)
        embedding = fine.ours.encode(images)
        logits, iou = fine.ours.decode(
            embedding, Prompts.build(points=points, labels=labels, masks=masks), multimask=multimask
        )
        for b in range(2):
            sparse, dense = fine.reference.prompt_encoder(
                points=(points[b], labels[b]), boxes=None, masks=None if masks is None else masks[b][:, None]
            )
            theirs, their_iou = fine.reference.mask_decoder(
                image_embeddings=features[b : b + 1],
                image_pe=fine.reference.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
                hq_token_only=False,
                interm_embeddings=[early[0][b : b + 1]],
            )
            best = logits[b, torch.arange(3), iou[b].argmax(-1)]
            assert error(best, theirs[:, 0]) < 1e-4
            assert error(iou[b].amax(-1), their_iou[:, 0]) < 1e-4


def test_features_of_another_model_are_refused(fine: SimpleNamespace) -> None:
    embedding = fine.ours.encode(torch.zeros(1, 3, SIDE, SIDE))
    plain = type(embedding)(features=embedding.features)
    prompts = Prompts.build(boxes=torch.tensor([[[1.0, 1.0, 9.0, 9.0]]]))
    with pytest.raises(ValueError, match="no SAM-HQ features"):
        fine.ours.decode(plain, prompts)
