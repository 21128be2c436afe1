"""What do verifiers save people in the second stage, and what do they cost?

    python benchmarks/verifiers.py DATA [--known 4] [--pictures 4] [--seeds 1] [--image-seconds 30]

DATA is a folder of tars in SA-1B's layout, one `KIND-val.tar` a kind that the model was not trained on. The project
knows people's masks of `--known` pictures of each kind; `--pictures` others are prefilled. Then simulated people work
on them, once on all that was prefilled, once on what the verifiers leave to them: the same pictures, the same detector,
the same people. Printed for each way: seconds of people, masks kept, objects found (a kept mask at an IoU of 0.85 and
more), mean IoU of what is kept, and what the verifiers accepted: truly wrong by the masks, and as audits see it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import anymask
from anymask.engine.detectors import SmallDetectorConfig
from anymask.engine.imports import FoundImage, import_found, read_source
from anymask.engine.pictures import TRAIN
from anymask.engine.pool import run_pool
from anymask.engine.project_model import model_path, open_project_model, set_project_model
from anymask.engine.stages import PREFILL, SEMI_AUTOMATIC, VERIFY, prefilling, semi_automatic
from anymask.engine.stages.annotator import AnnotatorModel, SimulatedAnnotator, Truth
from anymask.engine.stages.semi_automatic import RIGHT_IOU, SemiAutomaticSimulation
from anymask.engine.store import VERIFIER, Project, StoredImage, init_project, open_project
from anymask.engine.store.verdicts import wilson
from anymask.engine.verification import acceptance
from anymask.engine.verification.completeness import train_completeness
from anymask.engine.verification.training import train_verifier
from anymask.geometry import rle
from machine import machine

KINDS = "animals balloons embryos fruit kuih mushrooms nails pellets tools trashbags".split()


@dataclass
class Sums:
    """Of one way over pictures."""

    seconds: float = 0.0
    kept: int = 0
    objects: int = 0
    found: int = 0
    ious: list[float] = field(default_factory=list)
    accepted: int = 0
    false: int = 0
    """Accepted by the verifier at an IoU below 0.85."""
    looked_at: int = 0
    agreed: int = 0
    pictures: int = 0
    opened: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    def row(self) -> dict[str, float]:
        low, high = wilson(self.agreed, self.looked_at)
        return {
            "seconds": round(self.seconds, 1),
            "kept": self.kept,
            "found": self.found,
            "objects": self.objects,
            "seconds_per_right_mask": round(self.seconds / max(self.found, 1), 2),
            "mean_iou": round(float(np.mean(self.ious)) if self.ious else 0.0, 4),
            "accepted": self.accepted,
            "false_accepts": round(self.false / max(self.accepted, 1), 3),
            "audited": self.looked_at,
            "audit": round(self.agreed / self.looked_at, 3) if self.looked_at else -1.0,
            "audit_low": round(low, 3),
            "audit_high": round(high, 3),
            "opened": self.opened,
            "pictures": self.pictures,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="anymask-s")
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--known", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200, help="of the detector")
    parser.add_argument("--image-seconds", type=float, default=30.0)
    parser.add_argument("--scan-seconds", type=float, default=4.0, help="to see that nothing is missing")
    parser.add_argument("--precision", type=float, default=0.5, help="prefill_precision with verifiers")
    parser.add_argument("--folder", type=Path, help="where the projects are left; by default nowhere")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        laps = [_lap(folder / str(seed), seed, arguments) for seed in range(arguments.seeds)]
    result: dict[str, dict[str, dict[str, float]]] = {}
    for way in ("without", "with"):
        by_kind = {kind: sum((lap[way][kind] for lap in laps), Sums()) for kind in arguments.kinds}
        result[way] = {kind: sums.row() for kind, sums in by_kind.items()}
        result[way]["all"] = sum(by_kind.values(), Sums()).row()
    names = list(result["with"]["all"])
    for way, rows in result.items():
        print(way, *names, sep=" | ")
        for kind, row in rows.items():
            print(kind, *(row[name] for name in names), sep=" | ")
    told = {"seconds": round(time.perf_counter() - began, 1), "verifiers": [lap["scores"] for lap in laps]}
    print(json.dumps({"benchmark": "verifiers", "ways": result, **told, **machine()}))


def _lap(folder: Path, seed: int, arguments: argparse.Namespace) -> dict:
    tars = {kind: arguments.data / f"{kind}-val.tar" for kind in arguments.kinds}
    truth, kinds = Truth(list(tars.values())), dict[str, str]()
    base = folder / "with"
    init_project(base)
    rng = np.random.default_rng(seed)
    with open_project(base, exclusive=False) as project:
        project.settings.replace(project.settings.current().replace({"image_seconds": arguments.image_seconds}))
        set_project_model(project, anymask.load(arguments.model), trigger="the first")
        for kind, tar in tars.items():
            found = list(read_source("sa1b", str(tar), masks=True))
            chosen = [found[index] for index in rng.permutation(len(found))]
            known, others = chosen[: arguments.known], chosen[arguments.known :][: arguments.pictures]
            kinds |= {each.name: kind for each in others}
            bare: list[FoundImage] = [replace(each, masks=[]) for each in others]
            import_found(project, [*known, *bare], source=kind, split=TRAIN)
        pictures = [image for image in project.images.all() if image.name in kinds]
        _say(f"{len(pictures)} pictures")
        model, config = open_project_model(project), SmallDetectorConfig(steps=arguments.steps)
        tried = prefilling.tried_proposals(project, model, config=config)
        prefilling.train_on_project(project, model, config)
        _say("detector")
        semi_automatic.open_queue(project, pictures)
    shutil.copytree(base, folder / "without")
    lap: dict = {}
    for way, precision in (("without", None), ("with", arguments.precision)):
        with open_project(folder / way, exclusive=False) as project:
            settings = project.settings.current()
            least = prefilling.least_score(tried, precision or settings.prefill_precision)
            task = prefilling.PrefillTask(model=str(model_path(project)), least=least)
            run_pool(project, PREFILL, task, workers=0)
            scores = {"least": least}
            if way == "with":
                trained = train_verifier(project, model)
                _say(f"verifier {dict(trained.verifier.scores)}")
                whole, _ = train_completeness(project, model)
                _say(f"verifier of images {dict(whole.scores)} from {whole.complete_from:.3f}")
                acceptance.open_queue(project)
                run_pool(project, VERIFY, acceptance.VerifyTask(model=str(model_path(project))), workers=0)
                acceptance.open_people_queue(project)
                scores |= {f"mask_{name}": value for name, value in trained.verifier.scores.items()}
                scores |= {f"image_{name}": value for name, value in whole.scores.items()}
            else:
                semi_automatic.open_people_queue(project)
            people = SimulatedAnnotator(
                AnnotatorModel(scan_seconds=arguments.scan_seconds), mask_seconds=settings.mask_seconds
            )
            SemiAutomaticSimulation(project, model, truth, annotator=people).run(kind=SEMI_AUTOMATIC)
            _say(way)
            lap[way] = {kind: Sums() for kind in arguments.kinds}
            for image in pictures:
                stored = project.images.get(image.id)
                assert stored is not None
                lap[way][kinds[image.name]] += _measure(project, stored, truth)
            lap[f"{way} scores"] = scores
    return {**lap, "scores": lap["with scores"]}


def _measure(project: Project, image: StoredImage, truth: Truth) -> Sums:
    found = project.annotations.state(image.id).annotations
    objects = rle.encode_many(truth.masks(image))
    iou = rle.pairwise_iou([each.rle for each in found], objects)
    best = iou.max(axis=1) if iou.size else np.zeros(len(found))
    accepted = [each.provenance is not None and each.provenance.author == VERIFIER for each in found]
    done = [job for job in project.jobs.of(image.id) if job.kind == SEMI_AUTOMATIC]
    audits = project.verdicts.audits_of(image.id, "accept")
    return Sums(
        seconds=project.outcomes.seconds_of([job.id for job in done]),
        kept=len(found),
        objects=len(objects),
        found=int((iou.max(axis=0) >= RIGHT_IOU).sum()) if iou.size else 0,
        ious=best.tolist(),
        accepted=sum(accepted),
        false=int((best[np.array(accepted, bool)] < RIGHT_IOU).sum()),
        looked_at=len(audits),
        agreed=sum(outcome == "accept" for outcome in audits),
        pictures=1,
        opened=len(done),
    )


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    main()
