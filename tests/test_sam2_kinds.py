"""All that a SAM 1 can do here, each kind of SAM 2's does: trained, asked, tiled, cached, measured, put to work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from anymask.checkpoints import load_model, save_model
from anymask.data.loader import Batch
from anymask.data.sample import InMemorySamples, Sample
from anymask.data.synthetic import SceneConfig
from anymask.data.synthetic.shards import GeneratedScenes
from anymask.engine.detectors import SmallDetectorConfig
from anymask.engine.pool import run_pool
from anymask.engine.project_model import model_path, set_project_model
from anymask.engine.stages import PREFILL, SEMI_AUTOMATIC, prefilling, semi_automatic
from anymask.engine.store import Annotation, NewImage, Put, init_project, open_project
from anymask.evaluation.single_point import ModelSegmenter, SinglePointConfig, evaluate
from anymask.geometry import rle
from anymask.inference import PLAIN, AutomaticMasks, EmbeddingCache, Predictor, Prompt
from anymask.inference.acceleration import accelerate
from anymask.inference.automatic.tiled import TiledMasks
from anymask.model import Sam
from anymask.task import LossConfig, RoundsConfig
from anymask.training.config import OptimConfig, RunConfig
from anymask.training.cost.flops import encoder_flops, rounds_flops
from anymask.training.cost.plan import needed_bytes
from anymask.training.finetuning.finetune import FinetuneConfig, Mode, finetune
from anymask.training.finetuning.lora import LoraConfig
from anymask.training.objectives.sam import sam_step
from sam2_models import ENCODERS, small

SIZE = (60, 90)
ANY = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
"""Of masks of everything: a model of random weights is sure of none."""


@pytest.fixture(scope="module", params=list(ENCODERS))
def model(request: pytest.FixtureRequest, randomise: Callable[..., None]) -> Sam:
    built = small(request.param)
    randomise(built)
    return built


def picture(height: int = SIZE[0], width: int = SIZE[1], seed: int = 0) -> np.ndarray:
    """Draw smooth waves of colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(3, 12, (3, 3))]
    return np.stack([127 + 120 * wave for wave in waves], -1).astype(np.uint8)


def rectangle() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[10:40, 20:70] = True
    return mask


def predictor_of(model: Sam, **options: object) -> Predictor:
    made = Predictor(model, refinement=PLAIN, **options)
    made.set_image(picture())
    return made


