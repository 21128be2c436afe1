from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.checkpoints.average import mix_models
from anymask.data.sample import Sample
from anymask.data.synthetic import SceneConfig
from anymask.data.synthetic.shards import GeneratedScenes
from anymask.data.transforms import TransformConfig
from anymask.errors import DataError, InputError, OutputError
from anymask.inference import Predictor
from anymask.model import SIZES, DecoderConfig, Sam, ViTConfig, build_sam
from anymask.task import PromptConfig, RoundsConfig
from anymask.training.config import OptimConfig, RunConfig
from anymask.training.cost import plan
from anymask.training.finetuning import embedded
from anymask.training.finetuning.embedded import EmbeddedStream, EmbeddedViews, plan_views, view_bytes
from anymask.training.finetuning.finetune import (
    FinetuneConfig,
    choose_share,
    finetune,
    steps_within,
    without_encoder,
)
from anymask.training.finetuning.lora import LoraConfig, add_lora, merge_lora
from anymask.training.strict_toml import read_strictly

RECIPE = Path(__file__).parents[3] / "recipes" / "finetune.toml"


@pytest.fixture
def smoke(randomise: Callable[..., None]) -> Sam:
    config = dataclasses.replace(SIZES["smoke"], image_size=64)
    model = build_sam(config)
    randomise(model)
    return model.eval()


@pytest.fixture
def scenes() -> GeneratedScenes:
    return GeneratedScenes(5, SceneConfig(size=64), seed=7)


@pytest.fixture
def quick() -> FinetuneConfig:
    return FinetuneConfig(
        views=2,
        max_objects=4,
        run=RunConfig(steps=3, batch_size=2, num_masks=2, num_workers=0, save_every=2, log_every=1),
        optim=OptimConfig(learning_rate=1e-3, weight_decay=0.0, warmup=1, ema=0.5),
        lora=LoraConfig(rank=2, alpha=2.0),
    )


def _views(model: Sam, scenes: GeneratedScenes, folder: Path, **changes: int) -> EmbeddedViews:
    sizes = {"views": 2, "max_objects": 4, "max_bytes": 1 << 30, "seed": 0, **changes}
    return EmbeddedViews(model, scenes, TransformConfig(flip=True, color=0.5, min_cells=4), folder, **sizes)


def _state(model: Sam) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _changed(before: dict[str, torch.Tensor], after: Sam) -> set[str]:
    return {name.split(".")[0] for name, x in after.state_dict().items() if not torch.equal(x, before[name])}


def test_the_recipe_is_what_is_done_without_one() -> None:
    assert read_strictly(RECIPE, FinetuneConfig) == FinetuneConfig()


def test_an_embedding_is_what_the_predictor_makes_of_the_image(
    smoke: Sam, scenes: GeneratedScenes, tmp_path: Path
) -> None:
    views = _views(smoke, scenes, tmp_path, views=1)
    batch = views.batch([2], 3, np.random.default_rng(0))
    predictor = Predictor(smoke)
    predictor.set_image(scenes.sample(2).image)
    torch.testing.assert_close(batch.embedding.features, predictor.image.embedding.features, atol=2e-2, rtol=2e-2)
    assert batch.masks.shape == (1, 3, smoke.mask_size, smoke.mask_size)
    whole = {mask.tobytes() for mask in _halved(scenes.sample(2).masks, smoke.mask_size)}
    assert {mask.numpy().tobytes() for mask in batch.masks[0]} <= whole


def _halved(masks: np.ndarray, side: int) -> np.ndarray:
    factor = masks.shape[1] // side
    return masks.reshape(len(masks), side, factor, side, factor).mean((2, 4)) > 127 / 255


def test_embeddings_are_mapped_not_held(smoke: Sam, scenes: GeneratedScenes, tmp_path: Path) -> None:
    views = _views(smoke, scenes, tmp_path)
    assert len(views) == 2 * len(scenes)
    assert all(isinstance(stored, np.memmap) for stored in views._embeddings.values())
    assert (tmp_path / "features.f16").stat().st_size == len(views) * view_bytes(smoke)


def test_a_full_cache_has_fewer_views_and_then_fewer_images(smoke: Sam) -> None:
    one = view_bytes(smoke)
    assert plan_views(smoke, 10, 4, 100 * one) == (10, 4)
    assert plan_views(smoke, 10, 4, 25 * one) == (10, 2)
    assert plan_views(smoke, 10, 4, 5 * one) == (5, 1)
    with pytest.raises(DataError, match=r"0 MiB holds no embedding"):
        plan_views(smoke, 10, 4, one - 1)


