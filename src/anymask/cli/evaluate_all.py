"""`anymask evaluate all`: every protocol that the data allow, on one or more models, as one page to look at."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.evaluate_options import (
    AsJson,
    Data,
    Images,
    MaxImages,
    MaxMasks,
    Offline,
    Plain,
    Seed,
    name_models,
    open_named,
    set_progress,
)
from anymask.cli.evaluate_single_point import play_all, plots
from anymask.cli.weights import Device
from anymask.data.files import check_folder

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, UInt8

    from anymask.data.sample import AnnotatedSet, SampleSet
    from anymask.evaluation.all_report import Pictures
    from anymask.evaluation.cases import Case
    from anymask.evaluation.edges import EdgeResult
    from anymask.evaluation.instances import InstanceResult
    from anymask.evaluation.proposals import ProposalResult
    from anymask.evaluation.protocol import Segmenter
    from anymask.evaluation.single_point import SetOutcome, SinglePointConfig
    from anymask.inference import Refinement
    from anymask.model import Sam

_CASE_SIDE = 320


def everything(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the report goes.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model, or several: the option again.")
    ] = None,
    images: Images = None,
    max_images: MaxImages = None,
    max_masks: MaxMasks = None,
    seed: Seed = 0,
    proposal_images: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Images a data set for proposals, which take long on a CPU; 0 leaves them out."
        ),
    ] = 2,
    points_per_side: Annotated[int, typer.Option(min=1, help="Points of the proposals' grid along a side.")] = 64,
    boxes: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="DATA.json DETECTIONS.json", help="Annotations and a detector's boxes, for instances."),
    ] = None,
    edges: Annotated[Path | None, typer.Option(metavar="DIR", help="BSDS500's own data/, for edges.")] = None,
    num_cases: Annotated[int, typer.Option(min=0, help="How many of the best, middling and worst masks to show.")] = 6,
    plain: Plain = False,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure models on all protocols and write index.html, report.json and report.md, with plots and examples.

    What was measured is kept in the folder's journal/, from which a run that was stopped goes on.
    """
    from anymask.data.files import make_folder, write_text_atomic
    from anymask.evaluation import all_report
    from anymask.evaluation.single_point import SinglePointConfig, summarise

    check_folder(output)
    runs = _Runs(name_models(model), data, images, output, plain=plain, device=device, offline=offline)
    config = SinglePointConfig(max_images=max_images, max_masks=max_masks, seed=seed)
    outcomes = runs.single_point(config)
    proposals = runs.proposals(points_per_side, proposal_images, seed)
    found = {name: summarise(part, config) for name, part in outcomes.items()}
    drawn = plots(found)
    report = all_report.FullReport(
        facts=[
            ("date", datetime.date.today().isoformat()),
            *((name, f"weights {label.split()[-1]}") for name, label in runs.labels.items()),
            ("data", f"{', '.join(next(iter(outcomes.values())))}; {_part(config)}"),
        ],
        single_point=found,
        proposals=proposals,
        instances={} if boxes is None else runs.instances(*boxes),
        edges={} if edges is None else runs.edges(edges),
        plots=[(png, "") for png in drawn.values()],
        cases=_cases(runs.sets, outcomes, runs.segmenters(), config, num_cases) if num_cases else {},
    )
    make_folder(output)
    write_text_atomic(output / "index.html", all_report.to_html(report))
    write_text_atomic(output / "report.json", json.dumps(all_report.to_dict(report), indent=2) + "\n")
    write_text_atomic(output / "report.md", all_report.to_markdown(report))
    typer.echo(json.dumps(all_report.to_dict(report)) if as_json else f"report   {output / 'index.html'}")


class _Runs:
    """The protocols on every model in turn, one model in memory at a time; each sees data by its own channels."""

    def __init__(
        self,
        names: Mapping[str, str],
        data: list[Path],
        images: Path | None,
        output: Path,
        *,
        plain: bool,
        device: str,
        offline: bool,
    ) -> None:
        from anymask.data.open import open_sets
        from anymask.evaluation.sets import open_truths
        from anymask.inference import PLAIN, Refinement

        self._refinement = PLAIN if plain else Refinement()
        self._open: dict[str, Callable[[], tuple[Sam, str]]] = {
            name: partial(open_named, path, offline=offline, device=device) for name, path in names.items()
        }
        self._images, self._output = images, output
        self._open_sets = cache(lambda channels: open_sets(data, images=images, channels=channels))
        self._open_truths = cache(lambda channels: open_truths(data, images=images, channels=channels))
        self.labels: dict[str, str] = {}
        self.sets: dict[str, dict[str, AnnotatedSet]] = {}
        """By model, then by name."""

    def single_point(self, config: SinglePointConfig) -> dict[str, dict[str, SetOutcome]]:
        from anymask.evaluation.model_segmenter import ModelSegmenter
        from anymask.inference.answers import channels_of

        outcomes = {}
        for name, open_model in self._open.items():
            model, self.labels[name] = open_model()
            sets = self.sets[name] = self._open_sets(channels_of(model))
            with set_progress(sum(min(len(s), config.max_images or len(s)) for s in sets.values())) as progress:
                segmenter = ModelSegmenter(model, refinement=self._refinement)
                outcomes[name] = play_all(segmenter, self.labels[name], sets, config, self._output, progress)
        return outcomes

    def proposals(self, points: int, limit: int, seed: int) -> dict[str, list[ProposalResult]]:
        from anymask.cli.evaluate_proposals import propose_all
        from anymask.evaluation.proposals import ProposalConfig
        from anymask.inference.answers import channels_of

        if limit == 0:
            return {}
        config = ProposalConfig(max_images=limit, seed=seed)
        found = {}
        for name, open_model in self._open.items():
            model, label = open_model()
            truths = self._open_truths(channels_of(model))
            with set_progress(sum(min(len(t), limit) for t in truths.values())) as progress:
                found[name] = propose_all(model, label, truths, config, points, self._output, progress)
        return found

    def instances(self, annotations: Path, detections: Path) -> dict[str, InstanceResult]:
        from anymask.cli.evaluate_instances import segment_all

        return {
            name: segment_all(*open_model(), annotations, detections, self._images, output=self._output)
            for name, open_model in self._open.items()
        }

    def edges(self, folder: Path) -> dict[str, EdgeResult]:
        from anymask.cli.evaluate_edges import measure_edges, model_detector

        return {
            name: measure_edges(folder, *model_detector(*open_model()), output=self._output / "journal" / name)
            for name, open_model in self._open.items()
        }

    def segmenters(self) -> dict[str, Callable[[], Segmenter]]:
        return {name: partial(_segmenter, open_model, self._refinement) for name, open_model in self._open.items()}


