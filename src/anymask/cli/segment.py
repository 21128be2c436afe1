"""`anymask segment`: masks for prompts on one image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymask.cli.arguments import DETECTOR, NMS, THRESHOLD, check_image, read_prompts
from anymask.cli.weights import Device, Model, Offline, Runtime, Threads, Zoom, open_model
from anymask.data.files import all_or_nothing, check_folder
from anymask.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, UInt8

    from anymask.inference import Predictor, Prompt

_PROMPTS = "What to segment"
_WORDS = "How words are looked for"
_OUTPUT = "Results"


class OverlayFormat(StrEnum):
    """How the overlay is stored, if at all."""

    png = "png"
    jpg = "jpg"
    none = "none"


def segment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph: JPEG, PNG, TIFF, WebP, …")],
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y[,0|1]",
            rich_help_panel=_PROMPTS,
            help="A click in pixels of the image: 1 (the default) on the object, 0 off it. Several are one prompt.",
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1", rich_help_panel=_PROMPTS, help="A box around it. Several are an object each."
        ),
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_PROMPTS,
            help="A rough mask: black and white, of the image's size. Several are an object each.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORDS",
            rich_help_panel=_PROMPTS,
            help="A phrase, such as 'a wheel': every object that it describes. Several are looked for at once.",
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_WORDS,
            help="An open-vocabulary detector: a folder of transformers or a name in its cache. "
            f"By default {DETECTOR}; models trained on words need none.",
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(min=0, max=1, rich_help_panel=_WORDS, help="Objects of a lower score are dropped."),
    ] = THRESHOLD,
    nms: Annotated[
        float,
        typer.Option(
            min=0, max=1, rich_help_panel=_WORDS, help="Of boxes that overlap by more than this IoU the best stays."
        ),
    ] = NMS,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_WORDS,
            help="For models trained on words: the CLIP that reads them, where it is not the one that they name.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", rich_help_panel=_OUTPUT, help="Where files go; made if need be."),
    ] = None,
    all_masks: Annotated[
        bool,
        typer.Option("--all-masks", rich_help_panel=_OUTPUT, help="Keep the three masks of a prompt, best first."),
    ] = False,
    overlay: Annotated[
        OverlayFormat, typer.Option(rich_help_panel=_OUTPUT, help="The format of the overlay.")
    ] = OverlayFormat.png,
    as_json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=_OUTPUT, help="Print the record, and nothing else; -o may be left out."),
    ] = False,
    model: Model = "anymask-s",
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
    zoom: Zoom = None,
    offline: Offline = False,
) -> None:
    """Cut out what is clicked on, boxed, roughly masked or named.

    Writes <stem>_mask.png (0 and 255; numbered if there are several), <stem>_overlay.png, and <stem>.json: a record in
    the layout of SA-1B with scores.
    """
    if output is None and not as_json:
        raise InputError("where shall results go? give -o DIR, or --json to print the record alone")
    if output is not None:
        check_folder(output)
    typed = read_prompts(point or [], box or [], mask or [], text or [])
    check_image(image, model)

    from anymask.inference import Predictor, Refinement  # only now: it takes longer than all before
    from anymask.inference.answers import read

    prompts = typed.prompts()
    network = open_model(model, offline=offline, device=device, runtime=runtime, threads=threads)
    predictor = Predictor(network, refinement=Refinement(zoom=zoom), clip=clip)
    pixels = read(predictor.model, image)
    if prompts[0].is_words_alone and (detector is not None or predictor.model.config.text is None):
        if all_masks:
            raise InputError("--all-masks is for clicks, boxes and rough masks: a found object has one mask")
        objects = _find(predictor, pixels, text or [], detector=detector or DETECTOR, threshold=threshold, nms=nms)
    else:
        objects = _answer(predictor, pixels, prompts, all_masks=all_masks)
    names = _mask_names(image.stem, len(objects))
    record = _record(image, pixels, objects, names if output is not None else None, model)
    if output is not None:
        drawn = None if overlay is OverlayFormat.none else _draw(pixels, objects)
        paths = _write(output, image.stem, objects, names, record, drawn, overlay.value)
        if not as_json:
            _report(paths, objects)
    if as_json:
        typer.echo(json.dumps(record))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """One mask, the prompt that asked for it, and its place among that prompt's masks."""

    prompt: Prompt
    rank: int
    mask: Bool[np.ndarray, "h w"]
    predicted_iou: float
    stability_score: float
    text_score: float | None = None
    """A detector's, of what it found for words."""


def _answer(
    predictor: Predictor, pixels: UInt8[np.ndarray, "h w 3"], prompts: list[Prompt], *, all_masks: bool
) -> list[Answered]:
    """Ask the model; prompts are checked before the image is encoded."""
    predictor.check(prompts, (pixels.shape[0], pixels.shape[1]))
    predictor.set_image(pixels)
    answered = []
    for prompt, masks in zip(prompts, predictor.iterate(prompts, multimask=True if all_masks else None), strict=True):
        for rank in range(len(masks) if all_masks else 1):
            answered.append(
                Answered(
                    prompt=prompt,
                    rank=rank,
                    mask=masks.masks[rank],
                    predicted_iou=float(masks.scores[rank]),
                    stability_score=_stability(predictor, masks.logits[rank]),
                )
            )
    return answered


