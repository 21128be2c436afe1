from __future__ import annotations

import copy
import importlib
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.checkpoints.load import save_model
from anymask.compat import segment_anything as drop_in
from anymask.errors import CheckpointError, ImageError, PromptError
from anymask.model import SIZES, Prompts, ViTConfig, build_sam


@pytest.fixture
def predictor() -> drop_in.SamPredictor:
    torch.manual_seed(0)
    made = drop_in.SamPredictor(build_sam(SIZES["smoke"]).eval())
    made.set_image(np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8))
    return made


def test_any_of_our_models_takes_the_face_and_stays_itself() -> None:
    ours = build_sam(SIZES["smoke"])
    sam = drop_in.Sam.of(ours)
    mine, theirs = dict(sam.named_parameters()), dict(ours.named_parameters())
    assert mine.keys() == theirs.keys() and all(mine[name] is theirs[name] for name in mine)
    assert sam.image_encoder.img_size == 128
    assert list(sam.state_dict()) == list(ours.state_dict())
    sam.to(torch.bfloat16)
    assert ours.dtype == torch.bfloat16
    assert isinstance(copy.deepcopy(sam), drop_in.Sam)


def test_a_builder_without_a_checkpoint_gives_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ViTConfig(width=32, depth=2, num_heads=2, global_blocks=(1,), position_grid=8)
    monkeypatch.setitem(SIZES, "vit_h", replace(SIZES["vit_h"], encoder=encoder, image_size=128))
    sam = drop_in.build_sam()
    assert sam.config.encoder == encoder and not sam.training
    assert drop_in.sam_model_registry["default"] is drop_in.build_sam is drop_in.build_sam_vit_h


def test_a_checkpoint_must_be_of_the_builders_size(tmp_path: Path) -> None:
    save_model(build_sam(SIZES["smoke"]), tmp_path / "smoke.safetensors")
    with pytest.raises(CheckpointError, match=r"smoke\.safetensors: does not hold a vit_l model"):
        drop_in.sam_model_registry["vit_l"](checkpoint=tmp_path / "smoke.safetensors")
    with pytest.raises(CheckpointError):
        drop_in.build_sam_vit_b(str(tmp_path / "none.pth"))


def test_what_cannot_be_used_is_refused(predictor: drop_in.SamPredictor) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ImageError, match="image_format is 'RGBA'"):
        predictor.set_image(image, "RGBA")
    with pytest.raises(ImageError, match=r"\(1, 3, h, w\) with a long side of 128 was expected"):
        predictor.set_torch_image(torch.zeros(1, 3, 64, 64), (8, 8))
    with pytest.raises(PromptError, match="point_coords came without point_labels"):
        predictor.predict(point_coords=np.zeros((1, 2)))
    with pytest.raises(PromptError, match="point_labels must be 1"):
        predictor.predict(point_coords=np.zeros((1, 2)), point_labels=np.array([2]))
    with pytest.raises(PromptError, match="predict takes one box, but got 2"):
        predictor.predict(box=np.ones((2, 4)))


