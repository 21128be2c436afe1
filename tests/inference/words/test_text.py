from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import word_models
from anymask.checkpoints import load_model, model_hash, read_checkpoint, save_model
from anymask.cli import arguments, main
from anymask.errors import CheckpointError, InputError, PromptError
from anymask.geometry import rle
from anymask.inference import Predictor, Prompt, TextMasks, TextOptions
from anymask.inference.words.clip import Clip
from anymask.inference.words.detector import DETECTOR, TransformersDetector, WordBox
from anymask.inference.words.local_weights import is_on_this_machine
from anymask.inference.words.text import check_phrases, select
from anymask.model import SIZES, Sam, SamConfig, TextConfig, build_sam


class Answers:
    """A detector that knows what it will say."""

    def __init__(self, *boxes: tuple[str, float, tuple[float, float, float, float]]) -> None:
        self.boxes = [WordBox(phrase=phrase, score=score, box=box) for phrase, score, box in boxes]

    def detect(self, image: np.ndarray, phrases: Any, /) -> list[WordBox]:
        return [box for box in self.boxes if box.phrase in phrases]


CUP, LID, SPOON = (
    ("cup", 0.9, (10.0, 10.0, 50.0, 50.0)),
    ("lid", 0.6, (12.0, 10.0, 50.0, 48.0)),
    ("spoon", 0.4, (60.0, 5.0, 130.0, 30.0)),
)


def _image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return build_sam(SIZES["smoke"]).eval()


@pytest.fixture(scope="module")
def worded() -> Sam:
    torch.manual_seed(0)
    config = SIZES["smoke"].to_dict() | {"text": {"width": 48, "clip": "owner/none"}}
    return build_sam(SamConfig.from_dict(config)).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        word_models.owl(folder / "owl")
        word_models.clip(folder / "clip")
        word_models.grounding(folder / "grounding")
    return folder


def test_thresholds_suppression_and_the_number_of_results() -> None:
    boxes = Answers(CUP, LID, SPOON).boxes
    assert [box.phrase for box in select(boxes, TextOptions())] == ["cup", "spoon"]
    assert [box.phrase for box in select(boxes, TextOptions(nms=0.95))] == ["cup", "lid", "spoon"]
    assert [box.phrase for box in select(boxes, TextOptions(nms=0.95, threshold=0.6))] == ["cup", "lid"]
    assert [box.phrase for box in select(boxes, TextOptions(max_results=1))] == ["cup"]
    assert select([], TextOptions()) == []


def test_options_that_make_no_sense() -> None:
    for bad in ({"threshold": 1.5}, {"nms": -0.1}, {"max_results": 0}, {"refinements": -1}):
        with pytest.raises(InputError):
            TextOptions(**bad)  # type: ignore[arg-type]


def test_phrases_are_cleaned() -> None:
    assert check_phrases([" a  cup ", "a cup", "spoon"]) == ["a cup", "spoon"]
    for bad in ([], [""], ["cup", " "], ["..."]):
        with pytest.raises(PromptError, match="words are missing"):
            check_phrases(bad)
    with pytest.raises(PromptError, match="101 phrases"):
        check_phrases([str(n) for n in range(101)])


def test_each_box_becomes_a_named_mask(sam: Sam) -> None:
    found = TextMasks(sam, Answers(CUP, LID, SPOON)).find(_image(), ["cup", "spoon"])
    assert [(one.phrase, one.score) for one in found] == [("cup", 0.9), ("spoon", 0.4)]
    assert all(one.rle["size"] == [60, 100] for one in found)
    predictor = Predictor(sam)
    predictor.set_image(_image())
    refined = predictor.predict(box=CUP[2])
    assert (rle.decode(found[0].rle) == refined.best).all()
    assert TextMasks(sam, Answers(CUP)).find(_image(), ["cup"], threshold=0.95) == []