def _find(
    predictor: Predictor,
    pixels: UInt8[np.ndarray, "h w 3"],
    phrases: list[str],
    *,
    detector: str,
    threshold: float,
    nms: float,
) -> list[Answered]:
    """Ask a detector for the phrases, and the model about its boxes; says so on standard error if nothing is found."""
    from anymask.inference import Prompt, TextMasks, TextOptions

    finder = TextMasks(predictor.model, detector, TextOptions(threshold=threshold, nms=nms))
    boxes = finder.boxes(pixels, phrases)
    if not boxes:
        named = ", ".join(repr(phrase) for phrase in phrases)
        typer.echo(f"nothing scores {threshold:g} or more for {named}; a lower --threshold shows more", err=True)
        return []
    predictor.set_image(pixels)
    return [
        Answered(
            prompt=Prompt(box=box.box, text=box.phrase),
            rank=0,
            mask=masks.best,
            predicted_iou=float(masks.scores[0]),
            stability_score=_stability(predictor, masks.logits[0]),
            text_score=box.score,
        )
        for box, masks in finder.answers(predictor.image, boxes)
    ]


def _stability(predictor: Predictor, logits: Any) -> float:
    """Return the IoU of the mask cut at logits +1 and −1, at the image's size (SAM, app. B)."""
    from anymask.geometry.masks import stability_score
    from anymask.inference.automatic.upsampling import upsample_window

    frame = predictor.image.frame
    height, width = frame.original
    return float(stability_score(upsample_window(logits, frame, (0, 0, width, height))))


def _mask_names(stem: str, count: int) -> list[str]:
    return [f"{stem}_mask.png"] if count == 1 else [f"{stem}_mask_{number}.png" for number in range(1, count + 1)]


def _record(
    image: Path,
    pixels: UInt8[np.ndarray, "h w 3"],
    objects: list[Answered],
    names: list[str] | None,
    model: str,
) -> dict[str, Any]:
    """Return SA-1B's record of the masks; beyond its keys: the prompt, the rank, and the mask's file."""
    from anymask.data.writers.sa1b import annotation
    from anymask.geometry import rle

    height, width = pixels.shape[:2]
    annotations = []
    for index, answered in enumerate(objects):
        prompt = answered.prompt
        record = annotation(
            index + 1,
            rle.encode(answered.mask),
            predicted_iou=round(answered.predicted_iou, 6),
            stability_score=round(answered.stability_score, 6),
            point_coords=_listed(prompt.points) or [],
        )
        record |= {
            "point_labels": _listed(prompt.labels) or [],
            "prompt_box": _listed(prompt.box),
            "rank": answered.rank,
        }
        if prompt.text is not None:
            record |= {"text": prompt.text, "text_score": answered.text_score}
        if names is not None:
            record["file_name"] = names[index]
        annotations.append(record)
    described = {"image_id": image.stem, "width": width, "height": height, "file_name": image.name}
    return {"image": described, "annotations": annotations, "model": model}


def _listed(values: Any) -> list[Any] | None:
    import numpy as np

    return None if values is None else np.asarray(values).tolist()


def _draw(pixels: UInt8[np.ndarray, "h w 3"], objects: list[Answered]) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the masks of each rank on a picture of its own, side by side where there are several."""
    import numpy as np

    from anymask.plots import contact_sheet, draw_answer

    if not objects:
        return pixels
    panels, captions = [], []
    for rank in sorted({answered.rank for answered in objects}):
        members = [answered for answered in objects if answered.rank == rank]
        prompts = [answered.prompt for answered in members]
        points = [xy for prompt in prompts for xy in _listed(prompt.points) or []]
        labels = [label for prompt in prompts for label in _listed(prompt.labels) or []]
        boxes = [prompt.box for prompt in prompts if prompt.box is not None]
        masks = np.stack([answered.mask for answered in members])
        panels.append(draw_answer(pixels, masks, points=points, labels=labels, boxes=_listed(boxes) or []))
        scores = ", ".join(f"{answered.predicted_iou:.2f}" for answered in members)
        captions.append(f"{rank + 1}: predicted IoU {scores}")
    return panels[0] if len(panels) == 1 else contact_sheet(panels, len(panels), captions)


def _write(
    folder: Path,
    stem: str,
    objects: list[Answered],
    names: list[str],
    record: dict[str, Any],
    drawn: UInt8[np.ndarray, "h w 3"] | None,
    suffix: str,
) -> list[Path]:
    """Write masks, overlay and record together; return their paths in this order."""
    from anymask.data.files import write_image_atomic, write_text_atomic

    written = list(names)
    with all_or_nothing(folder) as staging:
        for name, answered in zip(names, objects, strict=True):
            write_image_atomic(staging / name, answered.mask)
        if drawn is not None:
            written.append(f"{stem}_overlay.{suffix}")
            write_image_atomic(staging / written[-1], drawn)
        written.append(f"{stem}.json")
        write_text_atomic(staging / written[-1], json.dumps(record, indent=1) + "\n")
    return [folder / name for name in written]


def _report(paths: list[Path], objects: list[Answered]) -> None:
    """Print where everything is, one line each."""
    for path, answered in zip(paths, objects, strict=False):
        name = "" if answered.prompt.text is None else f"{answered.prompt.text}, "
        scored = f"{name}predicted IoU {answered.predicted_iou:.2f}, {answered.mask.sum():,} pixels"
        typer.echo(f"mask     {path}  ({scored})")
    for path in paths[len(objects) :]:
        typer.echo(f"{'record ' if path.suffix == '.json' else 'overlay'}  {path}")
