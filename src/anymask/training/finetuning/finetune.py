"""Fine-tuning: a model taught a user's own kind of picture, without losing what it knew.

What keeps the old skill: in the default mode nothing but the mask decoder learns; every kind of prompt stays in
training, corrections included; a share of each batch is data from before (generated scenes where there is none); the
rate is small and the weights are averaged; and at the end the weights are mixed with those of the model before
(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"), by as much as held-out images ask for (`mix_models`).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import IterableDataset

from anymask.checkpoints.average import mix_models
from anymask.data.loader import Batch, BatchStream, Source
from anymask.data.sample import SampleSet, Subset
from anymask.data.transforms import TransformConfig
from anymask.model import Sam
from anymask.task import LossConfig, PromptConfig, RoundsConfig
from anymask.training.config import OptimConfig, RunConfig
from anymask.training.finetuning.embedded import EmbeddedBatch, EmbeddedStream, EmbeddedViews, Progress
from anymask.training.finetuning.lora import LoraConfig, add_lora, merge_lora
from anymask.training.loop import Objective, averaged_model, run, state_of
from anymask.training.objectives.sam import StepResult, sam_step
from anymask.training.state import TrainingState

Mode = Literal["decoder", "lora", "all"]

_TIMED_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """A fine-tuning as `recipes/finetune.toml` says it; the defaults are that recipe's.

    `run.device` and `run.num_workers` are set by whoever calls; the cached embeddings of the mode "decoder" are read
    in the training process.
    """

    mode: Mode = "decoder"
    """The mask decoder alone, on embeddings made once; low-rank matrices in the encoder as well; or everything."""
    views: int = 8
    """Variations of each image whose embeddings are kept: the image as it is, and the others by `transforms`."""
    old_views: int = 1
    """The same of the data from before, of which there is more."""
    max_objects: int = 32
    """Objects kept of a view: what bounds memory where an image has hundreds."""
    cache_mib: int = 4096
    """Disk for embeddings, shared by the new data and the old; where it is too little, views and then images go."""
    replay: float = 0.4
    """Share of the images in a batch that are data from before."""
    old_images: int = 160
    """Images from before whose embeddings are kept, over all sets; scenes generated where there is no such data."""
    hold_out: float = 0.15
    """Share of the images that are kept for the report, and never learned from."""
    choose_on: float = 0.1
    """Share of the images by which the mixing with the model before is chosen."""
    tolerance: float = 0.005
    """Mean IoU that the mixing may lose on data from before."""
    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            steps=300, batch_size=2, num_masks=8, precision="bfloat16", num_workers=0, save_every=50, log_every=10
        )
    )
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            learning_rate=3e-4, weight_decay=0.0, warmup=20, final_factor=0.05, ema=0.98
        )
    )
    rounds: RoundsConfig = field(
        default_factory=lambda: RoundsConfig(
            num_corrections=2, num_refinements=0, prompts=PromptConfig(point=2.0, box=1.0, mask=1.0)
        )
    )
    loss: LossConfig = field(default_factory=lambda: LossConfig(focal=0.0, bce=2.0, iou=2.0, iou_on="all"))
    lora: LoraConfig = field(default_factory=LoraConfig)
    transforms: TransformConfig = field(
        default_factory=lambda: TransformConfig(scale=(0.8, 2.0), aspect=0.2, flip=True, color=0.4)
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot be run with; raises ValueError."""
        for name in ("views", "old_views", "max_objects", "cache_mib", "old_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.replay < 1:
            raise ValueError(f"replay is {self.replay}; it must be at least 0 and below 1")
        for name in ("hold_out", "choose_on"):
            if not 0 < getattr(self, name) < 0.5:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and below a half")
        if self.tolerance < 0:
            raise ValueError(f"tolerance is {self.tolerance}; it must be at least 0")


def finetune(
    model: Sam,
    new: SampleSet,
    old: Sequence[SampleSet],
    config: FinetuneConfig,
    folder: Path,
    *,
    minutes: float | None = None,
    encoding: Progress | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
    begins: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Sam:
    """Return a tuned copy of the model, in evaluation mode; the model itself stays as it is.

    `folder` takes what a run leaves (`anymask.training.loop.run`) and the embeddings; a run that was interrupted goes
    on there. With `minutes`, steps are timed first, and as many are made as fit; `begins` hears how many. Raises
    TrainingError, DataError where no image can be learned from, OutputError where the disk is full.
    """
    model = model.to(config.run.device).eval()
    if config.mode == "decoder":
        open_stream, build = _on_embeddings(model, new, old, config, folder, encoding)
    else:
        open_stream, build = _on_images(model, new, old, config)
    if minutes is not None:
        steps = steps_within(minutes, build().model, open_stream(0), config, clock=clock)
        config = replace(config, run=replace(config.run, steps=steps))
    if begins is not None:
        begins(config.run.steps)
    state = run(
        config,
        folder,
        Objective(
            build=build,
            stream=lambda step: open_stream(step * config.optim.accumulate),
            step=lambda trained, batch, generator, scale: train_step(trained, batch, generator, scale, config),
        ),
        progress=progress,
        clock=clock,
    )
    return _finished(model, averaged_model(state), config.mode)


def train_step(
    model: Sam, batch: Batch, generator: torch.Generator, scale: float, config: FinetuneConfig
) -> StepResult:
    """Leave a share of a batch's gradient in the parameters; statistics of batches stay those of the model before."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    embedding = batch.embedding if isinstance(batch, EmbeddedBatch) else None
    return sam_step(
        model,
        batch,
        rounds=config.rounds,
        loss=config.loss,
        generator=generator,
        precision=getattr(torch, config.run.precision),
        scale=scale,
        embedding=embedding,
    )


def steps_within(
    minutes: float, model: Sam, stream: IterableDataset[Batch], config: FinetuneConfig, *, clock: Callable[[], float]
) -> int:
    """Return how many steps fit into some minutes, by the time of a few; the first, which warms up, is not counted."""
    generator = torch.Generator(config.run.device).manual_seed(0)
    batches = iter(stream)
    began = clock()
    for done in range(_TIMED_STEPS + 1):
        if done == 1:
            began = clock()
        train_step(model.train(), next(batches).to(config.run.device), generator, 1.0, config)
    seconds = (clock() - began) / _TIMED_STEPS * config.optim.accumulate
    return max(1, int(60 * minutes / seconds))


Streams = Callable[[int], IterableDataset[Batch]]
Build = Callable[[], TrainingState[Sam]]


def _on_embeddings(
    model: Sam,
    new: SampleSet,
    old: Sequence[SampleSet],
    config: FinetuneConfig,
    folder: Path,
    encoding: Progress | None,
) -> tuple[Streams, Build]:
    """Encode every image, and train what comes after the encoder."""
    sets = _weighted(new, [_drawn(files, config, len(old)) for files in old], config.replay)
    counts = [config.views] + [config.old_views] * (len(sets) - 1)
    total = sum(len(files) * count for (files, _), count in zip(sets, counts, strict=True))
    views, done = [], 0
    for number, ((files, weight), count) in enumerate(zip(sets, counts, strict=True)):
        made = EmbeddedViews(
            model,
            files,
            config.transforms,
            folder / f"embeddings-{number}",
            views=count,
            max_objects=config.max_objects,
            max_bytes=(config.cache_mib << 20) // len(sets),
            seed=config.run.seed + number,
            progress=None if encoding is None else _after(encoding, done, total),
        )
        done += len(files) * count
        views.append((made, weight))
    run_config = config.run

    def open_stream(start: int) -> EmbeddedStream:
        return EmbeddedStream(
            views, batch_size=run_config.batch_size, num_masks=run_config.num_masks, seed=run_config.seed, start=start
        )

    def build() -> TrainingState[Sam]:
        light = without_encoder(model).requires_grad_(False)
        light.mask_decoder.requires_grad_(True)
        return state_of(light, config)

    return open_stream, build


def _on_images(model: Sam, new: SampleSet, old: Sequence[SampleSet], config: FinetuneConfig) -> tuple[Streams, Build]:
    """Train the encoder too, on images that are varied differently each time."""
    run_config = config.run
    sources = [
        Source(files=files, weight=weight, transforms=config.transforms)
        for files, weight in _weighted(new, old, config.replay)
    ]

    def open_stream(start: int) -> BatchStream:
        return BatchStream(
            sources,
            batch_size=run_config.batch_size,
            num_masks=run_config.num_masks,
            image_size=model.image_size,
            mask_size=model.mask_size,
            seed=run_config.seed,
            start=start,
            fit=model.config.fit,
        )

    def build() -> TrainingState[Sam]:
        trained = copy.deepcopy(model)
        if config.mode == "lora":
            trained.requires_grad_(False)
            add_lora(trained.image_encoder, config.lora, seed=run_config.seed)
            trained.mask_decoder.requires_grad_(True)
        else:
            trained.requires_grad_(True)
        return state_of(trained, config)

    return open_stream, build


def _weighted(new: SampleSet, old: Sequence[SampleSet], replay: float) -> list[tuple[SampleSet, float]]:
    """Give the new data its share of a batch, and each set of the old an equal part of the rest."""
    if not old or not replay:
        return [(new, 1.0)]
    return [(new, 1 - replay), *((files, replay / len(old)) for files in old)]


def _drawn(files: SampleSet, config: FinetuneConfig, num_sets: int) -> SampleSet:
    """Return a set's share of the images from before, drawn at random."""
    most = max(1, config.old_images // num_sets)
    if len(files) <= most:
        return files
    drawn = np.random.default_rng(config.run.seed).permutation(len(files))[:most]
    return Subset(files, sorted(drawn.tolist()))


def _after(progress: Progress, done: int, total: int) -> Progress:
    return lambda views, _: progress(done + views, total)


def without_encoder(model: Sam) -> Sam:
    """Return a copy of the model without its image encoder, which takes most of the memory."""
    encoder = model.image_encoder
    model.image_encoder = nn.Identity()
    try:
        return copy.deepcopy(model)
    finally:
        model.image_encoder = encoder


def _finished(model: Sam, trained: Sam, mode: Mode) -> Sam:
    """Return a whole model of plain layers, with what was learned."""
    if mode == "decoder":
        tuned = copy.deepcopy(model)
        tuned.mask_decoder.load_state_dict(trained.mask_decoder.state_dict())
    else:
        tuned = copy.deepcopy(trained)
        merge_lora(tuned.image_encoder)
    return tuned.requires_grad_(False).eval()


SHARES = (1.0, 0.75, 0.5, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a mixture with `share` of the tuned weights reached on the new data and on the data from before."""

    share: float
    new: float
    old: float


def choose_share(
    before: Sam,
    after: Sam,
    score: Callable[[Sam], tuple[float, float]],
    *,
    tolerance: float,
    shares: Sequence[float] = SHARES,
) -> tuple[float, list[Trial]]:
    """Return the share that is best on the new data of those that lose at most `tolerance` on the old, and all trials.

    `score` gives a model's mark on the new data and on the old. The share is 0 where no other gains on the new data.
    """
    trials = [Trial(share=0.0, new=(found := score(before))[0], old=found[1])]
    for share in shares:
        new, old = score(mix_models(before, after, share))
        trials.append(Trial(share=share, new=new, old=old))
    kept = [trial for trial in trials if trial.old >= trials[0].old - tolerance]
    return max(kept, key=lambda trial: trial.new).share, trials
