"""A model taught a user's own pictures, and a report of what it gained and what it kept: `anymask finetune`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch

from anymask.checkpoints import load_model, model_hash, save_model
from anymask.checkpoints.average import mix_models
from anymask.data.channels import ChannelMapping
from anymask.data.files import check_folder, make_folder, write_bytes_atomic
from anymask.data.images import read_image
from anymask.data.open import open_data
from anymask.data.sample import InMemorySamples, SampleSet, split
from anymask.data.synthetic import SceneConfig
from anymask.data.synthetic.shards import GeneratedScenes
from anymask.errors import DataError, InputError, MissingPackageError, OutputError
from anymask.evaluation.retention import KINDS, Retained, measure, own_masks, remarks, to_dict, write
from anymask.evaluation.single_point import quick_validation
from anymask.inference import load
from anymask.inference.answers import channels_of
from anymask.model import Sam
from anymask.plots.curves import retention
from anymask.samples import SAMPLES, sample_path
from anymask.training.cost.plan import check_memory
from anymask.training.finetuning.finetune import SHARES, FinetuneConfig, Mode, Trial, choose_share
from anymask.training.finetuning.finetune import finetune as tune

_SCENES = "generated scenes"
_SAMPLES = "bundled photographs"
_CHOSEN_IMAGES, _SCENES_TO_REPORT = 8, 6
_CHOSEN_MASKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneProgress:
    """How far one part of a fine-tuning is."""

    part: Literal["encoding", "training", "choosing", "reporting"]
    done: int
    """Views encoded, steps made, mixtures judged or sets measured."""
    total: int
    """How many there will be."""
    name: str = ""
    """The set that was measured, while reporting."""
    values: Mapping[str, float] = field(default_factory=dict)
    """The step's loss and IoUs, while training: as a line of log.jsonl has them."""


