"""Every protocol that the data allow, on one or more models, as one page to look at: `anymask evaluate all`.

The verbs of the single protocols call the functions below for a model and its sets; a journal lets a stopped run go on.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from anymask.data.files import check_folder, make_folder, write_text_atomic
from anymask.data.open import open_sets
from anymask.data.sample import AnnotatedSet, SampleSet, fingerprint
from anymask.errors import MissingPackageError
from anymask.evaluation import all_report
from anymask.evaluation.all_report import Pictures
from anymask.evaluation.coco.instances import InstanceResult, evaluate_instances
from anymask.evaluation.coco.proposals import ProposalConfig, ProposalResult, evaluate_proposals, model_proposer
from anymask.evaluation.coco.text_to_mask import TextProtocolConfig, TextResult, WordSegmenter, evaluate_text
from anymask.evaluation.coco.truth import CocoTruth, TruthSet, open_truths
from anymask.evaluation.edges.bsds import list_images
from anymask.evaluation.edges.protocol import Detector, EdgeConfig, EdgeResult, evaluate_edges
from anymask.evaluation.examples import collect_examples, first_ious, same_masks, select_masks
from anymask.evaluation.protocol import Segmenter
from anymask.evaluation.report import write_report
from anymask.evaluation.result_log import ResultLog, num_drawn
from anymask.evaluation.single_point import (
    ModelSegmenter,
    SetOutcome,
    SinglePointConfig,
    SinglePointResult,
    evaluate_set,
    settings,
    summarise,
)
from anymask.inference import Refinement
from anymask.inference.answers import channels_of
from anymask.inference.edges import EdgeOptions, Edges
from anymask.inference.instances import Instances, read_detections
from anymask.inference.runtimes import AnyModel, weights_hash
from anymask.model import Sam
from anymask.workflows.evaluation_pictures import draw_example, evaluation_plots

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Told what is measured, how many images are done, and of how many."""


def open_result_log(
    output: Path | None, label: str, name: str, kind: str, settings: Mapping[str, Any]
) -> ResultLog | None:
    """Open the journal in which a stopped run on a data set goes on, in an `output` folder; none without one."""
    if output is None:
        return None
    return ResultLog(output / "journal" / f"{label.replace(' ', '-')}-{name}-{kind}.jsonl", settings)


def play_all(
    segmenter: ModelSegmenter,
    label: str,
    sets: Mapping[str, SampleSet],
    config: SinglePointConfig,
    output: Path | None,
    progress: Callable[[str, int, int], None],
) -> dict[str, SetOutcome]:
    """Play the protocol on every set; with an `output` folder, a journal per set lets a stopped run go on."""
    outcomes = {}
    told = f"{label} {segmenter.refinement}"
    for name, images in sets.items():
        result_log = open_result_log(output, label, name, config.first, settings(told, images, config))
        outcomes[name] = evaluate_set(segmenter, name, images, config, progress=progress, result_log=result_log)
    return outcomes


def propose_all(
    model: AnyModel,
    label: str,
    truths: Mapping[str, TruthSet],
    config: ProposalConfig,
    points_per_side: int,
    output: Path | None,
    progress: Callable[[str, int, int], None],
) -> list[ProposalResult]:
    """Evaluate proposals on every set; with an `output` folder, a journal per set lets a stopped run go on."""
    propose = model_proposer(model, points_per_side)
    results = []
    for name, truth in truths.items():
        fixed = {"protocol": "proposals", "model": label, "points": points_per_side, "images": truth.fingerprint()}
        result_log = open_result_log(output, label, name, "proposals", {**fixed, "limits": config.limits})
        results.append(evaluate_proposals(propose, name, truth, config, progress=progress, result_log=result_log))
    return results


