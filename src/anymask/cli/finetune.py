"""`anymask finetune`: a model on one's own pictures, and a report of what it kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymask.cli.terminal import training_progress
from anymask.cli.weights import Device, device_name, open_model
from anymask.data.files import check_folder
from anymask.errors import DataError, MissingPackageError, OutputError

if TYPE_CHECKING:
    from anymask.data.sample import SampleSet
    from anymask.evaluation.retention import Retained, RetentionConfig
    from anymask.model import Sam
    from anymask.training.finetune import FinetuneConfig
    from anymask.training.mixing import Trial

_SCENES = "generated scenes"
_SAMPLES = "bundled photographs"
_CHOSEN_IMAGES, _SCENES_TO_REPORT = 8, 6
_CHOSEN_MASKS = 8


class Mode(StrEnum):
    """What learns."""

    decoder = "decoder"
    lora = "lora"
    all = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """Sets by what they are for: to learn from, to choose the mixture by, to report on."""

    new: SampleSet
    old: list[SampleSet]
    choose_new: dict[str, SampleSet]
    choose_old: dict[str, SampleSet]
    report_new: dict[str, SampleSet]
    report_old: dict[str, SampleSet]


def finetune(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="A folder of images, or SA-1B's tars: one, or a folder of them.")
    ],
    annotations: Annotated[
        Path | None,
        typer.Argument(metavar="[ANNOTATIONS]", help="A COCO or LVIS .json, or a folder of masks; tars need none."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The model: .safetensors, or .pth for Meta's format.")
    ] = Path("model.safetensors"),
    mode: Annotated[
        Mode | None, typer.Option(help="What learns: the mask decoder, low-rank matrices in the encoder too, or all.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A name of `anymask models list`, or a checkpoint's path.")
    ] = "anymask-s",
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Steps of training.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, metavar="M", help="As many steps as fit into this; encoding comes first.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="Data from before, replayed and reported on; may be repeated."),
    ] = None,
    hold_out: Annotated[
        str | None, typer.Option(metavar="DATA", help="New data to report on, in place of a share of IMAGES.")
    ] = None,
    report: Annotated[
        list[str] | None, typer.Option(metavar="DATA", help="More data to report on, never learned from.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file with other settings, as recipes/finetune.toml.")
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(metavar="BANDS:LOW..HIGH", help="What of deep or multi-band pictures is shown: 3,2,1:0..10000."),
    ] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Teach a model your own kind of picture, and report what it gained and what it kept.

    By default the mask decoder alone learns, on embeddings that are made once. Generated scenes, or the data given by
    --keep, stay part of training, and at the end the weights are mixed with those before as far as held-out images ask
    for. Beside the model come its -retention.md, .json and .png, and the run's -log.jsonl. A run that was interrupted
    goes on when it is called again in the same way. DATA is a tar, a folder of tars, a folder with images and masks or
    JSONs, a COCO file, or IMAGES,ANNOTATIONS with a comma between the two.
    """
    config = _config(recipe, mode, steps, device_name(device))
    _check_output(output)
    start = open_model(model, device=device)
    _set_channels(start, channels, output)
    data = _open(images, annotations, hold_out, keep or [], report or [], config, start)
    from anymask.training.footprint import check_memory

    check_memory(start, config)
    folder = output.with_name(f".{output.stem}-{_fingerprint(start, data, config)}")
    tuned = _train(start, data, config, folder, minutes)
    share, trials = _choose(start, tuned, data, config)
    after = _save(start, tuned, share, output)
    with _bar("reporting") as heard:
        from anymask.evaluation.retention import measure

        rows = measure(start, after, data.report_new, data.report_old, _measured(), progress=heard)
    notes = _notes(model, config, data, share, trials)
    _write(rows, notes, output, folder, as_json)


