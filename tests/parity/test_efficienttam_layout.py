"""EfficientTAM: its encoder against a plain reading of its published layout, its decoder against the package `sam2`.

No package on PyPI has the encoder.
The reading is of tensors by the names in its checkpoints: patches, positions without the class token's, pre-norm blocks
in windows of 14 padded with zeros but for blocks 2, 5, 8 and 11, and a neck of two normalised convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.checkpoints.load import load_model, read_checkpoint, save_model
from anymask.model import SIZES, Embedding, PlainViTConfig, Prompts, build_sam
from sam2_peers import TOLERANCE, error


def attended(x: Tensor, state: dict[str, Tensor], heads: int) -> Tensor:
    """Attend over (windows, h, w, c)."""
    shape = x.shape
    qkv = F.linear(x.flatten(1, 2), state["attn.qkv.weight"], state["attn.qkv.bias"])
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
    shares = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    out = (shares @ v).transpose(1, 2).flatten(2)
    return F.linear(out, state["attn.proj.weight"], state["attn.proj.bias"]).view(shape)


def in_windows(x: Tensor, state: dict[str, Tensor], heads: int, side: int) -> Tensor:
    """Attend in each window by itself, one after the other."""
    height, width = x.shape[1:3]
    padded = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    out = torch.zeros_like(padded)
    for top in range(0, padded.shape[1], side):
        for left in range(0, padded.shape[2], side):
            window = (slice(None), slice(top, top + side), slice(left, left + side))
            out[window] = attended(padded[window], state, heads)
    return out[:, :height, :width]


def encoded(state: dict[str, Tensor], images: Tensor, heads: int) -> Tensor:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}

    def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    trunk, neck = part("image_encoder.trunk."), part("image_encoder.neck.convs.0.")
    x = F.conv2d(images, trunk["patch_embed.proj.weight"], trunk["patch_embed.proj.bias"], 16).permute(0, 2, 3, 1)
    positions = trunk["pos_embed"][:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    x = x + F.interpolate(positions, x.shape[1:3], mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    for i in range(12):
        block = part(f"image_encoder.trunk.blocks.{i}.")
        normed = norm(x, block, "norm1")
        x = x + (attended(normed, block, heads) if i in (2, 5, 8, 11) else in_windows(normed, block, heads, 14))
        hidden = F.gelu(F.linear(norm(x, block, "norm2"), block["mlp.layers.0.weight"], block["mlp.layers.0.bias"]))
        x = x + F.linear(hidden, block["mlp.layers.1.weight"], block["mlp.layers.1.bias"])
    y = F.conv2d(x.permute(0, 3, 1, 2), neck["conv_1x1.weight"])
    y = norm(y.permute(0, 2, 3, 1), neck, "norm_0").permute(0, 3, 1, 2)
    y = F.conv2d(y, neck["conv_3x3.weight"], padding=1)
    y = norm(y.permute(0, 2, 3, 1), neck, "norm_1").permute(0, 3, 1, 2)
    return y + state["no_mem_embed"].reshape(1, -1, 1, 1)


@pytest.fixture(scope="module", params=["efficienttam_ti", "efficienttam_s"])
def file(
    request: pytest.FixtureRequest, randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The file of a random model of each published size, for images of 512 pixels."""
    model = build_sam(replace(SIZES[request.param], image_size=512)).eval()
    randomise(model)
    with torch.no_grad():
        model.image_encoder.no_mem_embed.normal_(generator=torch.Generator().manual_seed(3))
    path = tmp_path_factory.mktemp("efficienttam") / f"{request.param}_512x512.pt"
    save_model(model, path, "meta")
    assert read_checkpoint(path)[::2] == (model.config, "efficienttam")
    return path


@pytest.mark.parametrize("side", [512, pytest.param(1024, marks=pytest.mark.long)])
def test_the_encoder_reads_its_file_as_published(file: Path, side: int) -> None:
    model = load_model(file, image_size=side)
    assert isinstance(model.config.encoder, PlainViTConfig)
    state = torch.load(file, weights_only=True)["model"]
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        ours, theirs = model.encode(images), encoded(state, images, model.config.encoder.num_heads)
    assert ours.skips is None
    assert error(ours.features, theirs) < TOLERANCE


@torch.no_grad()
def test_prompts_are_answered_as_by_the_package_sam2(file: Path, sam2_package: ModuleType) -> None:
    """Its decoder without levels for skips is EfficientTAM's, file and all; each round goes on from its own logits."""
    prompt_encoder = import_module("sam2.modeling.sam.prompt_encoder").PromptEncoder(256, (32, 32), (512, 512), 16)
    transformer = import_module("sam2.modeling.sam.transformer").TwoWayTransformer(2, 256, 8, 2048)
    decoder = import_module("sam2.modeling.sam.mask_decoder").MaskDecoder(
        transformer_dim=256,
        transformer=transformer,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        dynamic_multimask_via_stability=True,
    )
    for name, part in (("sam_prompt_encoder.", prompt_encoder), ("sam_mask_decoder.", decoder)):
        state = torch.load(file, weights_only=True)["model"]
        part.load_state_dict({k.removeprefix(name): x for k, x in state.items() if k.startswith(name)})
        part.eval()
    ours = load_model(file)
    features = torch.randn(1, 256, 32, 32, generator=torch.Generator().manual_seed(5))
    embedding = ours.prepare(Embedding(features=features))
    points = 512 * torch.rand(1, 1, 3, 2, generator=torch.Generator().manual_seed(6))
    labels, box = torch.tensor([[[1, 0, 1]]]), torch.tensor([[[50.0, 90.0, 400.0, 470.0]]])
    masks: tuple[Tensor, Tensor] | None = None
    for count in (1, 2, 3):
        clicks, kinds = points[:, :, :count], labels[:, :, :count]
        boxed = box if count == 3 else None
        found = ours.answer(
            embedding,
            Prompts.build(points=clicks, labels=kinds, boxes=boxed, masks=None if masks is None else masks[0]),
            multimask=count == 1,
        )
        corners = [] if boxed is None else [boxed.view(1, 2, 2)]
        asked = (
            torch.cat([*corners, clicks[0]], 1),
            torch.cat([*([torch.tensor([[2, 3]])] * len(corners)), kinds[0]], 1),
        )
        sparse, dense = prompt_encoder(points=asked, boxes=None, masks=None if masks is None else masks[1])
        logits, iou, _, score = decoder(
            features, prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=count == 1, repeat_image=False
        )
        assert found.object_score is not None
        assert error(found.logits[0], logits) < TOLERANCE
        assert error(found.iou[0], iou) < TOLERANCE
        assert error(found.object_score[0], score[:, 0]) < TOLERANCE
        best = int(iou[0].argmax())
        masks = found.logits[:, :, best], logits[:, best : best + 1]