def segment_all(
    model: AnyModel,
    label: str,
    annotations: Path,
    detections: Path,
    images: Path | None,
    *,
    refinements: int = 1,
    limit: int | None = None,
    output: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> InstanceResult:
    """Evaluate a model on a detector's boxes; with an `output` folder, a journal lets a stopped run go on."""
    boxes = read_detections(detections)
    truths = CocoTruth.open(annotations, images, channels=channels_of(model))
    files = {"images": truths.fingerprint(), "boxes": fingerprint(detections)}
    fixed = {"protocol": "instances", "model": label, "refinements": refinements, **files}
    result_log = open_result_log(output, label, annotations.stem, "instances", fixed)
    segment = Instances(model, refinements=refinements).segment
    return evaluate_instances(
        segment, annotations.stem, truths, boxes, max_images=limit, progress=progress, result_log=result_log
    )


def ask_all(
    prepare: WordSegmenter,
    answered_by: Mapping[str, str | float],
    truths: Mapping[str, TruthSet],
    config: TextProtocolConfig,
    output: Path | None,
    progress: Callable[[str, int, int], None],
) -> list[TextResult]:
    """Evaluate words on every set; with an `output` folder, a journal per set lets a stopped run go on.

    `answered_by` names the model and the way in that answers words.
    """
    results = []
    for name, truth in truths.items():
        fixed = {"protocol": "text", "images": truth.fingerprint(), "template": config.template, **answered_by}
        result_log = open_result_log(output, str(answered_by["model"]), name, "text", fixed)
        results.append(evaluate_text(prepare, name, truth, config, progress=progress, result_log=result_log))
    return results


def measure_edges(
    folder: Path,
    name: str,
    detect: Detector | None,
    *,
    limit: int | None = None,
    workers: int | None = None,
    output: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EdgeResult:
    """Evaluate a detector, or the baseline of that name, in processes; raises what `evaluate_edges` raises."""
    total = len(list_images(folder)[:limit])
    config = EdgeConfig(max_images=limit, num_workers=min(workers or os.cpu_count() or 1, total))
    return evaluate_edges(folder, name, detect, config, output=output, progress=progress)


def model_detector(model: AnyModel, label: str, points_per_side: int = 16) -> tuple[str, Detector]:
    """Return a name that no other weights or grid have, and what finds edges by them."""
    return f"{label} {points_per_side}²", Edges(model, EdgeOptions(points_per_side=points_per_side)).detect


@dataclass(frozen=True, slots=True, kw_only=True)
class AllConfig:
    """What `evaluate_all` measures, and on how much of the data."""

    single_point: SinglePointConfig = field(default_factory=SinglePointConfig)
    refinement: Refinement = field(default_factory=Refinement)
    """What is made of a first answer; `PLAIN` judges the network's answers as they are."""
    proposal_images: int = 2
    """Images per data set for proposals, which take long on a CPU; 0 leaves them out."""
    points_per_side: int = 64
    """Points of the proposals' grid along a side."""
    boxes: tuple[Path, Path] | None = None
    """Annotations and a detector's boxes, for instances."""
    edges: Path | None = None
    """BSDS500's own data/, for edges."""
    num_examples: int = 6
    """How many of the best, middling and worst masks are drawn."""


def evaluate_all(
    data: Sequence[Path],
    output: Path,
    models: Mapping[str, Callable[[], Sam]],
    config: AllConfig | None = None,
    *,
    images: Path | None = None,
    progress: OnProgress | None = None,
) -> AllResult:
    """Measure models on all protocols and write index.html, report.json and report.md, with plots and examples.

    `models` loads each model by the name that tables call it; one is in memory at a time. `images` is where the images
    of JSON files lie. `progress` is told the protocol and the model, how many images are done, and of how many. What
    was measured is kept in the folder's journal/, from which a call that was stopped goes on.

    Raises DataError for data that cannot be opened, and OutputError where `output` cannot be written to.
    """
    config = config or AllConfig()
    check_folder(output)
    runs = _Runs(models, data, images, output, config, progress or (lambda *_: None))
    outcomes = runs.single_point()
    proposals = runs.proposals()
    found = {name: summarise(part, config.single_point) for name, part in outcomes.items()}
    drawn, no_plots = _plots(found)
    report = all_report.FullReport(
        facts=[
            ("date", datetime.date.today().isoformat()),
            *((name, f"weights {label.split()[-1]}") for name, label in runs.labels.items()),
            ("data", f"{', '.join(next(iter(outcomes.values())))}; {_part(config.single_point)}"),
        ],
        single_point=found,
        proposals=proposals,
        instances={} if config.boxes is None else runs.instances(*config.boxes),
        edges={} if config.edges is None else runs.edges(config.edges),
        plots=[(png, "") for png in drawn.values()],
        examples=_draw_extremes(runs.sets, outcomes, runs.segmenters(), config.single_point, config.num_examples)
        if config.num_examples
        else {},
    )
    make_folder(output)
    write_text_atomic(output / "index.html", all_report.to_html(report))
    write_report(output, "report", all_report.to_dict(report), all_report.to_markdown(report))
    return AllResult(page=output / "index.html", report=report, no_plots=no_plots)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllResult:
    """What `evaluate_all` found, and where its page is."""

    page: Path
    report: all_report.FullReport
    no_plots: str | None = None
    """Why there are no plots; None where there are."""


def _plots(results: Mapping[str, SinglePointResult]) -> tuple[dict[str, bytes], str | None]:
    try:
        return evaluation_plots(results), None
    except MissingPackageError as error:
        return {}, str(error)


class _Runs:
    """The protocols on every model in turn, one model in memory at a time; each sees data by its own channels."""

    def __init__(
        self,
        models: Mapping[str, Callable[[], Sam]],
        data: Sequence[Path],
        images: Path | None,
        output: Path,
        config: AllConfig,
        tell: OnProgress,
    ) -> None:
        self._models, self._config, self._tell = models, config, tell
        self._images, self._output = images, output
        self._open_sets = cache(lambda channels: open_sets(data, images=images, channels=channels))
        self._open_truths = cache(lambda channels: open_truths(data, images=images, channels=channels))
        self.labels: dict[str, str] = {}
        self.sets: dict[str, dict[str, AnnotatedSet]] = {}
        """Data sets, by model and then by name."""

    def single_point(self) -> dict[str, dict[str, SetOutcome]]:
        """Play the protocol of clicks and boxes on every set."""
        config, outcomes = self._config.single_point, {}
        for name, load in self._models.items():
            model = load()
            label = self.labels[name] = labelled(name, model)
            sets = self.sets[name] = self._open_sets(channels_of(model))
            total = num_drawn(sets.values(), config.max_images)
            segmenter = ModelSegmenter(model, refinement=self._config.refinement)
            outcomes[name] = play_all(
                segmenter, label, sets, config, self._output, self._counting("single-point", name, total)
            )
        return outcomes

    def proposals(self) -> dict[str, list[ProposalResult]]:
        """Measure the recall of masks made without prompts."""
        limit = self._config.proposal_images
        if limit == 0:
            return {}
        config = ProposalConfig(max_images=limit, seed=self._config.single_point.seed)
        found = {}
        for name, load in self._models.items():
            model = load()
            truths = self._open_truths(channels_of(model))
            told = self._counting("proposals", name, num_drawn(truths.values(), limit))
            points = self._config.points_per_side
            found[name] = propose_all(model, labelled(name, model), truths, config, points, self._output, told)
        return found

    def instances(self, annotations: Path, detections: Path) -> dict[str, InstanceResult]:
        """Measure the masks of a detector's boxes."""
        found = {}
        for name, load in self._models.items():
            model = load()
            found[name] = segment_all(
                model,
                labelled(name, model),
                annotations,
                detections,
                self._images,
                output=self._output,
                progress=partial(self._tell_set, f"instances {name}"),
            )
        return found

    def edges(self, folder: Path) -> dict[str, EdgeResult]:
        """Measure edges on BSDS500."""
        found = {}
        for name, load in self._models.items():
            model = load()
            found[name] = measure_edges(
                folder,
                *model_detector(model, labelled(name, model)),
                output=self._output / "journal" / name,
                progress=partial(self._tell, f"edges {name}"),
            )
        return found

    def segmenters(self) -> dict[str, Callable[[], Segmenter]]:
        """Return what opens each model as what answers prompts."""
        refinement = self._config.refinement
        return {
            name: lambda load=load: ModelSegmenter(load(), refinement=refinement)  # type: ignore[misc]
            for name, load in self._models.items()
        }

    def _counting(self, protocol: str, name: str, total: int) -> Callable[[str, int, int], None]:
        """Return what counts the images of several sets as one."""
        done = 0

        def told(_: str, __: int, ___: int) -> None:
            nonlocal done
            done += 1
            self._tell(f"{protocol} {name}", done, total)

        return told

    def _tell_set(self, what: str, _: str, done: int, total: int) -> None:
        self._tell(what, done, total)


def labelled(name: str, model: AnyModel) -> str:
    """Return a model's name in tables with a part of its hash, which no other weights have."""
    return f"{name} {weights_hash(model)[:12]}"


def _part(config: SinglePointConfig) -> str:
    """Say which part of the data was taken."""
    if config.max_images is None and config.max_masks is None:
        return "all images and masks"
    images = "all images" if config.max_images is None else f"up to {config.max_images} images per set"
    masks = "all masks" if config.max_masks is None else f"up to {config.max_masks} masks per image"
    return f"{images}, {masks}, drawn with seed {config.seed}"


def _draw_extremes(
    sets: Mapping[str, Mapping[str, SampleSet]],
    outcomes: Mapping[str, Mapping[str, SetOutcome]],
    segmenters: Mapping[str, Callable[[], Segmenter]],
    config: SinglePointConfig,
    count: int,
) -> dict[str, Pictures]:
    """Draw the best, middling and worst masks of the first model; and where the second was better, and worse.

    Models that could not read the same images are not compared.
    """
    names = [name for name in outcomes if same_masks(outcomes[name], next(iter(outcomes.values())))]
    values = first_ious(outcomes[names[0]])
    wanted = {
        f"Best of each set after one click: {names[0]}": select_masks(values, "best", count),
        f"Middling of each set after one click: {names[0]}": select_masks(values, "middle", count),
        f"Worst of each set after one click: {names[0]}": select_masks(values, "worst", count),
    }
    if len(names) > 1:
        other = first_ious(outcomes[names[1]])
        gain = {name: other[name] - values[name] for name in values}
        wanted[f"Where {names[1]} gains most over {names[0]}"] = select_masks(gain, "best", count)
        wanted[f"Where {names[1]} loses most against {names[0]}"] = select_masks(gain, "worst", count)
    places = [place for part in wanted.values() for place in part]
    seen = iter(collect_examples(places, sets, outcomes, {name: segmenters[name] for name in names}, config))
    return {title: [draw_example(next(seen)) for _ in part] for title, part in wanted.items()}
