"""Recipes: a training run as a TOML file, read strictly into frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from anymask.data.transforms import TransformConfig
from anymask.errors import AnymaskError
from anymask.model import SIZES, SamConfig, ViTConfig
from anymask.model.mae import MaeConfig, MaskedAutoencoder
from anymask.task.losses import LossConfig
from anymask.task.rounds import RoundsConfig
from anymask.training.strict_toml import read_strictly


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """One source of samples: where it lies, its weight, its variations.

    `data` is of any kind that `anymask.data.open.open_data` opens, with `annotations` where those of one place lie
    apart; `tars` and `folders` are the same under the names of its oldest kinds. All but `annotations` are glob
    patterns; `~` and $VARIABLES are expanded.
    """

    tars: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    annotations: str = ""
    weight: float = 1.0
    transforms: TransformConfig = field(default_factory=TransformConfig)

    def __post_init__(self) -> None:
        """Refuse a source of nothing, or of two kinds."""
        if sum(map(bool, (self.tars, self.folders, self.data))) != 1:
            raise ValueError("a source needs one of data, tars and folders")
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight}; it must be at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """The optimiser and its schedule; the paper's is AdamW (SAM, app. A)."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon` learns from fewer images, above all from nothing (`anymask.training.optim`)."""
    learning_rate: float = 8e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.1
    warmup: int = 250
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    final_factor: float = 0.01
    """Learning rate at the end of a cosine, relative to the highest."""
    milestones: tuple[int, ...] = ()
    """Steps after which the `steps` schedule divides by ten."""
    layer_decay: float = 1.0
    """Learning rate of a ViT's block relative to the next one's (`anymask.training.optim.layer_scale`); 1 for none."""
    trunk_scale: float = 1.0
    """Learning rate of a pre-trained trunk relative to the rest's; 0 leaves it as it is."""
    clip_norm: float = 1.0
    accumulate: int = 1
    """Number of batches whose gradients make one step."""
    ema: float = 0.0
    """Decay of the moving average of the weights; 0 keeps none."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        _at_least(self, 0, "learning_rate", "weight_decay", "warmup", "final_factor", "trunk_scale")
        _at_least(self, 1, "accumulate")
        if self.clip_norm <= 0:
            raise ValueError(f"clip_norm is {self.clip_norm}; it must be above 0")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}; it must be above 0 and at most 1")
        if not all(0 <= rate < 1 for rate in (self.ema, *self.betas)):
            raise ValueError(f"ema is {self.ema} and betas {self.betas}; they must be at least 0 and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What is trained: a named size, its input side, and the weights to start from ('' for random ones)."""

    size: str = "compact"
    image_size: int = 512
    start: str = ""
    """A model's name or file, a public MAE's file, or for a size on a trunk of that name, `efficientnet-lite0` to
    `efficientnet-lite2`: the installed package of its weights, or their file. $VARIABLES are expanded."""
    rest: str = ""
    """A model whose weights begin what `start` leaves at random, where their names and shapes agree; '': none."""
    drop_path: float = 0.0
    """Chance that the encoder's last block is left out for an image, falling to none at the first; 0: the size's."""
    pred_iou_thresh: float | None = None
    """Of masks of everything (`anymask.model.SamConfig`); left out, that of `start`, or the size's."""
    stability_score_thresh: float | None = None
    """Least stability of masks of everything, from 0 to 1; left out, that of `start`, or the size's."""
    ranker_width: int | None = None
    """Channels of the ranker (`anymask.model.DecoderConfig`), a new one where `start` has none; left out, that of
    `start`."""

    def __post_init__(self) -> None:
        """Refuse a model that cannot be built."""
        if self.size not in SIZES:
            raise ValueError(f"size is {self.size!r}; it must be one of {', '.join(SIZES)}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path is {self.drop_path}; it must be at least 0 and below 1")
        if self.ranker_width is not None:
            _at_least(self, 1, "ranker_width")
        try:
            self.build()
        except AnymaskError as error:
            raise ValueError(str(error)) from error

    def build(self, start: SamConfig | None = None) -> SamConfig:
        """Return the named size at that input side; thresholds and ranker are the start's, if not given."""
        config = SIZES[self.size]
        encoder = config.encoder
        if self.drop_path:
            encoder = dataclasses.replace(encoder, drop_path=self.drop_path)
        thresholds = {
            name: getattr(start or config, name) if (own := getattr(self, name)) is None else own
            for name in ("pred_iou_thresh", "stability_score_thresh")
        }
        ranker_width = self.ranker_width or (start or config).decoder.ranker_width
        decoder = dataclasses.replace(config.decoder, ranker_width=ranker_width)
        return dataclasses.replace(config, encoder=encoder, decoder=decoder, image_size=self.image_size, **thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Decoded images kept (see `anymask.data.cache`): at most `mib`; in `folder`, or '' for each worker's RAM."""

    mib: int = 0
    folder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How long, how large, how often; `*_every` counts steps, and 0 is never."""

    RENAMED: ClassVar[Mapping[str, str]] = {"deep": "nested_mask_weight"}
    """Former keys of recipes, and what they are called now."""

    steps: int
    batch_size: int = 16
    num_masks: int = 4
    """Masks drawn from each image; where it has fewer, they repeat."""
    nested_mask_weight: float = 0.0
    """How much more often a mask is drawn for each mask that it lies within (`anymask.data.loader.BatchStream`)."""
    seed: int = 0
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    num_workers: int = 1
    """Processes that load data; 0 loads in the training process."""
    processes: int = 1
    """Processes that the recipe is meant for, each with batches of its own; `anymask train plan` counts with it."""
    sharding: Literal["none", "full"] = "none"
    """Under torchrun: a whole model in every process, or its parameters shared out over them (FSDP2)."""
    checkpointing: bool = False
    """Whether the encoder's blocks compute their activations twice: less memory, a third slower."""
    compile: bool = False
    """Whether the image encoder goes through torch.compile; the first step then takes minutes."""
    num_threads: int = 0
    """Threads of the CPU's kernels; 0 leaves torch's choice."""
    save_every: int = 500
    sheet_every: int = 0
    log_every: int = 20

    def __post_init__(self) -> None:
        """Refuse values that cannot be run with."""
        _at_least(self, 1, "steps", "batch_size", "num_masks", "processes", "save_every", "log_every")
        _at_least(self, 0, "nested_mask_weight", "seed", "num_workers", "num_threads", "sheet_every")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationConfig:
    """The single-point protocol on a part of held-out tars, every so many steps (0: never) and at the end."""

    tars: tuple[str, ...] = ()
    every: int = 0
    num_images: int = 6
    """Number of images of each tar."""
    num_masks: int = 8
    """Number of masks of each image."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be run with."""
        _at_least(self, 0, "every")
        _at_least(self, 1, "num_images", "num_masks")
        if bool(self.tars) != bool(self.every):
            raise ValueError(f"tars are {list(self.tars)} and every is {self.every}; give both, or neither")


def _at_least(config: Any, least: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least {least}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilConfig:
    """The model whose embeddings an image encoder learns to give."""

    teacher: str = "anymask-s"
    """A model's name or file; its embedding has the width and stride of the model's that learns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """The ranker's loss: squared error of predicted IoUs, and which candidate is best (`training.ranker_step`)."""

    ranking: float = 0.1
    """Weight of the ranking loss against the squared error of the IoUs."""
    temperature: float = 0.1
    """Difference of IoU that makes a candidate e times as likely the best."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        _at_least(self, 0, "ranking")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole training run."""

    run: RunConfig
    sources: tuple[SourceConfig, ...]
    kind: Literal["sam", "mae", "distil", "ranker"] = "sam"
    """The promptable task, or what prepares its image encoder: masked pre-training (`anymask.model.mae`), which reads
    images alone, or the embeddings of another model (`anymask.training.objectives.distil`);
    or, last, the ranker by itself (`anymask.training.objectives.ranker`)."""
    mae: MaeConfig = field(default_factory=MaeConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        """Refuse a run without data."""
        if not any(source.weight for source in self.sources):
            raise ValueError("sources must hold at least one of a weight above 0")
        if self.optim.layer_decay < 1 and (self.kind == "mae" or not isinstance(self.model.build().encoder, ViTConfig)):
            raise ValueError("optim.layer_decay is for training the promptable task with a ViT; leave it out")
        if self.kind == "mae":
            try:
                with torch.device("meta"):
                    MaskedAutoencoder(self.model.build(), self.mae)
            except AnymaskError as error:
                raise ValueError(f"model: {error}") from error


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; an unknown, missing, ill-typed or invalid key raises RecipeError with its line."""
    return read_strictly(path, Recipe)
