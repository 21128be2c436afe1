"""Retraining: when it is due, on what, and whether the new model becomes the project's (SAM, sec. 4)."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from anymask.data.files import make_folder
from anymask.data.open import open_data
from anymask.data.transforms import TransformConfig
from anymask.engine.formats import pairs
from anymask.engine.pictures import HELD_OUT, leaving_out, read_file_and_picture, split_of
from anymask.engine.project_model import keep, open_project_model
from anymask.engine.store import Project, StoredModel, is_peoples
from anymask.engine.store.counting import PEOPLES_MASKS, total
from anymask.errors import DataError, ImageError
from anymask.evaluation.single_point import ModelSegmenter, SinglePointConfig, evaluate
from anymask.geometry import rle
from anymask.inference.automatic.masks import AutomaticMasks
from anymask.model import SIZES, Sam, SamConfig, build_sam
from anymask.task.losses import LossConfig
from anymask.task.rounds import RoundsConfig
from anymask.training.config import CacheConfig, ModelConfig, OptimConfig, Recipe, RunConfig, SourceConfig
from anymask.training.loop import averaged_model
from anymask.training.objectives.sam import train

GATES = ("miou_1", "miou_3", "box", "everything")
"""Scores on held-out images, none of which may fall."""
_IMAGES_A_TAR = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainPlan:
    """How long and how the new model is trained; it starts from the present one."""

    steps: int = 500
    batch_size: int = 8
    num_masks: int = 8
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-4
    ema: float = 0.99
    rounds: RoundsConfig = field(default_factory=lambda: RoundsConfig(num_corrections=3, num_refinements=1))
    loss: LossConfig = field(default_factory=LossConfig)
    transforms: TransformConfig = field(default_factory=lambda: TransformConfig(scale=(0.8, 1.5), flip=True, color=0.2))
    num_workers: int = 0
    cache_mib: int = 256
    """MiB of decoded images, for each process that loads data."""
    device: str = "cpu"
    seed: int = 0
    test_images: int = 40
    """Held-out images that the gate looks at."""
    test_masks: int = 20
    """Masks of each held-out image that the gate looks at."""
    test_points: int = 16
    """A side, of the grid that is asked for everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """What came of it."""

    model: StoredModel
    promoted: bool
    scores: Mapping[str, float]
    before: Mapping[str, float]
    """Of the project's model until now, on the same images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """The project's masks as tars, and how many there are of each kind."""

    manual: tuple[Path, ...]
    automatic: tuple[Path, ...]
    held_out: tuple[Path, ...]
    num_manual: int
    num_automatic: int


def due(project: Project) -> str | None:
    """Return why a new model is due, or None: masks since the last, or hours."""
    settings = project.settings.current()
    history = project.models.all()
    last = history[-1].at if history else 0.0
    with project.database.reading() as connection:
        fresh = total(connection, PEOPLES_MASKS) - (history[-1].peoples_masks if history else 0)
    if settings.retrain_masks and fresh >= settings.retrain_masks:
        return f"{fresh} masks since the last model"
    with project.database.reading() as connection:
        hours = (project.database.now(connection) - last) / 3600
    if settings.retrain_hours and fresh and hours >= settings.retrain_hours:
        return f"{hours:.1f} hours since the last model"
    return None