def test_the_predictor_answers_words_with_all_that_is_found(sam: Sam) -> None:
    predictor = Predictor(sam, detector=Answers(CUP, SPOON))
    predictor.set_image(_image())
    one, none = predictor.predict(text="cup"), predictor.predict(text="fork")
    assert one.masks.shape == (1, 60, 100) and none.masks.shape == (0, 60, 100) and len(none.logits) == 0
    assert [found.phrase for found in predictor.find(["spoon", "cup"])] == ["cup", "spoon"]
    with pytest.raises(PromptError, match="knows no words beside"):
        predictor.predict(text="cup", points=[(5, 5)])
    with pytest.raises(PromptError, match="words are missing"):
        predictor.predict(text=" ")
    predictor.set_embedding(predictor.image.embedding, (60, 100))
    with pytest.raises(PromptError, match="needs the image itself"):
        predictor.predict(text="cup")


def test_weights_that_are_not_here_are_named_with_the_command_that_fetches_them(sam: Sam, tmp_path: Path) -> None:
    predictor = Predictor(sam)
    predictor.set_image(_image())
    with pytest.raises(CheckpointError, match=f"`hf download {DETECTOR}` fetches them") as caught:
        predictor.predict(text="a cup")
    assert "\n" not in str(caught.value) and not is_on_this_machine(DETECTOR)
    with pytest.raises(CheckpointError, match="no such folder"):
        TransformersDetector(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="holds no open-vocabulary detector"):
        TransformersDetector(tmp_path)


def test_boxes_are_those_of_transformers(folders: Path) -> None:
    detector = TransformersDetector(folders / "owl")
    phrases, image = ["red disc", "blue square"], _image()
    found = detector.detect(image, phrases)
    processor = detector._processor
    with torch.inference_mode():
        kept = {"padding": "max_length", "max_length": 20}
        answered = detector._model(**processor(text=[phrases], images=image, return_tensors="pt", **kept))
    (theirs,) = processor.post_process_grounded_object_detection(answered, threshold=0.0, target_sizes=[(60, 100)])
    order = theirs["scores"].argsort(descending=True, stable=True)
    assert len(found) == len(order)
    np.testing.assert_allclose([box.score for box in found], theirs["scores"][order], atol=1e-5)
    np.testing.assert_allclose([box.box for box in found], theirs["boxes"][order], atol=1e-3)
    assert [box.phrase for box in found] == [phrases[k] for k in theirs["labels"][order]]
    with pytest.raises(PromptError, match="tokens long"):
        detector.detect(image, ["a very long phrase indeed"])
    with pytest.raises(CheckpointError, match="it is of type clip"):
        TransformersDetector(folders / "clip")


def test_grounding_dino_is_asked_for_all_phrases_in_one_sentence(folders: Path) -> None:
    detector = TransformersDetector(folders / "grounding")
    phrases, image = ["Red  disc", "zebra.", "blue"], _image()
    found = detector.detect(image, phrases)
    processor, model = detector._processor, detector._model
    inputs = processor(images=image, text="red disc. zebra. blue.", return_tensors="pt")
    tokens = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert tokens == ["[CLS]", "red", "disc", ".", "z", "##e", "##b", "##r", "##a", ".", "blue", ".", "[SEP]"]
    with torch.inference_mode():
        answered = model(**inputs)
    chances = answered.logits[0].sigmoid()
    scores = torch.stack([chances[:, part].amax(1) for part in (slice(1, 3), slice(4, 9), slice(10, 11))], 1)
    best, phrase = scores.max(1)
    (theirs,) = processor.post_process_grounded_object_detection(answered, threshold=0.0, target_sizes=[(60, 100)])
    order = best.argsort(descending=True, stable=True)
    assert len(found) == len(theirs["boxes"]) == 12 and len({box.phrase for box in found}) > 1
    np.testing.assert_allclose([box.box for box in found], theirs["boxes"][order], atol=1e-3)
    np.testing.assert_allclose([box.score for box in found], best[order], atol=1e-6)
    assert [box.phrase for box in found] == [phrases[k] for k in phrase[order]]
    with pytest.raises(PromptError, match="the 9 phrases are together 47 tokens long"):
        detector.detect(image, [f"zeb{letter}" for letter in "abcdefghi"])


