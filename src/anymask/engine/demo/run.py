"""The whole data engine once, in small: three stages, two retrainings, a release, with simulated people.

It is what `anymask engine demo` runs and what the end-to-end test measures. Where no model is given, a small one begins
with random weights, so that all it knows is learned in the demo. The time per image is bounded and the same in both
stages in which people draw: what they save on one mask they spend on the next.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from anymask.data.transforms import TransformConfig
from anymask.engine.detectors import SmallDetectorConfig
from anymask.engine.imports import FoundImage, import_found, read_source
from anymask.engine.pictures import HELD_OUT, TRAIN
from anymask.engine.pool import enqueue, run_pool
from anymask.engine.project_model import model_path, open_project_model, set_project_model
from anymask.engine.release import ReleasePlan, release
from anymask.engine.retrain import Retrained, RetrainPlan, retrain, score, write_training_data
from anymask.engine.stages import ASSISTED, AUTOMATIC, PREFILL, SEMI_AUTOMATIC, assisted, prefilling, semi_automatic
from anymask.engine.stages.annotator import Truth
from anymask.engine.stages.assisted import Simulation
from anymask.engine.stages.automatic import AutomaticTask
from anymask.engine.stages.semi_automatic import SemiAutomaticSimulation
from anymask.engine.store import Project, StoredImage, init_project, open_project
from anymask.geometry import rle
from anymask.model import SIZES, Sam, build_sam
from anymask.task.losses import LossConfig
from anymask.task.rounds import RoundsConfig

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """How large a demo is."""

    images: tuple[int, int, int] = (16, 12, 12)
    """Images of each of the three stages."""
    held_out: int = 6
    image_size: int = 96
    """Side of the small model's input, in pixels."""
    settings: Mapping[str, Any] = field(
        default_factory=lambda: {
            "image_seconds": 30,
            "tolerance": 0.02,
            "prefill_score": 0.1,
            "prefill_precision": 0.5,
            "auto_iou": 0.5,
            "auto_stability": 0.7,
        }
    )
    retraining: RetrainPlan = field(
        default_factory=lambda: RetrainPlan(
            steps=240,
            batch_size=8,
            num_masks=4,
            optimizer="muon",
            learning_rate=2e-2,
            ema=0.9,
            rounds=RoundsConfig(num_corrections=1, num_refinements=0),
            loss=LossConfig(focal=0.0, bce=2.0),
            transforms=TransformConfig(scale=(0.9, 1.6), flip=True, min_cells=12),
            test_points=8,
            test_masks=10,
        )
    )
    detector: SmallDetectorConfig = field(default_factory=lambda: SmallDetectorConfig(steps=150))
    automatic: Mapping[str, Any] = field(
        default_factory=lambda: {"points_per_side": 16, "crop_n_layers": 1, "points_per_batch": 256}
    )
    trained_rate: float = 7e-4
    """The highest learning rate where the demo begins with a trained model."""
    workers: int = 1
    seed: int = 0


