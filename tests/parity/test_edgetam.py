"""EdgeTAM's trunk against timm's RepViT, the whole of it against EdgeTamModel, whose folders are read and written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from anymask.checkpoints.load import load_model, read_checkpoint, save_model
from anymask.model import SIZES, RepViTConfig
from anymask.model.repvit import RepViT
from sam2_peers import TOLERANCE, check_answers, check_levels, error

SIDE = 256


def settle(network: nn.Module, images: Tensor) -> None:
    """Make a random network's statistics those of some images, so that activations neither grow nor vanish."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        network.train()(images)
    network.eval()


@pytest.mark.parametrize("training", [True, False])
def test_trunk(timm: ModuleType, randomise: Callable[..., None], training: bool) -> None:
    """In training, batches make the statistics; outside it, three kernels are one."""
    theirs = timm.create_model("repvit_m1", features_only=True, out_indices=(0, 1, 2, 3))
    randomise(theirs)
    images = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    settle(theirs, images)
    ours = RepViT(RepViTConfig())
    ours.body.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        found, expected = ours.train(training)(images), theirs.train(training)(images)
    for one, other in zip(found, expected, strict=True):
        assert error(one.permute(0, 3, 1, 2), other) < TOLERANCE


@pytest.fixture(scope="module")
def folder(
    transformers_with_timm: ModuleType, randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    transformers = transformers_with_timm
    config = transformers.EdgeTamConfig(
        vision_config={
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": "repvit_m1",
                "num_classes": 2,
                "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
            },
            "backbone_feature_sizes": [[SIDE // stride] * 2 for stride in (4, 8, 16)],
        },
        prompt_encoder_config={"image_size": SIDE},
    )
    reference = transformers.EdgeTamModel(config).eval()
    randomise(reference)
    settle(reference.vision_encoder.backbone, torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7)))
    with torch.no_grad():
        reference.no_memory_embedding.normal_(generator=torch.Generator().manual_seed(1))
        shared = reference.shared_image_embedding.positional_embedding
        reference.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    path = tmp_path_factory.mktemp("edgetam")
    reference.save_pretrained(path)
    return SimpleNamespace(reference=reference, path=path, side=SIDE)


def test_whole_path(folder: SimpleNamespace) -> None:
    config, _, kind = read_checkpoint(folder.path)
    assert kind == "huggingface"
    assert (config.encoder, config.decoder) == (SIZES["repvit_m1"].encoder, SIZES["repvit_m1"].decoder)
    ours = load_model(folder.path)
    check_levels(ours, folder)
    check_answers(ours, folder)


def test_folder_written_by_us_is_read_by_transformers(
    folder: SimpleNamespace, transformers_with_timm: ModuleType, tmp_path: Path
) -> None:
    save_model(load_model(folder.path), tmp_path / "again", "huggingface")
    assert read_checkpoint(tmp_path / "again")[0] == read_checkpoint(folder.path)[0]
    again, report = transformers_with_timm.EdgeTamModel.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(report[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    for name, tensor in folder.reference.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