def test_grounding_dino_through_the_whole_path(sam: Sam, folders: Path, tmp_path: Path) -> None:
    phrases, image = ["red disc", "blue square"], _image()
    boxes = TransformersDetector(folders / "grounding").detect(image, phrases)
    middle = boxes[5].score
    every, some = (
        TextMasks(sam, folders / "grounding", TextOptions(threshold=threshold, nms=1.0)).find(image, phrases)
        for threshold in (0.0, middle)
    )
    assert [(one.phrase, one.box) for one in every] == [(box.phrase, box.box) for box in boxes]
    assert [one.score for one in some] == [one.score for one in every[:6]]
    assert all(one.rle["size"] == [60, 100] for one in every) and {one.phrase for one in every} == set(phrases)
    save_model(sam, tmp_path / "sam.safetensors")
    Image.fromarray(image).save(tmp_path / "noise.png")
    words = [word for phrase in phrases for word in ("--text", phrase)]
    command = ["segment", tmp_path / "noise.png", *words, "--model", tmp_path / "sam.safetensors", "-o", tmp_path]
    command += ["--detector", folders / "grounding", "--threshold", middle, "--nms", 1]
    assert main([str(part) for part in command]) == 0
    named = json.loads((tmp_path / "noise.json").read_text())["annotations"]
    assert [(one["text"], one["text_score"]) for one in named] == [(o.phrase, pytest.approx(o.score)) for o in some]


def test_clip_sees_the_object_alone_in_its_last_layer(folders: Path) -> None:
    clip = Clip(folders / "clip")
    crop = torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8)
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, :8, :8] = True
    whole, part = clip.objects(crop, torch.ones_like(mask)), clip.objects(crop, mask)
    assert whole.norm() == pytest.approx(1, abs=1e-5) and (whole - part).abs().max() > 1e-3
    small = mask.clone()
    small[:, 5:, :] = False  # less than half of one patch: still that patch
    small[:, :, 5:] = False
    torch.testing.assert_close(clip.objects(crop, small), part)
    words = clip.words("red disc")
    assert words.shape == (48,) and np.linalg.norm(words) == pytest.approx(1, abs=1e-5)
    with pytest.raises(PromptError, match="tokens long"):
        clip.words("word " * 50)


def test_words_prompt_a_model_that_knows_them(worded: Sam, folders: Path, tmp_path: Path) -> None:
    predictor = Predictor(worded, clip=folders / "clip")
    predictor.set_image(_image())
    alone, other = predictor.predict(text="red disc"), predictor.predict(text="blue square")
    assert len(alone) == 1 and not np.array_equal(alone.logits, other.logits)
    clicked = predictor.predict(text="red disc", points=[(30, 30)])
    assert not np.array_equal(clicked.logits, alone.logits)
    mixed = predictor.predict_many([Prompt(points=[(30, 30)]), Prompt(text="red disc")])
    assert len(mixed[0]) == 3
    np.testing.assert_allclose(mixed[1].logits, alone.logits, atol=1e-4)
    with pytest.raises(CheckpointError, match="`hf download owner/none` fetches them"):
        lost = Predictor(worded)
        lost.set_image(_image())
        lost.predict(text="red disc")


def test_files_keep_the_projection_and_old_models_stay_what_they_were(sam: Sam, worded: Sam, tmp_path: Path) -> None:
    save_model(worded, tmp_path / "worded")
    config, state, _ = read_checkpoint(tmp_path / "worded")
    assert config.text == TextConfig(width=48, clip="owner/none")
    again = load_model(tmp_path / "worded")
    assert model_hash(again) == model_hash(worded) != model_hash(sam)
    assert state["prompt_encoder.text_projection.weight"].shape == (64, 48)
    assert "text" not in sam.config.to_dict() and SamConfig.from_dict(sam.config.to_dict()) == sam.config
    assert not any("text" in name for name in sam.state_dict())
    with pytest.raises(CheckpointError, match="native"):
        save_model(worded, tmp_path / "meta", "meta")


def test_the_commands_defaults_are_those_of_python() -> None:
    options = TextOptions()
    assert (arguments.DETECTOR, arguments.THRESHOLD, arguments.NMS) == (DETECTOR, options.threshold, options.nms)