OnProgress: TypeAlias = Callable[[FinetuneProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneReport:
    """What a fine-tuning left."""

    model: Path
    """The tuned model's file."""
    files: list[Path]
    """The report beside it: -retention.md, .json, and .png where matplotlib is installed."""
    rows: list[Retained]
    """Mean IoU by kind of prompt, from 0 to 1, before and after, a row per set."""
    notes: list[str]
    """What was done, in sentences."""
    share: float
    """Share of the tuned weights that was taken, from 0 to 1; the rest are those before."""
    no_plot: str | None = None
    """Why there is no plot; None where there is one."""

    @property
    def remarks(self) -> list[str]:
        """What fell by more than 0.01, in sentences."""
        return remarks(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `anymask finetune --json` prints them."""
        files = [str(path) for path in self.files]
        return {"model": str(self.model), "files": files, **to_dict(self.rows, self.notes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSets:
    """Sets by what they are for: to learn from, to choose the mixture by, to report on."""

    new: SampleSet
    old: list[SampleSet]
    choose_new: dict[str, SampleSet]
    choose_old: dict[str, SampleSet]
    report_new: dict[str, SampleSet]
    report_old: dict[str, SampleSet]


def finetune(
    images: str | Path,
    annotations: str | Path | None = None,
    output: str | Path = "model.safetensors",
    *,
    model: str | Path | Sam = "anymask-s",
    mode: Mode | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    keep: Sequence[str | Path] = (),
    hold_out: str | Path | None = None,
    report: Sequence[str | Path] = (),
    config: FinetuneConfig | None = None,
    channels: str | None = None,
    device: str | torch.device = "cpu",
    name: str | None = None,
    progress: OnProgress | None = None,
) -> FinetuneReport:
    """Teach a model your own kind of picture, write it, and report what it gained and kept: `anymask finetune`.

    By default the mask decoder alone learns, on embeddings that are made once. Generated scenes, or the data of `keep`,
    stay part of training, and at the end the weights are mixed with those before as far as held-out images ask for. A
    call that was stopped is resumed when it is repeated. The model that was given stays as it is.

        report = anymask.finetune("photographs", "annotations.json", "mine.safetensors", steps=500)
        print(report.share, *report.remarks, sep="\\n")
        model = anymask.load("mine.safetensors")

    Args:
        images: A folder of images, SA-1B's tars, or a folder with images and masks or JSONs.
        annotations: A COCO or LVIS .json, or a folder of masks; None where `images` holds them.
        output: The model's file: .safetensors, or .pth for Meta's format (float16). Beside it come its -retention.md,
            .json and .png, and the run's -log.jsonl.
        model: A name of `anymask models list`, a checkpoint's path, or a loaded model.
        mode: What learns: "decoder", "lora" (low-rank matrices in the encoder too) or "all"; the config's by default.
        steps: Steps of training; the config's by default.
        minutes: Train as many steps as fit into this, in place of `steps`; encoding comes first.
        keep: Data from before, replayed and reported on. Data are a path, or "IMAGES,ANNOTATIONS".
        hold_out: New data to report on, in place of a share of `images`.
        report: More data to report on, never learned from.
        config: All other settings (`anymask.training.finetuning.finetune.FinetuneConfig`).
        channels: What of deep or multi-band pictures is shown, "BANDS:LOW..HIGH": "3,2,1:0..10000".
        device: Where a model that is given by name is loaded and trained; a loaded model is trained where it is.
        name: What the report calls the model; its name or file by default.
        progress: Called with a `FinetuneProgress` after each view, step, mixture and set.

    Raises:
        DataError: Data are not there, hold no masks, or two sets have the same name.
        InputError: There is no such mode, or the memory does not suffice.
        OutputError: `output` has another suffix or cannot be written.
        CheckpointError: The model's file is none, or is damaged.
    """
    output = Path(output)
    check_output(output)
    start = model if isinstance(model, Sam) else load(model, device=device, runtime="torch")
    config = _settled(config or FinetuneConfig(), mode, steps, str(start.device))
    _set_channels(start, channels, output)
    data = open_finetune_sets(images, annotations, hold_out, keep, report, config, start)
    check_memory(start, config)
    folder = output.with_name(f".{output.stem}-{fingerprint(start, data, config)}")
    tell = progress or (lambda _: None)
    tuned = _train(start, data, config, folder, minutes, tell)
    share, trials = _choose(start, tuned, data, config, tell)
    after = _save(start, tuned, share, output)
    rows = measure(
        start,
        after,
        data.report_new,
        data.report_old,
        progress=lambda named, done, total: tell(
            FinetuneProgress(part="reporting", done=done, total=total, name=named)
        ),
    )
    called = name or ("The model" if isinstance(model, Sam) else str(model))
    notes = _notes(called, config, data, share, trials)
    files, no_plot = _write(rows, notes, output, folder)
    return FinetuneReport(model=output, files=files, rows=rows, notes=notes, share=share, no_plot=no_plot)


def _settled(config: FinetuneConfig, mode: Mode | None, steps: int | None, device: str) -> FinetuneConfig:
    """Return the settings, with what was given beside them in their place."""
    if mode is not None and mode not in get_args(Mode):
        raise InputError(f"there is no mode {mode!r}; the modes are {', '.join(get_args(Mode))}")
    run = dataclasses.replace(config.run, device=device)
    if steps is not None:
        run = dataclasses.replace(run, steps=steps)
    optim = config.optim
    if optim.warmup > run.steps // 4:
        optim = dataclasses.replace(optim, warmup=run.steps // 4)
    return dataclasses.replace(config, run=run, optim=optim, mode=config.mode if mode is None else mode)


def check_output(output: Path) -> None:
    """Raise OutputError where a model cannot be written under this name."""
    if output.suffix not in (".safetensors", ".pth"):
        raise OutputError(f"{output}: a model's name ends in .safetensors, or in .pth for Meta's format")
    check_folder(output.parent)
    if output.is_dir():
        raise OutputError(f"{output}: is a folder, the name of a file was expected")


def _set_channels(start: Sam, stated: str | None, output: Path) -> None:
    """Give the model a mapping of channels; every tuned copy and the file will have it."""
    if stated is not None:
        start.channels = ChannelMapping.parse(stated).to_dict()
    if start.channels is not None and output.suffix != ".safetensors":
        raise OutputError(f"{output}: Meta's format cannot keep a mapping of channels; end the name in .safetensors")


def open_finetune_sets(
    images: str | Path,
    annotations: str | Path | None,
    hold_out: str | Path | None,
    keep: Sequence[str | Path],
    report: Sequence[str | Path],
    config: FinetuneConfig,
    start: Sam,
) -> FinetuneSets:
    """Open and split every set; whatever is wrong with one is reported now."""
    channels = channels_of(start)
    name, files = _name(Path(images)), open_data(images, annotations, channels=channels)
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
    return FinetuneSets(
        new=new,
        old=old,
        choose_new={name: chosen},
        choose_old=choose_old,
        report_new={name: reported},
        report_old=report_old,
    )


def _own_masks(start: Sam) -> list[Any]:
    return own_masks(start, {name: read_image(sample_path(name)) for name in SAMPLES})


def _parts(data: str | Path) -> tuple[Path, Path | None]:
    """Take IMAGES,ANNOTATIONS apart; what exists under the whole name, comma and all, is one path."""
    images, _, annotations = str(data).rpartition(",")
    return (Path(images), Path(annotations)) if images and not Path(data).exists() else (Path(data), None)


def _name(path: Path) -> str:
    return path.resolve().name if path.is_dir() else path.stem


def _unused(name: str, taken: dict[str, Any]) -> str:
    if name in taken:
        raise DataError(f"two sets of data are named {name!r}: rename one")
    return name


def fingerprint(start: Sam, data: FinetuneSets, config: FinetuneConfig) -> str:
    """Return what tells one run from another: model, channels, data and settings, but for the number of steps."""
    settings = dataclasses.asdict(config)
    settings["run"].pop("steps")
    sets = [files.fingerprint() for files in (data.new, *data.old)]
    text = json.dumps([model_hash(start), start.channels, settings, sets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _train(
    start: Sam, data: FinetuneSets, config: FinetuneConfig, folder: Path, minutes: float | None, tell: OnProgress
) -> Sam:
    """Tune a copy, and report each view that is encoded and each step."""
    total = config.run.steps

    def begins(steps: int) -> None:
        nonlocal total
        total = steps

    return tune(
        start,
        data.new,
        data.old,
        config,
        folder,
        minutes=minutes,
        encoding=lambda done, views: tell(FinetuneProgress(part="encoding", done=done, total=views)),
        begins=begins,
        progress=lambda step, values: tell(FinetuneProgress(part="training", done=step, total=total, values=values)),
    )


def _choose(
    start: Sam, tuned: Sam, data: FinetuneSets, config: FinetuneConfig, tell: OnProgress
) -> tuple[float, list[Trial]]:
    """Choose how much of the tuned weights to take, by one point, three points and boxes on held-out images."""
    done = 0

    def score(model: Sam) -> tuple[float, float]:
        nonlocal done
        marks = []
        for sets in (data.choose_new, data.choose_old):
            each = max(1, _CHOSEN_IMAGES // len(sets))
            found = quick_validation(model, sets, num_images=each, num_masks=_CHOSEN_MASKS)
            marks.append(sum(found[kind] for kind in ("miou_1", "miou_3", "box")) / 3)
        done += 1
        tell(FinetuneProgress(part="choosing", done=done, total=1 + len(SHARES)))
        return marks[0], marks[1]

    return choose_share(start, tuned, score, tolerance=config.tolerance)


def _save(start: Sam, tuned: Sam, share: float, output: Path) -> Sam:
    """Write the mixture, and return it as it is in the file."""
    make_folder(output.parent)
    form = "meta" if output.suffix == ".pth" else "native"
    save_model(mix_models(start, tuned, share), output, format=form, dtype=torch.float16)  # type: ignore[arg-type]
    return load_model(output, device=start.device)


def _notes(model: str, config: FinetuneConfig, data: FinetuneSets, share: float, trials: list[Trial]) -> list[str]:
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


def _write(rows: list[Retained], notes: list[str], output: Path, folder: Path) -> tuple[list[Path], str | None]:
    """Write the report beside the model, and remove the run's folder; also return why there is no plot, if so."""
    stem = output.with_name(f"{output.stem}-retention")
    paths, no_plot = write(rows, stem, notes), None
    try:
        figures = {
            name: [(getattr(row.before, key), getattr(row.after, key)) for row in rows] for key, name in KINDS.items()
        }
        drawn = retention([row.name for row in rows], figures, num_new=sum(row.is_new for row in rows))
        write_bytes_atomic(stem.with_suffix(".png"), drawn)
        paths.append(stem.with_suffix(".png"))
    except MissingPackageError as error:
        no_plot = str(error)
    shutil.copyfile(folder / "log.jsonl", output.with_name(f"{output.stem}-log.jsonl"))
    shutil.rmtree(folder, ignore_errors=True)
    return paths, no_plot
