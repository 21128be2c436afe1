"""`anymask evaluate proposals`, `instances` and `text`: the protocols on data of COCO's or LVIS' layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.arguments import DETECTOR, THRESHOLD
from anymask.cli.evaluate.options import AsJson, Data, Images, MaxImages, Output, Seed, open_named, set_progress, tell
from anymask.cli.terminal import parts_progress
from anymask.cli.weights import Device, Model, Offline
from anymask.data.files import check_folder

if TYPE_CHECKING:
    from anymask.evaluation.coco.text_to_mask import WordSegmenter
    from anymask.inference.runtimes import AnyModel


def proposals(
    data: Data,
    model: Model = "anymask-s",
    images: Images = None,
    points_per_side: Annotated[int, typer.Option(min=1, help="Points of the grid along either side.")] = 64,
    output: Output = None,
    max_images: MaxImages = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure how many annotated masks the best 10, 100 and 1,000 masks of an image find: AR by size and frequency."""
    from anymask.evaluation.coco import report as coco_report
    from anymask.evaluation.coco.proposals import ProposalConfig
    from anymask.evaluation.coco.truth import open_truths
    from anymask.evaluation.result_log import num_drawn
    from anymask.inference.answers import channels_of
    from anymask.workflows.evaluate_all import propose_all

    if output is not None:
        check_folder(output)
    loaded, label = open_named(model, offline=offline, device=device)
    truths = open_truths(data, images=images, channels=channels_of(loaded))
    config = ProposalConfig(max_images=max_images, seed=seed)
    with set_progress(num_drawn(truths.values(), max_images)) as progress:
        results = propose_all(loaded, label, truths, config, points_per_side, output, progress)
    values, text = coco_report.proposals_to_dict(results), coco_report.proposals_to_markdown(results)
    tell("proposals", values, text, output=output, as_json=as_json)


def instances(
    annotations: Annotated[Path, typer.Argument(metavar="DATA.json", help="Annotations of COCO's or LVIS' layout.")],
    detections: Annotated[Path, typer.Argument(metavar="DETECTIONS.json", help="A detector's boxes: COCO's results.")],
    model: Model = "anymask-s",
    images: Images = None,
    refinements: Annotated[int, typer.Option(min=0, help="How often a mask is fed back with its box.")] = 1,
    output: Output = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Take the first N images only.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure the masks of a detector's boxes: AP, by IoU, by size, and on LVIS by frequency."""
    from anymask.evaluation.coco import report as coco_report
    from anymask.workflows.evaluate_all import segment_all

    if output is not None:
        check_folder(output)
    loaded, label = open_named(model, offline=offline, device=device)
    with parts_progress() as bar:
        result = segment_all(
            loaded,
            label,
            annotations,
            detections,
            images,
            refinements=refinements,
            limit=limit,
            output=output,
            progress=lambda name, done, total: bar(name, "", done, total),
        )
    values, text = coco_report.instances_to_dict([result]), coco_report.instances_to_markdown([result])
    tell("instances", values, text, output=output, as_json=as_json)


def text(
    data: Data,
    model: Model = "anymask-s",
    images: Images = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"An open-vocabulary detector: a folder of transformers or a name in its cache. [default: {DETECTOR}, "
            "or none where the model was trained on words]",
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The CLIP of a model that was trained on words; by default the one it names."
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes of lower scores do not answer a phrase; AP looks at all.")
    ] = THRESHOLD,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help="What is asked, {} standing for a class' name: 'a photo of a {}'.")
    ] = "{}",
    output: Output = None,
    max_images: MaxImages = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure masks for the names of the classes in files of COCO's or LVIS' layout: IoU per phrase, hits, AP."""
    from anymask.evaluation.coco import report as coco_report
    from anymask.evaluation.coco.text_to_mask import TextProtocolConfig
    from anymask.evaluation.coco.truth import open_truths
    from anymask.evaluation.result_log import num_drawn
    from anymask.inference.answers import channels_of
    from anymask.workflows.evaluate_all import ask_all

    if output is not None:
        check_folder(output)
    config = TextProtocolConfig(template=template, max_images=max_images, seed=seed)
    loaded, label = open_named(model, offline=offline, device=device)
    truths = open_truths(data, images=images, channels=channels_of(loaded))
    prepare, way = _segmenter(loaded, detector, clip, threshold)
    with set_progress(num_drawn(truths.values(), max_images)) as progress:
        results = ask_all(prepare, {"model": label, **way}, truths, config, output, progress)
    values, said = coco_report.text_to_dict(results), coco_report.text_to_markdown(results)
    tell("text", values, said, output=output, as_json=as_json)


def _segmenter(
    model: AnyModel, detector: str | None, clip: str | None, threshold: float
) -> tuple[WordSegmenter, dict[str, str | float]]:
    """Return what answers words, and what its answers depend on besides the model."""
    from anymask.evaluation.coco.text_to_mask import by_detector, by_words
    from anymask.inference.words.text import TextMasks, TextOptions

    if detector is None and model.config.text is not None:
        return by_words(model, clip), {"clip": clip or model.config.text.clip}
    finder = TextMasks(model, detector or DETECTOR, TextOptions(threshold=threshold))
    assert finder.detector  # read, or refused, before the first image
    return by_detector(finder), {"detector": detector or DETECTOR, "threshold": threshold}