def run_demo(
    folder: Path,
    *,
    pictures: Sequence[Path],
    held_out: Sequence[Path],
    plan: DemoPlan | None = None,
    model: Sam | None = None,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Run the demo on tars of SA-1B's layout, and return its report: stages, scores, release.

    The masks of `pictures` are known to the simulated people alone; those of `held_out` are imported, to judge models.
    `model` is the first; None makes a small one of random weights.
    """
    plan = plan or DemoPlan()
    init_project(folder)
    with open_project(folder, exclusive=False) as project:
        return _Lap(project, plan, Truth(pictures), say, model).run(pictures, held_out)


class _Lap:
    def __init__(self, project: Project, plan: DemoPlan, truth: Truth, say: Say, model: Sam | None) -> None:
        self.project, self.plan, self.truth, self.say, self.model = project, plan, truth, say, model
        self.scores: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def run(self, pictures: Sequence[Path], held_out: Sequence[Path]) -> dict[str, Any]:
        project, plan = self.project, self.plan
        project.settings.replace(project.settings.current().replace(plan.settings))
        import_found(project, _mixed(held_out, plan.held_out, masks=True), source="held-out", split=HELD_OUT)
        import_found(project, _mixed(pictures, sum(plan.images), masks=False), source="pictures", split=TRAIN)
        trigger = "random weights" if self.model is None else "the first"
        set_project_model(project, _small_model(plan) if self.model is None else self.model, trigger=trigger)
        first = write_training_data(project, project.cache).held_out
        self.scores.append(
            {"model": 1, "promoted": True, **_rounded(score(open_project_model(project), first, plan.retraining))}
        )
        self._done("set up")
        parts = self._parts()
        self._assisted(parts[0])
        self._retrain("after stage 1")
        self._semi_automatic(parts[1])
        self._retrain("after stage 2")
        self._automatic(parts[2])
        released = release(project, project.folder / "release", ReleasePlan(blur="none"))
        self._done("release")
        stages = {kind: self._summary(kind) for kind in (ASSISTED, SEMI_AUTOMATIC, AUTOMATIC)}
        stages[AUTOMATIC] |= self._quality(parts[2])
        return {
            "stages": stages,
            "scores": self.scores,
            "release": str(released.folder),
            "released": {"images": released.images, "masks": released.masks},
            "wall_seconds": self.seconds,
        }

    def _parts(self) -> list[list[StoredImage]]:
        """Share the images out among the stages, every kind of picture to each."""
        mine = [image for image in self.project.images.all() if image.split == TRAIN]
        sizes = self.plan.images
        parts: list[list[StoredImage]] = [[], [], []]
        for image in mine:
            fewest = min(
                (stage for stage in range(3) if len(parts[stage]) < sizes[stage]),
                key=lambda s: len(parts[s]) / sizes[s],
            )
            parts[fewest].append(image)
        return parts

    def _assisted(self, images: list[StoredImage]) -> None:
        assisted.open_queue(self.project, images)
        Simulation(self.project, open_project_model(self.project), self.truth).run()
        self._done(ASSISTED)

    def _semi_automatic(self, images: list[StoredImage]) -> None:
        model = open_project_model(self.project)
        least = prefilling.choose_confidence(self.project, model, config=self.plan.detector)
        prefilling.train_on_project(self.project, model, self.plan.detector)
        self._done("detector")
        semi_automatic.open_queue(self.project, images)
        task = prefilling.PrefillTask(model=str(model_path(self.project)), least=least)
        run_pool(self.project, PREFILL, task, workers=self.plan.workers)
        semi_automatic.open_people_queue(self.project)
        SemiAutomaticSimulation(self.project, model, self.truth).run(kind=SEMI_AUTOMATIC)
        self._done(SEMI_AUTOMATIC)

    def _automatic(self, images: list[StoredImage]) -> None:
        enqueue(self.project, AUTOMATIC, images)
        task = AutomaticTask(model=str(model_path(self.project)), overrides=dict(self.plan.automatic))
        run_pool(self.project, AUTOMATIC, task, workers=self.plan.workers)
        self._done(AUTOMATIC)

    def _retrain(self, trigger: str) -> None:
        # Who knows something already would forget it at the pace of who knows nothing.
        first = len(self.scores) == 1
        rate = self.plan.retraining.learning_rate * (1 if first else 0.3)
        if self.model is not None:
            rate = self.plan.trained_rate
        plan = dataclasses.replace(self.plan.retraining, learning_rate=rate, seed=len(self.scores))
        made: Retrained = retrain(self.project, plan, trigger=trigger)
        entry = {"model": made.model.id, "promoted": made.promoted, **_rounded(made.scores)}
        self.scores.append(entry)
        self._done(f"retraining {trigger}")

    def _summary(self, kind: str) -> dict[str, float]:
        found = self.project.outcomes.statistics(kind).summary()
        people = kind != AUTOMATIC  # whose seconds are the machine's
        return {
            "seconds": found["seconds_per_mask"] if people else 0.0,
            "clicks": found["clicks_per_mask"],
            "masks_per_image": found["masks_per_image"],
            "by_hand": found["by_hand"],
            **{name: found[name] for name in ("images", "prefilled", "confirmed", "fixed", "rejected", "added")},
        }

    def _quality(self, images: list[StoredImage]) -> dict[str, float]:
        """Return the share of masks that show an object, at an IoU of 0.5 and more, and that of the objects shown."""
        right, made, shown, objects = 0, 0, 0, 0
        for image in images:
            found = [each.rle for each in self.project.annotations.state(image.id).annotations]
            truth = rle.encode_many(self.truth.masks(image))
            made, objects = made + len(found), objects + len(truth)
            if found and truth:
                iou = rle.pairwise_iou(found, truth) >= 0.5
                right, shown = right + int(iou.any(axis=1).sum()), shown + int(iou.any(axis=0).sum())
        return {"right": round(right / max(made, 1), 3), "objects_shown": round(shown / max(objects, 1), 3)}

    def _done(self, what: str) -> None:
        now = time.monotonic()
        self.seconds[what] = round(now - self._last, 1)
        self._last = now
        self.say(f"{what}: {self.seconds[what]} s")


def _small_model(plan: DemoPlan) -> Sam:
    torch.manual_seed(plan.seed)
    return build_sam(dataclasses.replace(SIZES["smoke"], image_size=plan.image_size)).eval()


def _mixed(tars: Sequence[Path], count: int, *, masks: bool) -> Iterator[FoundImage]:
    """Take images from every tar in turn, `count` in all."""
    sources = [read_source("sa1b", str(tar), masks=masks) for tar in tars]
    taken = 0
    while sources and taken < count:
        for source in list(sources):
            found = next(source, None)
            if found is None:
                sources.remove(source)
            elif taken < count:
                taken += 1
                yield found


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}
