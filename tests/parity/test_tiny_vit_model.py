"""MobileSAM's encoder and SAM-HQ's light model against `segment_anything_hq`, which has both."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from anymask.checkpoints.load import load_model, read_checkpoint, save_model
from anymask.model import SIZES, Prompts


def error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def light(
    hq_sam: ModuleType, randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    reference = hq_sam.sam_model_registry["vit_tiny"]()
    randomise(reference)
    # Going through training mode makes it gather the attention biases again, which randomise has changed.
    reference.train().eval()
    folder = tmp_path_factory.mktemp("light")
    torch.save(reference.state_dict(), folder / "hq")
    plain = {name: x for name, x in reference.state_dict().items() if not name.startswith(HQ_NAMES)}
    torch.save(plain, folder / "mobile")
    images = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features, early = reference.image_encoder(images)
    return SimpleNamespace(reference=reference, folder=folder, images=images, features=features, early=early)


HQ_NAMES = tuple(
    f"mask_decoder.{name}"
    for name in ("hf_token", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature")
)


def test_mobile_sam_encoder_at_1024(light: SimpleNamespace) -> None:
    config, _, kind = read_checkpoint(light.folder / "mobile")
    assert (config, kind) == (SIZES["vit_t"], "mobile_sam")
    with torch.no_grad():
        ours = load_model(light.folder / "mobile").encode(light.images)
    assert ours.hq is None
    assert error(ours.features, light.features) < 1e-4


def test_mobile_sam_file_written_again_suits_its_own_package(light: SimpleNamespace) -> None:
    save_model(load_model(light.folder / "mobile"), light.folder / "again", "meta")
    again = torch.load(light.folder / "again", weights_only=True)
    original = torch.load(light.folder / "mobile", weights_only=True)
    assert {name: x.shape for name, x in again.items()} == {name: x.shape for name, x in original.items()}
    for name, tensor in original.items():
        if ".head." not in name and ".norm_head." not in name:
            assert torch.equal(again[name], tensor)


@pytest.mark.parametrize("multimask", [True, False])
def test_light_hq_model(light: SimpleNamespace, multimask: bool) -> None:
    config, _, kind = read_checkpoint(light.folder / "hq")
    assert kind == "sam_hq"
    assert config.decoder.hq_feature_width == 160
    ours = load_model(light.folder / "hq")
    points = torch.tensor([[[300.0, 400.0]], [[700.5, 20.25]]])
    labels = torch.ones(2, 1, dtype=torch.long)
    with torch.no_grad():
        sparse, dense = light.reference.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        theirs, _ = light.reference.mask_decoder(
            image_embeddings=light.features,
            image_pe=light.reference.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            hq_token_only=False,
            interm_embeddings=[light.early[0]],
        )
        prompts = Prompts.build(points=points[None], labels=labels[None])
        logits, iou = ours.decode(ours.encode(light.images), prompts, multimask=multimask)
    best = logits[0, torch.arange(2), iou[0].argmax(-1)]
    assert error(best, theirs[:, 0]) < 1e-4