def retrain(
    project: Project,
    plan: RetrainPlan | None = None,
    *,
    trigger: str = "by hand",
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Retrained:
    """Train a new model on the project's masks, and make it the project's if it is not worse on held-out images.

    Raises DataError where there is nothing to train on, or nothing to judge by.
    """
    plan = plan or RetrainPlan()
    model = open_project_model(project, device=plan.device)
    folder = project.cache / "retraining"
    shutil.rmtree(folder, ignore_errors=True)
    data = write_training_data(project, make_folder(folder))
    if not data.held_out:
        raise DataError(
            "no held-out image that can be read has a mask of people's yet, so a new model could not be judged by any"
        )
    recipe = build_recipe(model.config, data, plan, project.settings.current().manual_weight)
    state = train(recipe, folder / "run", start=model, progress=progress)
    fresh = build_sam(model.config)
    fresh.load_state_dict(averaged_model(state).state_dict())
    fresh.to(plan.device).eval()
    before, scores = score(model, data.held_out, plan), score(fresh, data.held_out, plan)
    verdict = judge(before, scores, project.settings.current().tolerance)
    stored = keep(
        project,
        fresh,
        trigger=trigger,
        num_masks=data.num_manual + data.num_automatic,
        scores=scores,
        verdict=verdict,
        promote=verdict == "promoted",
    )
    shutil.rmtree(folder, ignore_errors=True)
    return Retrained(model=stored, promoted=verdict == "promoted", scores=scores, before=before)


def judge(before: Mapping[str, float], after: Mapping[str, float], tolerance: float) -> str:
    """Return "promoted", or which score fell by more than the tolerance."""
    worse = [name for name in GATES if after[name] < before[name] - tolerance]
    if not worse:
        return "promoted"
    return "refused: " + ", ".join(f"{name} fell from {before[name]:.3f} to {after[name]:.3f}" for name in worse)


def score(model: Sam, tars: Sequence[Path], plan: RetrainPlan) -> dict[str, float]:
    """Score a model on held-out images: mean IoU after 1 and 3 clicks and for a box; and of everything.

    For everything it is the mean over true masks of the best IoU that any mask of a grid of points has with it.
    """
    files = open_data(tars)
    config = SinglePointConfig(clicks=(1, 3), max_clicks=3, max_images=plan.test_images, max_masks=plan.test_masks)
    result = evaluate(ModelSegmenter(model), {HELD_OUT: files}, config)
    generator = AutomaticMasks(model, points_per_side=plan.test_points, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    best: list[float] = []
    for index in range(min(len(files), plan.test_images)):
        sample = files.sample(index)
        found = [record.rle for record in generator.generate(sample.image)]
        truth = rle.encode_many(sample.masks)
        best += (rle.pairwise_iou(truth, found).max(axis=1) if found else np.zeros(len(truth))).tolist()
    return {
        "miou_1": result.mean.miou[1],
        "miou_3": result.mean.miou[3],
        "box": result.mean.box,
        "everything": float(np.mean(best)),
    }


def build_recipe(config: SamConfig, data: TrainingData, plan: RetrainPlan, manual_weight: float) -> Recipe:
    """Return the training run: a person's mask is drawn `manual_weight` times as often as a machine's.

    Raises DataError where there are no masks, or the model is of no size that can be trained.
    """
    weights = ((data.manual, data.num_manual * manual_weight), (data.automatic, data.num_automatic * 1.0))
    sources = tuple(
        SourceConfig(tars=tuple(map(str, tars)), weight=weight, transforms=plan.transforms)
        for tars, weight in weights
        if tars and weight
    )
    if not sources:
        raise DataError("there is nothing to train on: no image that can be read and is not held out has a mask")
    return Recipe(
        run=RunConfig(
            steps=plan.steps,
            batch_size=plan.batch_size,
            num_masks=plan.num_masks,
            num_workers=plan.num_workers,
            device=plan.device,
            seed=plan.seed,
            save_every=max(plan.steps, 1),
        ),
        sources=sources,
        model=ModelConfig(size=_size_of(config), image_size=config.image_size),
        optim=OptimConfig(
            kind=plan.optimizer, learning_rate=plan.learning_rate, warmup=max(1, plan.steps // 20), ema=plan.ema
        ),
        rounds=plan.rounds,
        loss=plan.loss,
        cache=CacheConfig(mib=plan.cache_mib),
    )


def _size_of(config: SamConfig) -> str:
    """Return the name of a model's size; raises DataError where it has none."""
    for name, known in SIZES.items():
        own = {field: getattr(known, field) for field in ("image_size", "pred_iou_thresh", "stability_score_thresh")}
        encoder = config.encoder
        if dataclasses.replace(encoder, drop_path=known.encoder.drop_path) == known.encoder:
            if dataclasses.replace(config, encoder=known.encoder, **own) == known:
                return name
    raise DataError(f"the project's model is of no size that can be trained; those are {', '.join(SIZES)}")


def write_training_data(project: Project, folder: Path) -> TrainingData:
    """Write the project's masks as tars of SA-1B's layout: people's, the machine's, and people's on held-out images.

    Images that cannot be read, or are of another size now, are left out with a warning.
    """
    settings = project.settings.current()
    writers = {name: _Tars(folder, name) for name in ("manual", "automatic", "held-out")}
    with leaving_out("the training data") as note:
        for image in project.images.all():
            if not image.num_annotations:
                continue
            found = project.annotations.state(image.id).annotations
            people = [each for each in found if is_peoples(each)]
            machine = [each for each in found if not is_peoples(each)]
            held = split_of(image, settings) == HELD_OUT
            parts = {"held-out": people} if held else {"manual": people, "automatic": machine}
            chosen = {name: some for name, some in parts.items() if some}
            if not chosen:
                continue
            try:
                encoded, _ = read_file_and_picture(project, image)
            except ImageError as error:
                note(error)
                continue
            for name, some in chosen.items():
                made = pairs.records(some)
                files = pairs.pair(f"{image.id:09d}", "jpg", encoded, image.size, image.id, made)
                writers[name].add(files, len(some))
    for writer in writers.values():
        writer.flush()
    return TrainingData(
        manual=tuple(writers["manual"].paths),
        automatic=tuple(writers["automatic"].paths),
        held_out=tuple(writers["held-out"].paths),
        num_manual=writers["manual"].num_masks,
        num_automatic=writers["automatic"].num_masks,
    )


class _Tars:
    """Tars of one kind, a few hundred images each."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._waiting: list[list[tuple[str, bytes]]] = []
        self.paths: list[Path] = []
        self.num_masks = 0

    def add(self, files: list[tuple[str, bytes]], num_masks: int) -> None:
        self._waiting.append(files)
        self.num_masks += num_masks
        if len(self._waiting) == _IMAGES_A_TAR:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            path = self._folder / f"{self._name}-{len(self.paths):05d}.tar"
            pairs.write_tar(path, self._files())
            self.paths.append(path)
            self._waiting = []

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for files in self._waiting:
            yield from files