def _segmenter(open_model: Callable[[], tuple[Sam, str]], refinement: Refinement) -> Segmenter:
    from anymask.evaluation.model_segmenter import ModelSegmenter

    return ModelSegmenter(open_model()[0], refinement=refinement)


def _part(config: SinglePointConfig) -> str:
    """Say which part of the data was taken."""
    if config.max_images is None and config.max_masks is None:
        return "all images and masks"
    images = "all images" if config.max_images is None else f"up to {config.max_images} images a set"
    masks = "all masks" if config.max_masks is None else f"up to {config.max_masks} masks an image"
    return f"{images}, {masks}, drawn with seed {config.seed}"


def _cases(
    sets: Mapping[str, Mapping[str, SampleSet]],
    outcomes: Mapping[str, Mapping[str, SetOutcome]],
    segmenters: Mapping[str, Callable[[], Segmenter]],
    config: SinglePointConfig,
    count: int,
) -> dict[str, Pictures]:
    """Draw the best, middling and worst masks of the first model; and where the second was better, and worse.

    Models that could not read the same images are not compared.
    """
    from anymask.evaluation.cases import first_ious, look, pick, same_masks

    names = [name for name in outcomes if same_masks(outcomes[name], next(iter(outcomes.values())))]
    values = first_ious(outcomes[names[0]])
    wanted = {
        f"Best of each set after one click: {names[0]}": pick(values, "best", count),
        f"Middling of each set after one click: {names[0]}": pick(values, "middle", count),
        f"Worst of each set after one click: {names[0]}": pick(values, "worst", count),
    }
    if len(names) > 1:
        other = first_ious(outcomes[names[1]])
        gain = {name: other[name] - values[name] for name in values}
        wanted[f"Where {names[1]} gains most over {names[0]}"] = pick(gain, "best", count)
        wanted[f"Where {names[1]} loses most against {names[0]}"] = pick(gain, "worst", count)
    places = [place for part in wanted.values() for place in part]
    seen = iter(look(places, sets, outcomes, {name: segmenters[name] for name in names}, config))
    return {title: [draw_case(next(seen)) for _ in part] for title, part in wanted.items()}


def draw_case(case: Case) -> tuple[bytes, str]:
    """Return a JPEG of the mask's surroundings, first the truth, then each answer, and a caption."""
    import numpy as np

    from anymask.plots import contact_sheet, draw_answer

    window = _window(case)
    left, top = window[1].start, window[0].start
    point = [(case.point[0] - left, case.point[1] - top)]
    drawn = [
        draw_answer(np.ascontiguousarray(case.image[window]), mask[window][None], points=point, labels=[1])
        for mask in (case.truth, *case.masks.values())
    ]
    sheet = contact_sheet(drawn, len(drawn), cell=_CASE_SIDE, gap=4)
    values = " · ".join(f"{name} {iou:.2f}" for name, iou in case.ious.items())
    return _jpeg(sheet), f"{case.set_name}: annotated · {values}"


def draw_panel(case: Case, mask: Bool[np.ndarray, "h w"]) -> bytes:
    """Return a JPEG of one mask on its surroundings, with the click."""
    import numpy as np

    from anymask.plots import contact_sheet, draw_answer

    rows, columns = _window(case)
    point = [(case.point[0] - columns.start, case.point[1] - rows.start)]
    image = np.ascontiguousarray(case.image[rows, columns])
    return _jpeg(contact_sheet([draw_answer(image, mask[rows, columns][None], points=point, labels=[1])], 1, cell=640))


def _window(case: Case) -> tuple[slice, slice]:
    """Return the rows and columns around the truth and the answers, with a margin, at least a quarter of the image."""
    import numpy as np

    from anymask.geometry import boxes

    size = case.truth.shape
    height, width = size
    x0, y0, x1, y1 = boxes.from_masks(np.any([case.truth, *case.masks.values()], axis=0)).tolist()
    side = max(1.3 * max(x1 - x0, y1 - y0), max(size) / 4)
    spans = []
    for low, high, full in ((y0, y1, height), (x0, x1, width)):
        reach = min(side, full)
        start = int(np.clip((low + high - reach) / 2, 0, full - reach))
        spans.append(slice(start, start + max(1, round(reach))))
    return spans[0], spans[1]


def _jpeg(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()