def test_many_prompts_are_decoded_in_chunks(predictor: drop_in.SamPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.rand(50, 2, 2, generator=torch.Generator().manual_seed(0)) * 100
    labels = torch.ones(50, 2)
    low = torch.randn(50, 1, *(predictor.model.mask_size,) * 2, generator=torch.Generator().manual_seed(1))
    whole = predictor.predict_torch(points, labels, mask_input=low, return_logits=True)
    monkeypatch.setattr(drop_in, "chunk_size", lambda sam: 7)
    chunked = predictor.predict_torch(points, labels, mask_input=low, return_logits=True)
    for a, b in zip(whole, chunked, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_nothing_needs_a_gradient(predictor: drop_in.SamPredictor) -> None:
    masks, iou, low = predictor.predict_torch(torch.zeros(1, 1, 2), torch.ones(1, 1))
    assert not any(x.requires_grad for x in (masks, iou, low, predictor.get_image_embedding()))
    low.sum().add(torch.ones(1, requires_grad=True)).backward()  # they are ordinary tensors


@pytest.mark.parametrize("size", ["smoke", "compact"])
def test_the_parts_called_one_by_one_answer_as_the_whole(size: str) -> None:
    torch.manual_seed(0)
    config = replace(SIZES[size], image_size=128)
    ours = build_sam(config).eval()
    sam = drop_in.Sam.of(ours)
    pixels, side = torch.rand(1, 3, 128, 128), ours.embedding_size
    points, labels = torch.tensor([[[30.0, 40.0]], [[90.0, 20.0]]]), torch.tensor([[1], [1]])
    boxes, mask = torch.tensor([[10.0, 10, 60, 60], [5, 5, 50, 90]]), torch.rand(2, 1, 4 * side, 4 * side)
    with torch.no_grad():
        embedding = ours.encode(pixels)
        assert torch.equal(sam.image_encoder(pixels), embedding.features)
        for given in ({"points": (points, labels)}, {"boxes": boxes}, {"points": (points, labels), "masks": mask}):
            sparse, dense = sam.prompt_encoder(**{"points": None, "boxes": None, "masks": None} | given)
            assert sparse.shape[::2] == (2, config.width) and dense.shape == (2, config.width, side, side)
            asked = Prompts.build(
                points=points[None] if "points" in given else None,
                labels=labels[None] if "points" in given else None,
                boxes=boxes[None] if "boxes" in given else None,
                masks=mask[None, :, 0] if "masks" in given else None,
            )
            for multimask in (True, False):
                answer = sam.mask_decoder(
                    image_embeddings=embedding.features,
                    image_pe=sam.prompt_encoder.get_dense_pe(),
                    sparse_prompt_embeddings=sparse,
                    dense_prompt_embeddings=dense,
                    multimask_output=multimask,
                )
                for part, whole in zip(answer, ours.decode(embedding, asked, multimask=multimask), strict=True):
                    torch.testing.assert_close(part, whole[0], rtol=1e-4, atol=1e-4)


def test_a_loop_that_tunes_the_decoder_trains_after_a_change_of_its_import() -> None:
    from anymask.compat.segment_anything.utils.transforms import ResizeLongestSide

    torch.manual_seed(0)
    sam = drop_in.Sam.of(build_sam(SIZES["smoke"]))
    sam.requires_grad_(False)
    sam.mask_decoder.requires_grad_(True)
    optimiser = torch.optim.Adam(sam.mask_decoder.parameters(), lr=1e-3)
    image = np.random.default_rng(0).integers(0, 255, (60, 100, 3), np.uint8)
    box, resize = np.array([[20, 10, 70, 50]]), ResizeLongestSide(sam.image_encoder.img_size)
    target = torch.zeros(1, 1, 60, 100)
    target[:, :, 10:50, 20:70] = 1
    losses = []
    for _ in range(8):
        pixels = torch.as_tensor(resize.apply_image(image)).permute(2, 0, 1)[None]
        with torch.no_grad():
            embedding = sam.image_encoder(sam.preprocess(pixels))
            boxes = torch.as_tensor(resize.apply_boxes(box, image.shape[:2]), dtype=torch.float)
            sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
        logits, _ = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)
        masks = sam.postprocess_masks(logits, tuple(pixels.shape[-2:]), image.shape[:2])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(masks, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.03


@pytest.mark.parametrize(
    "name",
    ["build_sam", "predictor", "modeling", "automatic_mask_generator", "utils.transforms", "utils.amg", "utils.onnx"],
)
def test_metas_modules_can_be_imported(name: str) -> None:
    module = importlib.import_module(f"anymask.compat.segment_anything.{name}")
    assert all(hasattr(module, each) for each in getattr(module, "__all__", ["batched_mask_to_box"]))


def test_helpers_for_masks() -> None:
    from anymask.compat.segment_anything.utils import amg

    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2:7] = True
    assert amg.batched_mask_to_box(masks).tolist() == [[2, 1, 6, 3], [0, 0, 0, 0]]
    encoded = amg.mask_to_rle_pytorch(masks)
    assert (amg.rle_to_mask(encoded[0]) == masks[0].numpy()).all() and amg.area_from_rle(encoded[0]) == 15
    assert amg.rle_to_mask(amg.coco_encode_rle(encoded[0])).sum() == 15
    assert amg.build_point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]]])
    assert amg.calculate_stability_score(logits, 0.0, 1.0).tolist() == [pytest.approx(1 / 3)]


def _inputs(sam: drop_in.Sam, num_points: int, size: tuple[int, int], has_mask: bool) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_points)
    side = sam.embedding_size
    return {
        "image_embeddings": torch.randn(1, sam.config.width, side, side, generator=generator),
        "point_coords": torch.randint(0, 128, (1, num_points, 2), generator=generator).float(),
        "point_labels": torch.randint(0, 4, (1, num_points), generator=generator).float(),
        "mask_input": torch.randn(1, 1, 4 * side, 4 * side, generator=generator),
        "has_mask_input": torch.tensor([float(has_mask)]),
        "orig_im_size": torch.tensor(size, dtype=torch.float32),
    }


def test_metas_export_script_makes_a_file_for_any_points_and_sizes(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from anymask.compat.segment_anything.utils.onnx import SamOnnxModel

    torch.manual_seed(0)
    sam = drop_in.Sam.of(build_sam(SIZES["smoke"]).eval())
    onnx_model = SamOnnxModel(sam, return_single_mask=True)
    example = _inputs(sam, 5, (150, 225), True)
    points = {1: "num_points"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter: that it is, and what it traces
        torch.onnx.export(
            onnx_model,
            tuple(example.values()),
            tmp_path / "sam.onnx",
            input_names=list(example),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": points, "point_labels": points},
            opset_version=17,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(tmp_path / "sam.onnx")
    for num_points, size, has_mask in ((2, (96, 64), True), (5, (150, 225), False), (7, (40, 200), True)):
        inputs = _inputs(sam, num_points, size, has_mask)
        wanted = onnx_model(**inputs)
        assert wanted[0].shape == (1, 1, *size)
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_stabilities_and_areas_of_an_export() -> None:
    from anymask.compat.segment_anything.utils.amg import calculate_stability_score
    from anymask.compat.segment_anything.utils.onnx import SamOnnxModel

    torch.manual_seed(0)
    sam = drop_in.Sam.of(build_sam(SIZES["smoke"]).eval())
    inputs = _inputs(sam, 3, (60, 100), False)
    plain, all_masks, low = SamOnnxModel(sam, False)(**inputs), *SamOnnxModel(sam, False, True)(**inputs)[1:]
    assert torch.equal(all_masks, calculate_stability_score(low, 0.0, 1.0)) and torch.equal(low, plain[2])
    masks, scores, stabilities, areas, _ = SamOnnxModel(sam, False, False, True)(**inputs)
    assert torch.equal(scores, plain[1]) and areas.tolist() == (masks > 0).sum((-1, -2)).tolist()
    assert torch.equal(stabilities, calculate_stability_score(masks, 0.0, 1.0))
