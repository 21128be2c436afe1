"""Every part of a model as a file: what it answers, and what it says of itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from anymask.errors import InputError
from anymask.export.description import FILE_NAME, read_description
from anymask.export.onnx import export_onnx
from anymask.export.parts import PARTS
from anymask.export.verify import MAX_LOGIT, MAX_PIXELS, Verdict, find_files, open_exported, verify
from anymask.model import SIZES, Embedding, Prompts, Sam, build_sam


@pytest.fixture(scope="module")
def verdicts(export: SimpleNamespace) -> dict[str, Verdict]:
    files = [open_exported(path, threads=1) for path in find_files([export.folder])]
    return {verdict.file: verdict for verdict in verify(export.model, files, rounds=3)}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_answers_as_the_model_does(verdicts: dict[str, Verdict], part: str) -> None:
    verdict = verdicts[f"{part}.onnx"]
    assert (verdict.part, verdict.int8) == (part, False)
    assert verdict.masks >= 12
    assert 0 < verdict.largest <= MAX_LOGIT
    assert verdict.pixels <= MAX_PIXELS
    assert verdict.passed


@pytest.mark.parametrize("part", ["encoder", "decoder", "prompt"])
def test_int8_is_smaller_and_measured_by_overlap(verdicts: dict[str, Verdict], part: str) -> None:
    small, whole = verdicts[f"{part}.int8.onnx"], verdicts[f"{part}.onnx"]
    assert small.int8
    assert small.megabytes < 0.75 * whole.megabytes
    assert whole.iou > small.iou > 0.5
    assert small.largest > 10 * whole.largest


def test_model_json_says_what_the_files_take_and_give(export: SimpleNamespace) -> None:
    assert read_description(export.folder / FILE_NAME) == export.description
    assert {file.file for file in export.description.files} == {
        path.name for path in export.folder.iterdir() if path.suffix == ".onnx"
    }
    for file in export.description.files:
        session = onnxruntime.InferenceSession(export.folder / file.file)
        for told, found in ((file.inputs, session.get_inputs()), (file.outputs, session.get_outputs())):
            assert [(one.name, list(one.shape)) for one in told] == [(one.name, one.shape) for one in found]
        assert file.bytes == (export.folder / file.file).stat().st_size
    values = json.loads((export.folder / FILE_NAME).read_text())
    assert values["image_size"] == 128 and values["embedding_size"] == 16 and values["mask_size"] == 64
    assert values["licence"] == "CC0-1.0" and values["opset"] == 20
    assert values["labels"]["not_a_point"] == -1 and values["labels"]["bottom_right"] == 3


def test_sizes_that_vary_have_names(export: SimpleNamespace) -> None:
    shapes = {file.part: {one.name: one.shape for one in file.inputs} for file in export.description.files}
    assert shapes["encoder"] == {"image": ("height", "width", 3)}
    assert shapes["decoder"]["points"] == ("num_prompts", "num_points", 2)
    assert shapes["decoder"]["mask_input"] == ("num_prompts", 64, 64)
    assert shapes["prompt"]["points"] == ("num_prompts", "num_points", 2)


def test_meta_has_the_face_of_metas_decoder(export: SimpleNamespace) -> None:
    (meta,) = [file for file in export.description.files if file.file == "meta.onnx"]
    assert {one.name: one.shape for one in meta.inputs} == {
        "image_embeddings": (1, 64, 16, 16),
        "point_coords": (1, "num_points", 2),
        "point_labels": (1, "num_points"),
        "mask_input": (1, 1, 64, 64),
        "has_mask_input": (1,),
        "orig_im_size": (2,),
    }
    assert {one.type for one in meta.inputs} == {"float32"}
    assert [one.name for one in meta.outputs] == ["masks", "iou_predictions", "low_res_masks"]
    assert meta.outputs[0].shape == (1, 1, "height", "width")


def test_files_hold_standard_operators_and_nothing_of_this_machine(export: SimpleNamespace) -> None:
    for file in export.description.files:
        path = export.folder / file.file
        graph = onnx.load(path)
        onnx.checker.check_model(graph, full_check=True)
        assert [(one.domain, one.version) for one in graph.opset_import] == [("", 20)]
        assert b"site-packages" not in path.read_bytes() and b"/src/anymask" not in path.read_bytes()


def test_image_and_prompt_need_not_the_same_process_as_the_encoder(export: SimpleNamespace) -> None:
    """A page holds nothing but files: pixels go in at one end, logits come out at the other."""
    sessions = {part: onnxruntime.InferenceSession(export.folder / f"{part}.onnx") for part in PARTS}
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    (features,) = sessions["encoder"].run(None, {"image": pixels})
    names = [one.name for one in sessions["image"].get_outputs()]
    side = dict(zip(names, sessions["image"].run(None, {"features": features}), strict=True))
    prompt = {
        "points": np.array([[[40, 30], [0, 0]]], np.float32),
        "labels": np.array([[1, -1]], np.float32),
        "mask_input": np.full((1, 64, 64), np.nan, np.float32),  # surely not looked at
        "has_mask_input": np.zeros(1, np.float32),
    }
    taken = {one.name for one in sessions["prompt"].get_inputs()}
    given = {"features": features, **side, **prompt}
    assert set(given) == taken
    logits, iou = sessions["prompt"].run(None, given)
    with torch.no_grad():
        embedding = export.model.encode(export.model.preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None]))
        prompts = Prompts.build(points=torch.tensor([[[[40.0, 30.0]]]]), labels=torch.tensor([[[1]]]))
        wanted, wanted_iou = export.model.decode(embedding, prompts)
    assert np.abs(logits - wanted[0].numpy()).max() < MAX_LOGIT
    assert np.abs(iou - wanted_iou[0].numpy()).max() < MAX_LOGIT


def test_absent_points_change_nothing(export: SimpleNamespace) -> None:
    session = onnxruntime.InferenceSession(export.folder / "decoder.onnx")
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(1, 64, 16, 16, generator=generator)
    points = 128 * torch.rand(1, 3, 2, generator=generator)
    rest = {"mask_input": np.zeros((1, 64, 64), np.float32), "has_mask_input": np.zeros(1, np.float32)}

    def logits(points: torch.Tensor, labels: list[float]) -> np.ndarray:
        given = {"features": features.numpy(), "points": points.numpy(), "labels": np.array([labels], np.float32)}
        answered: np.ndarray = session.run(["logits"], given | rest)[0]
        return answered

    padded = logits(torch.cat([points, points], 1), [1, 0, -1, -2, -2, -2])
    assert np.abs(logits(points, [1, 0, -1]) - padded).max() < 1e-4


def _spoil(path: Path, target: Path) -> None:
    """Multiply one of the larger weights by 1.05."""
    graph = onnx.load(path)
    weight = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
    weight.CopyFrom(numpy_helper.from_array(1.05 * numpy_helper.to_array(weight), weight.name))
    onnx.save(graph, target)


def test_a_file_with_other_weights_does_not_pass(export: SimpleNamespace, tmp_path: Path) -> None:
    _spoil(export.folder / "decoder.onnx", tmp_path / "decoder.onnx")
    (verdict,) = verify(export.model, [open_exported(tmp_path / "decoder.onnx")], rounds=1)
    assert not verdict.passed


def test_a_file_of_another_model_is_refused(export: SimpleNamespace) -> None:
    other = build_sam(SIZES["smoke"]).eval()
    with pytest.raises(InputError, match=r"was exported from stirred with other weights"):
        list(verify(other, [open_exported(export.folder / "image.onnx")]))
    with pytest.raises(InputError, match="holds exports of another model, stirred"):
        export_onnx(other, export.folder, name="other", parts=["image"])


def test_a_later_part_joins_the_earlier_ones(export: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("encoder.onnx", FILE_NAME):
        shutil.copy(export.folder / name, tmp_path / name)
    description = export_onnx(export.model, tmp_path, name="stirred", parts=["image"], opset=18)
    assert [file.file for file in description.files] == ["encoder.onnx", "image.onnx"]
    assert onnx.load(tmp_path / "image.onnx").opset_import[0].version == 18


def test_the_model_is_left_as_it_was(export: SimpleNamespace, stirred: Sam) -> None:
    assert type(stirred.prompt_encoder).__name__ == "PromptEncoder"
    embedding = Embedding(features=torch.zeros(1, 64, 16, 16))
    prompts = Prompts.build(points=torch.tensor([[[[40.0, 30.0]]]]), labels=torch.tensor([[[1]]]))
    logits, _ = stirred.decode(embedding, prompts)
    assert logits.requires_grad