def _config(recipe: Path | None, mode: Mode | None, steps: int | None, device: str) -> FinetuneConfig:
    """Return the recipe's settings, those of the command line in their place."""
    from anymask.training.finetune import FinetuneConfig
    from anymask.training.strict_toml import read_strictly

    config = FinetuneConfig() if recipe is None else read_strictly(recipe, FinetuneConfig)
    run = dataclasses.replace(config.run, device=device)
    if steps is not None:
        run = dataclasses.replace(run, steps=steps)
    optim = config.optim
    if optim.warmup > run.steps // 4:
        optim = dataclasses.replace(optim, warmup=run.steps // 4)
    return dataclasses.replace(config, run=run, optim=optim, mode=config.mode if mode is None else mode.value)


def _check_output(output: Path) -> None:
    if output.suffix not in (".safetensors", ".pth"):
        raise OutputError(f"{output}: a model's name ends in .safetensors, or in .pth for Meta's format")
    check_folder(output.parent)
    if output.is_dir():
        raise OutputError(f"{output}: is a folder, the name of a file was expected")


def _set_channels(start: Sam, stated: str | None, output: Path) -> None:
    """Give the model a mapping of channels; every tuned copy and the file will have it."""
    from anymask.data.channels import ChannelMapping

    if stated is not None:
        start.channels = ChannelMapping.parse(stated).to_dict()
    if start.channels is not None and output.suffix != ".safetensors":
        raise OutputError(f"{output}: Meta's format cannot keep a mapping of channels; end the name in .safetensors")


def _open(
    images: Path,
    annotations: Path | None,
    hold_out: str | None,
    keep: list[str],
    report: list[str],
    config: FinetuneConfig,
    start: Sam,
) -> _Data:
    """Open and split every set; whatever is wrong with one is told now."""
    from anymask.data.open import open_data
    from anymask.data.sample import InMemorySamples, split
    from anymask.data.synthetic import SceneConfig
    from anymask.data.synthetic.endless import GeneratedScenes
    from anymask.inference.answers import channels_of

    channels = channels_of(start)
    name, files = _name(images), open_data(images, annotations, channels=channels)
    reported: SampleSet
    if hold_out is None:
        new, chosen, reported = split(files, (config.choose_on, config.hold_out))
    else:
        new, chosen = split(files, (config.choose_on,))
        reported = open_data(*_parts(hold_out), channels=channels)
    old: list[SampleSet] = []
    choose_old: dict[str, SampleSet] = {}
    report_old: dict[str, SampleSet] = {}
    for where in map(_parts, keep):
        replayed, to_choose, to_report = split(open_data(*where), (config.choose_on, config.hold_out))
        old.append(replayed)
        choose_old[_unused(_name(where[0]), choose_old)] = to_choose
        report_old[_unused(_name(where[0]), report_old)] = to_report
    if not keep:
        scenes = SceneConfig(size=min(start.image_size, 256))
        old = [GeneratedScenes(config.old_images, scenes, seed=1)]
        choose_old[_SCENES] = GeneratedScenes(_CHOSEN_IMAGES, scenes, seed=2)
        report_old[_SCENES] = GeneratedScenes(_SCENES_TO_REPORT, scenes, seed=3)
        known = _own_masks(start)
        if known:
            report_old[_SAMPLES] = InMemorySamples(known)
    for where in map(_parts, report):
        report_old[_unused(_name(where[0]), report_old)] = open_data(*where)
    return _Data(
        new=new,
        old=old,
        choose_new={name: chosen},
        choose_old=choose_old,
        report_new={name: reported},
        report_old=report_old,
    )


def _own_masks(start: Sam) -> list[Any]:
    from anymask.data.images import read_image
    from anymask.evaluation.retention import own_masks
    from anymask.samples import SAMPLES, sample_path

    return own_masks(start, {name: read_image(sample_path(name)) for name in SAMPLES})


def _parts(data: str) -> tuple[Path, Path | None]:
    """Take IMAGES,ANNOTATIONS apart; what exists under the whole name, comma and all, is one path."""
    images, _, annotations = data.rpartition(",")
    return (Path(images), Path(annotations)) if images and not Path(data).exists() else (Path(data), None)


def _name(path: Path) -> str:
    return path.resolve().name if path.is_dir() else path.stem


def _unused(name: str, taken: dict[str, Any]) -> str:
    if name in taken:
        raise DataError(f"two sets of data are named {name!r}: rename one")
    return name


def _fingerprint(start: Sam, data: _Data, config: FinetuneConfig) -> str:
    """Return what tells one run from another: model, channels, data and settings, but for the number of steps."""
    from anymask.checkpoints import model_hash

    settings = dataclasses.asdict(config)
    settings["run"].pop("steps")
    sets = [files.signature() for files in (data.new, *data.old)]
    text = json.dumps([model_hash(start), start.channels, settings, sets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _train(start: Sam, data: _Data, config: FinetuneConfig, folder: Path, minutes: float | None) -> Sam:
    """Tune with a bar for the encoding and one for the steps."""
    from contextlib import ExitStack

    from anymask.training.finetune import finetune as tune

    with ExitStack() as bars:
        encoding = bars.enter_context(_bar("encoding"))
        reports: list[Callable[[int, dict[str, float]], None]] = []

        def begins(steps: int) -> None:
            reports.append(bars.enter_context(training_progress(steps)))

        return tune(
            start,
            data.new,
            data.old,
            config,
            folder,
            minutes=minutes,
            encoding=lambda done, total: encoding("", done, total),
            begins=begins,
            progress=lambda step, values: reports[0](step, values),
        )


def _choose(start: Sam, tuned: Sam, data: _Data, config: FinetuneConfig) -> tuple[float, list[Trial]]:
    """Choose how much of the tuned weights to take, by one point, three points and boxes on held-out images."""
    from anymask.evaluation.single_point import quick_validation
    from anymask.training.mixing import SHARES, choose_share

    done = 0
    with _bar("choosing") as heard:

        def score(model: Sam) -> tuple[float, float]:
            nonlocal done
            marks = []
            for sets in (data.choose_new, data.choose_old):
                each = max(1, _CHOSEN_IMAGES // len(sets))
                found = quick_validation(model, sets, num_images=each, num_masks=_CHOSEN_MASKS)
                marks.append(sum(found[name] for name in ("miou_1", "miou_3", "box")) / 3)
            done += 1
            heard("", done, 1 + len(SHARES))
            return marks[0], marks[1]

        return choose_share(start, tuned, score, tolerance=config.tolerance)


def _save(start: Sam, tuned: Sam, share: float, output: Path) -> Sam:
    """Write the mixture, and return it as it is in the file."""
    import torch

    from anymask.checkpoints import load_model, save_model
    from anymask.data.files import make_folder
    from anymask.training.mixing import mix

    make_folder(output.parent)
    form = "meta" if output.suffix == ".pth" else "native"
    save_model(mix(start, tuned, share), output, format=form, dtype=torch.float16)  # type: ignore[arg-type]
    return load_model(output, device=start.device)


def _measured() -> RetentionConfig:
    from anymask.evaluation.retention import RetentionConfig

    return RetentionConfig()


def _notes(model: str, config: FinetuneConfig, data: _Data, share: float, trials: list[Trial]) -> list[str]:
    """Say what was done, and how the mixture was chosen."""
    tried = "; ".join(f"{t.share:.0%}: {t.new:.3f}, {t.old:.3f}" for t in trials)
    return [
        f"{model} tuned ({config.mode}) on {len(data.new)} images; {len(data.old)} set(s) of data from before were "
        f"{config.replay:.0%} of each batch.",
        f"{share:.0%} of the tuned weights were taken, the rest are those before. Mean IoU of one point, three points "
        f"and boxes on held-out images, new and before, by that share: {tried}.",
        *(["Nothing was gained on held-out images: the model is the one before."] if share == 0 else []),
        *(
            [f"The masks of the {_SAMPLES} are those that the model before made itself: a fall there is a change."]
            if _SAMPLES in data.report_old
            else []
        ),
    ]


def _write(rows: list[Retained], notes: list[str], output: Path, folder: Path, as_json: bool) -> None:
    """Write the report beside the model, print what matters, and remove the run's folder."""
    from anymask.data.files import write_bytes_atomic
    from anymask.evaluation.retention import KINDS, remarks, to_dict, write
    from anymask.plots.retention import retention

    stem = output.with_name(f"{output.stem}-retention")
    paths = write(rows, stem, notes)
    try:
        figures = {
            name: [(getattr(row.before, key), getattr(row.after, key)) for row in rows] for key, name in KINDS.items()
        }
        drawn = retention([row.name for row in rows], figures, num_new=sum(row.is_new for row in rows))
        write_bytes_atomic(stem.with_suffix(".png"), drawn)
        paths.append(stem.with_suffix(".png"))
    except MissingPackageError as error:
        typer.echo(f"no plot: {error}", err=True)
    shutil.copyfile(folder / "log.jsonl", output.with_name(f"{output.stem}-log.jsonl"))
    shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        typer.echo(json.dumps({"model": str(output), "files": [str(p) for p in paths], **to_dict(rows, notes)}))
        return
    for line in remarks(rows):
        typer.echo(line, err=True)
    for path in (output, *paths):
        typer.echo(path)


@contextmanager
def _bar(description: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far one part of the work is; what is being done, how much is done, and of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True))

    def heard(what: str, done: int, total: int) -> None:
        if not bars.tasks:
            bars.start()
            bars.add_task(description, total=total)
        bars.update(bars.tasks[0].id, completed=done, total=total, description=f"{description} {what}".strip())
        if done >= total:
            bars.stop()

    try:
        yield heard
    finally:
        if bars.tasks:
            bars.stop()
