"""Our file in the form of Meta's exported decoder, in ONNX Runtime, against Meta's own module in torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from anymask.checkpoints.load import load_model
from anymask.export.onnx import export_onnx

SIZE = 128
CASES = {
    "one point": ([[50.0, 70.0], [0.0, 0.0]], [1.0, -1.0], False),
    "points": ([[50.0, 70.0], [10.0, 100.0], [90.0, 30.0], [0.0, 0.0]], [1.0, 0.0, 1.0, -1.0], False),
    "box": ([[20.0, 30.0], [90.0, 80.0]], [2.0, 3.0], False),
    "point, box and mask": ([[50.0, 70.0], [20.0, 30.0], [90.0, 80.0]], [1.0, 2.0, 3.0], True),
    "points and mask": ([[50.0, 70.0], [10.0, 100.0], [0.0, 0.0]], [1.0, 0.0, -1.0], True),
}
SIZES = ((96, 128), (300, 200), (77, 401), (128, 128))


def _small(package: ModuleType) -> nn.Module:
    parts, grid = package.modeling, SIZE // 16
    return parts.Sam(
        image_encoder=parts.ImageEncoderViT(
            img_size=SIZE,
            embed_dim=64,
            depth=4,
            num_heads=1,
            global_attn_indexes=(0, 1, 2, 3),
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
        ),
        prompt_encoder=parts.PromptEncoder(
            embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(SIZE, SIZE), mask_in_chans=16
        ),
        mask_decoder=parts.MaskDecoder(
            num_multimask_outputs=3,
            transformer=parts.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
        ),
    ).eval()


@pytest.fixture(scope="module", params=[True, False], ids=["one mask", "all masks"])
def pair(
    request: pytest.FixtureRequest,
    meta_sam: ModuleType,
    randomise: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> SimpleNamespace:
    """Meta's module, and a session of ours, with the same weights and the same choice of masks."""
    reference = _small(meta_sam)
    randomise(reference)
    folder: Path = tmp_path_factory.mktemp("meta")
    torch.save(reference.state_dict(), folder / "weights")
    export_onnx(
        load_model(folder / "weights"), folder, name="small", parts=["meta"], return_single_mask=bool(request.param)
    )
    module = import_module(f"{meta_sam.__name__}.utils.onnx").SamOnnxModel(reference, request.param)
    return SimpleNamespace(module=module, session=onnxruntime.InferenceSession(folder / "meta.onnx"))


@pytest.mark.parametrize("case", CASES)
def test_the_same_masks_for_the_same_inputs(pair: SimpleNamespace, case: str) -> None:
    points, labels, has_mask = CASES[case]
    generator = torch.Generator().manual_seed(list(CASES).index(case))
    for size in SIZES:
        inputs = {
            "image_embeddings": torch.randn(1, 256, SIZE // 16, SIZE // 16, generator=generator),
            "point_coords": torch.tensor([points]),
            "point_labels": torch.tensor([labels]),
            "mask_input": 5 * torch.randn(1, 1, SIZE // 4, SIZE // 4, generator=generator),
            "has_mask_input": torch.tensor([float(has_mask)]),
            "orig_im_size": torch.tensor(size, dtype=torch.float32),
        }
        wanted = pair.module(**inputs)
        found = pair.session.run(
            ["masks", "iou_predictions", "low_res_masks"], {name: tensor.numpy() for name, tensor in inputs.items()}
        )
        assert found[0].shape[2:] == size
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.shape == tuple(theirs.shape)
            assert np.abs(ours - theirs.numpy()).max() < 1e-3
        assert ((found[0] > 0) != (wanted[0].numpy() > 0)).mean() < 1e-3