def test_a_step_trains_encoder_prompts_and_decoder(model: Sam) -> None:
    trained = copy.deepcopy(model).train()
    masks = torch.zeros(2, 2, 24, 24, dtype=torch.bool)
    masks[:, 0, 4:14, 5:20] = masks[:, 1, 12:22, 2:9] = True
    images = torch.randint(0, 255, (2, 3, 96, 96), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    valid = torch.ones(2, 24, 24, dtype=torch.bool)
    batch = Batch(images=images, masks=masks, known=masks, valid=valid, keys=("a", "b"))
    optimizer = torch.optim.SGD(trained.parameters(), lr=1e-2)
    rounds = RoundsConfig(num_corrections=1, num_refinements=1)
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    result = sam_step(trained, batch, rounds=rounds, loss=LossConfig(), generator=torch.Generator().manual_seed(2))
    optimizer.step()
    moved = {name for name, tensor in trained.state_dict().items() if not torch.equal(tensor, before[name])}
    assert result.loss.isfinite() and all(tensor.isfinite().all() for tensor in trained.state_dict().values())
    assert "image_encoder.no_mem_embed" in moved
    for part in ("image_encoder.trunk.", "image_encoder.neck.", "prompt_encoder.", "mask_decoder.transformer."):
        assert any(name.startswith(part) for name in moved), part
    assert model.config.decoder.skip_widths is None or "mask_decoder.conv_s0.weight" in moved


@pytest.mark.parametrize("mode", ["decoder", "lora"])
def test_fine_tuning_is_kept(model: Sam, mode: Mode, tmp_path: Path) -> None:
    config = FinetuneConfig(
        mode=mode,
        views=1,
        max_objects=2,
        run=RunConfig(steps=2, batch_size=2, num_masks=2, num_workers=0, save_every=2, log_every=1),
        optim=OptimConfig(learning_rate=1e-3, weight_decay=0.0, warmup=1, ema=0.5),
        lora=LoraConfig(rank=2, alpha=2.0),
        rounds=RoundsConfig(num_corrections=1, num_refinements=0),
    )
    tuned = finetune(model, GeneratedScenes(3, SceneConfig(size=96), seed=7), [], config, tmp_path / "run")
    state, was = tuned.state_dict(), model.state_dict()
    assert state.keys() == was.keys()
    changed = {name.split(".")[0] for name in state if not torch.equal(state[name], was[name])}
    assert changed == {"mask_decoder", "image_encoder"} if mode == "lora" else {"mask_decoder"}
    save_model(tuned, tmp_path / "tuned.safetensors")
    kept = predictor_of(load_model(tmp_path / "tuned.safetensors")).predict(points=[(30, 40)])
    assert_allclose(kept.logits, predictor_of(tuned).predict(points=[(30, 40)]).logits, rtol=1e-5, atol=1e-5)


def test_a_session_goes_on_from_the_mask_before(model: Sam) -> None:
    predictor = predictor_of(model)
    session = predictor.session()
    first = session.click(30, 40)
    second = session.click(70, 20, 0)
    asked = predictor.predict(points=[(30, 40), (70, 20)], labels=[1, 0], mask=first.logits[0])
    assert len(first) == 3 and len(second) == 1
    assert_allclose(second.logits, asked.logits, rtol=1e-4, atol=1e-4)
    assert second.object_score == pytest.approx(asked.object_score, abs=1e-4)


def test_a_batch_is_answered_as_one_image_after_the_other(model: Sam) -> None:
    pictures = [picture(), picture(80, 50, seed=1), picture(30, 120, seed=2)]
    prompts = [Prompt(points=[(20, 20)]), Prompt(box=(5, 5, 40, 28)), Prompt(points=[(9, 9)], box=(5, 5, 40, 28))]
    together = Predictor(model).predict_batch(pictures, [prompts] * 3, batch_size=2)
    predictor = Predictor(model)
    for pixels, found in zip(pictures, together, strict=True):
        predictor.set_image(pixels)
        for ours, alone in zip(found, predictor.predict_many(prompts), strict=True):
            assert ours.masks.shape[1:] == pixels.shape[:2]
            assert_allclose(ours.logits, alone.logits, rtol=1e-3, atol=1e-3)
            assert ours.object_score == pytest.approx(alone.object_score, abs=1e-3)


def test_the_cache_keeps_all_that_a_decoder_needs(model: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = predictor_of(model, cache=EmbeddingCache(tmp_path, 10**8)).predict(points=[(30, 40)])
    monkeypatch.setattr(Sam, "encode", lambda *_: pytest.fail("the image is encoded again"))
    kept = predictor_of(model, cache=EmbeddingCache(tmp_path, 10**8)).predict(points=[(30, 40)])
    assert_allclose(kept.scores, fresh.scores, atol=2e-2)
    assert (kept.masks == fresh.masks).mean() > 0.98  # it keeps half precision


def test_masks_of_everything_are_those_of_their_points(model: Sam) -> None:
    predictor = predictor_of(model)
    records = AutomaticMasks(model, **ANY).generate(picture())
    assert records
    for record in records:
        (point,) = record.point_coords
        answered = predictor.predict(points=[point], multimask=True)
        nearest = int(np.abs(answered.scores - record.predicted_iou).argmin())
        mask, found = answered.masks[nearest], rle.decode(record.rle)
        assert answered.scores[nearest] == pytest.approx(record.predicted_iou, abs=1e-4)
        assert (mask & found).sum() / (mask | found).sum() > 0.99
    adaptive = AutomaticMasks(model, adaptive=True, **ANY).generate(picture())
    assert adaptive and all(rle.decode(record.rle).shape == SIZE for record in adaptive)


def test_tiles_cover_a_large_image(model: Sam) -> None:
    records = TiledMasks(model, tile=64, overlap=16, **ANY).generate(picture(100, 150))
    assert records and all(rle.decode(record.rle).shape == (100, 150) for record in records)
    left, right = min(r.bbox[0] for r in records), max(r.bbox[0] + r.bbox[2] for r in records)
    assert left < 40 and right > 110


def test_single_points_are_measured(model: Sam) -> None:
    samples = InMemorySamples([Sample(key="a", image=picture(), masks=rectangle()[None])])
    result = evaluate(ModelSegmenter(model), {"one": samples}, SinglePointConfig(clicks=(1, 2), max_clicks=2))
    assert (result.sets[0].num_images, result.sets[0].num_masks) == (1, 1)
    assert 0 < result.mean.oracle <= 1 and result.mean.miou[1] <= result.mean.oracle
    assert result.calibration is not None


def test_a_project_is_prefilled(model: Sam, tmp_path: Path) -> None:
    init_project(tmp_path / "project")
    with open_project(tmp_path / "project", exclusive=False) as project:
        new = []
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(project.folder / "images" / name), picture())
            new.append(NewImage(name=name, location=f"images/{name}", size=SIZE, split="train"))
        drawn, waiting = project.images.add(new)
        project.annotations.change(
            drawn.id, 0, "ann", [Put(annotation=Annotation(id="m", rle=rle.encode(rectangle())))]
        )
        set_project_model(project, model)
        settings = project.settings.current().replace({"prefill_score": 0, "prefill_iou": 1e-9})
        project.settings.replace(settings)
        prefilling.train_on_project(project, model, SmallDetectorConfig(steps=2))
        semi_automatic.open_queue(project, [project.images.get(waiting.id)])
        done = run_pool(project, PREFILL, prefilling.PrefillTask(model=str(model_path(project))), workers=0)
        assert done.done == 1
        made = project.annotations.state(waiting.id).annotations
        assert made and all(each.provenance and each.provenance.stage == SEMI_AUTOMATIC for each in made)


def test_masks_of_nothing_are_told(model: Sam) -> None:
    """The object's score is a logit: where there is none, it is below 0, and the masks are the best guess still."""
    changed = copy.deepcopy(model)
    head = changed.mask_decoder.pred_obj_score_head
    assert head is not None
    scores = []
    for bias in (50.0, -50.0):
        with torch.no_grad():
            head.layers[2].bias.fill_(bias)
        found = predictor_of(changed).predict(points=[(30, 40)])
        assert found.object_score is not None
        scores.append(found.object_score)
        assert_allclose(found.logits, predictor_of(model).predict(points=[(30, 40)]).logits, rtol=1e-4, atol=1e-4)
    assert scores[0] > 0 > scores[1]


def test_what_training_costs_is_told(model: Sam) -> None:
    assert needed_bytes(model, FinetuneConfig(mode="lora")) > 1 << 20
    assert encoder_flops(model.config) > 1e6
    assert rounds_flops(model.config, RoundsConfig(num_corrections=2, num_refinements=1), 4) > 1e6


@pytest.mark.filterwarnings("ignore")  # of processors without such products
def test_the_encoder_may_compute_in_half_precision(model: Sam) -> None:
    exact = predictor_of(model).predict(points=[(30, 40)])
    halved = predictor_of(accelerate(copy.deepcopy(model), encoder_dtype=torch.bfloat16)).predict(points=[(30, 40)])
    assert (halved.masks == exact.masks).mean() > 0.9
    assert_allclose(halved.scores, exact.scores, atol=0.1)


def test_other_sizes_are_one_option_away(model: Sam, tmp_path: Path) -> None:
    save_model(model, tmp_path / "small.safetensors")
    larger = load_model(tmp_path / "small.safetensors", image_size=160)
    assert larger.config == replace(model.config, image_size=160)
    assert predictor_of(larger).predict(box=(5, 5, 60, 40)).logits.shape == (1, 40, 40)