def test_a_full_disk_is_told_before_anything_is_encoded(
    smoke: Sam, scenes: GeneratedScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(embedded.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"embeddings need .* GiB on this disk"):
        _views(smoke, scenes, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_batch_depends_on_its_number_alone(smoke: Sam, scenes: GeneratedScenes, tmp_path: Path) -> None:
    views = _views(smoke, scenes, tmp_path)
    stream = EmbeddedStream([(views, 0.5), (views, 0.5)], batch_size=3, num_masks=2, seed=1)
    first = [next(batches) for batches in [iter(stream)] for _ in range(3)][2]
    again = next(iter(EmbeddedStream(stream.sets, batch_size=3, num_masks=2, seed=1, start=2)))
    assert first.keys == again.keys
    assert torch.equal(first.masks, again.masks) and torch.equal(first.embedding.features, again.embedding.features)


@pytest.mark.parametrize(
    ("mode", "learned"),
    [
        ("decoder", {"mask_decoder"}),
        ("lora", {"mask_decoder", "image_encoder"}),
        ("all", {"mask_decoder", "image_encoder", "prompt_encoder"}),
    ],
)
def test_each_mode_changes_what_it_says(
    smoke: Sam, scenes: GeneratedScenes, quick: FinetuneConfig, tmp_path: Path, mode: str, learned: set[str]
) -> None:
    before = _state(smoke)
    config = dataclasses.replace(quick, mode=mode)
    tuned = finetune(smoke, scenes, [GeneratedScenes(3, SceneConfig(size=64), seed=9)], config, tmp_path)
    assert not _changed(before, smoke), "the model itself has changed"
    assert set(tuned.state_dict()) == set(before)
    assert _changed(before, tuned) == learned
    assert not any(parameter.requires_grad for parameter in tuned.parameters())
    statistics = [name for name in before if "running_" in name]
    assert statistics and all(torch.equal(before[n], tuned.state_dict()[n]) for n in statistics)


def test_an_interrupted_run_goes_on_to_the_same_weights(
    smoke: Sam, scenes: GeneratedScenes, quick: FinetuneConfig, tmp_path: Path
) -> None:
    whole = finetune(smoke, scenes, [], quick, tmp_path / "whole")

    def stop(step: int, values: dict[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(smoke, scenes, [], quick, tmp_path / "parts", progress=stop)
    resumed = finetune(smoke, scenes, [], quick, tmp_path / "parts")
    assert all(torch.equal(x, whole.state_dict()[name]) for name, x in resumed.state_dict().items())


def test_tuning_lowers_the_loss_of_a_box(scenes: GeneratedScenes, quick: FinetuneConfig, tmp_path: Path) -> None:
    """One kind of prompt, without corrections, so that batches are of like difficulty."""
    torch.manual_seed(0)
    model = build_sam(dataclasses.replace(SIZES["smoke"], image_size=64))
    losses: list[float] = []
    config = dataclasses.replace(
        quick,
        run=dataclasses.replace(quick.run, steps=80, batch_size=4, log_every=1),
        optim=dataclasses.replace(quick.optim, learning_rate=2e-3, warmup=5),
        rounds=RoundsConfig(num_corrections=0, num_refinements=0, prompts=PromptConfig(point=0.0)),
    )
    finetune(model, scenes, [], config, tmp_path, progress=lambda step, values: losses.append(values["loss"]))
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:5])


def test_minutes_become_steps_by_a_clock(
    smoke: Sam, scenes: GeneratedScenes, quick: FinetuneConfig, tmp_path: Path
) -> None:
    stream = EmbeddedStream([(_views(smoke, scenes, tmp_path), 1.0)], batch_size=1, num_masks=1, seed=0)
    ticks = iter([0.0, 100.0, 106.0])  # the first step, which warms up, takes 100 s; the three after it 2 s each
    assert steps_within(1.0, without_encoder(smoke), stream, quick, clock=lambda: next(ticks)) == 30


def test_low_rank_matrices_begin_as_nothing_and_merge_exactly(smoke: Sam) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    names, was = set(smoke.state_dict()), smoke.image_encoder(image)[0].detach()
    assert add_lora(smoke.image_encoder, LoraConfig(rank=2, alpha=2.0)) > 10
    learned = [name for name, p in smoke.image_encoder.named_parameters() if p.requires_grad]
    assert learned and all(name.endswith((".down", ".up")) for name in learned)
    torch.testing.assert_close(smoke.image_encoder(image)[0], was)
    with torch.no_grad():
        for name, parameter in smoke.image_encoder.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    moved = smoke.image_encoder(image)[0].detach()
    assert (moved - was).abs().max() > 0.01
    merge_lora(smoke.image_encoder)
    assert set(smoke.state_dict()) == names
    torch.testing.assert_close(smoke.image_encoder(image)[0], moved, atol=1e-4, rtol=1e-4)


def test_a_rank_beyond_every_layer_is_refused(smoke: Sam) -> None:
    with pytest.raises(InputError, match="a rank of 64 is too high"):
        add_lora(smoke.image_encoder, LoraConfig(rank=64))


def test_a_mixture_lies_between_the_models(smoke: Sam, randomise: Callable[..., None]) -> None:
    other = build_sam(smoke.config)
    randomise(other, seed=3)
    assert all(
        torch.equal(x, other.state_dict()[name]) for name, x in mix_models(smoke, other, 1.0).state_dict().items()
    )
    assert not _changed(_state(smoke), mix_models(smoke, other, 0.0)) - {
        "image_encoder"
    }  # whole numbers are the other's
    name = "mask_decoder.iou_token.weight"
    half = mix_models(smoke, other, 0.5).state_dict()[name]
    torch.testing.assert_close(half, (smoke.state_dict()[name] + other.state_dict()[name]) / 2)


def test_the_share_is_the_best_on_new_data_that_keeps_the_old(smoke: Sam) -> None:
    other = build_sam(smoke.config)
    marks = iter([(0.5, 0.6), (0.8, 0.5), (0.75, 0.597), (0.7, 0.61), (0.6, 0.6)])
    share, trials = choose_share(smoke, other, lambda model: next(marks), tolerance=0.005)
    assert share == 0.75
    assert [trial.share for trial in trials] == [0.0, 1.0, 0.75, 0.5, 0.25]
    losing = iter([(0.5, 0.6), *[(0.4, 0.6)] * 4])
    assert choose_share(smoke, other, lambda model: next(losing), tolerance=0.005)[0] == 0.0


def test_memory_is_estimated_and_refused_in_one_line(smoke: Sam, quick: FinetuneConfig) -> None:
    whole = dataclasses.replace(quick, mode="all")
    assert plan.needed_bytes(smoke, whole) > plan.needed_bytes(smoke, quick) > 1 << 20
    large = dataclasses.replace(quick, run=dataclasses.replace(quick.run, batch_size=64))
    assert plan.needed_bytes(smoke, large) > 5 * plan.needed_bytes(smoke, quick)
    assert plan.check_memory(smoke, quick, available=1 << 40) > 0
    with pytest.raises(InputError, match=r"fine-tuning \(all\) takes about .* GiB of memory.*use --mode decoder"):
        plan.check_memory(smoke, whole, available=1 << 20)


def test_models_of_other_encoders_can_be_tuned(
    randomise: Callable[..., None], scenes: GeneratedScenes, quick: FinetuneConfig, tmp_path: Path
) -> None:
    encoder = ViTConfig(width=32, depth=2, num_heads=2, global_blocks=(1,), window_size=2, position_grid=4)
    decoder = DecoderConfig(num_heads=4, mlp_dim=32, iou_hidden=16)
    hq = dataclasses.replace(decoder, hq_feature_width=32)
    for kind in (decoder, hq):
        config = dataclasses.replace(SIZES["vit_b"], encoder=encoder, decoder=kind, width=32, image_size=64)
        model = build_sam(config)
        randomise(model)
        for mode in ("decoder", "lora"):
            tuned = finetune(model, scenes, [], dataclasses.replace(quick, mode=mode), tmp_path / f"{mode}{kind == hq}")
            assert "mask_decoder" in _changed(_state(model), tuned)


def test_images_that_cannot_be_read_are_left_out(smoke: Sam, scenes: GeneratedScenes, tmp_path: Path) -> None:
    class Broken(GeneratedScenes):
        def sample(self, index: int, **options: object) -> Sample:
            if index == 1:
                raise DataError("scene 1 is broken")
            return super().sample(index)

    views = _views(smoke, Broken(3, SceneConfig(size=64), seed=7), tmp_path, views=1)
    assert len(views) == 2 and views.skipped.total == 1
