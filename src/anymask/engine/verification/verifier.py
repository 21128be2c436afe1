"""The verifier of masks: from a mask's features to the chances that a person accepts it as it is, fixes it, rejects it.

A small head beside the ranker's on the same extractor. It belongs to the model whose embeddings it reads, is trained in
seconds, and is calibrated on masks that it was not trained on.

Legend: N masks, F features, V verdicts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.checkpoints.load import model_hash
from anymask.data.files import write_whole
from anymask.engine.store.reviews import VERDICTS
from anymask.engine.verification import features
from anymask.errors import DataError
from anymask.geometry.rle import RLE
from anymask.inference.answers import EncodedImage
from anymask.model import Sam

ACCEPT, FIX, REJECT = range(len(VERDICTS))
"""Places of the verdicts among a mask's chances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierConfig:
    """The head, and how it is trained; the defaults take seconds on one core."""

    width: int = 96
    dropout: float = 0.3
    steps: int = 300
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    folds: int = 5
    """Parts of the images, each of which is judged by a head that was trained on the others, to calibrate by."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierScores:
    """How well masks were judged that the verifier had not been trained on."""

    masks: int
    auc: float
    """Chance that an accepted mask gets a higher chance of acceptance than a rejected one."""
    auc_predicted_iou: float
    """The same for the model's predicted IoU alone."""
    error: float
    """Expected calibration error of the chance of acceptance."""


class VerifierHead(nn.Module):
    """From features to the logits of the verdicts."""

    centre: Tensor
    spread: Tensor

    def __init__(self, num_means: int, num_measures: int, config: VerifierConfig) -> None:
        super().__init__()
        self.num_means = num_means
        self.norm = nn.LayerNorm(num_means)
        self.means = nn.Linear(num_means, config.width)
        self.measures = nn.Linear(num_measures, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.joined = nn.Linear(2 * config.width, config.width)
        self.out = nn.Linear(config.width, len(VERDICTS))
        self.register_buffer("centre", torch.zeros(num_measures))
        self.register_buffer("spread", torch.ones(num_measures))

    def forward(self, known: Float[Tensor, "n f"]) -> Float[Tensor, "n v"]:
        """Return logits."""
        means, measures = known[:, : self.num_means], known[:, self.num_means :]
        own = self.means(self.dropout(self.norm(means)))
        measured = self.measures((measures - self.centre) / self.spread)
        joined = self.joined(self.dropout(F.relu(torch.cat([own, measured], 1))))
        logits: Tensor = self.out(self.dropout(F.relu(joined)))
        return logits


def head_hash(head: nn.Module, notes: Mapping[str, str]) -> str:
    """Return sixteen hexadecimal digits of a SHA-256 over a head's weights and the notes that its file has."""
    digest = hashlib.sha256(json.dumps(dict(notes), sort_keys=True).encode())
    for name, tensor in sorted(head.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_head(head: nn.Module, notes: Mapping[str, str], path: Path) -> None:
    """Write a head's weights with its notes as metadata, whole or not at all."""
    state = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
    write_whole(path, lambda temporary: save_file(state, temporary, dict(notes)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskVerifier:
    """A trained head, and what makes chances of its logits."""

    model: str
    """Hash of the model whose embeddings it reads."""
    head: VerifierHead
    config: VerifierConfig
    temperature: float
    bias: tuple[float, ...]
    """Added to the logits, once they are divided by the temperature."""
    accept_from: float = 1.0
    """Chance of acceptance from which a mask is surely right: those held out were often enough; above 1: none were."""
    reject_from: float = 1.0
    """Chance of rejection from which a mask is surely wrong."""
    scores: Mapping[str, float] = field(default_factory=dict)

    def chances(self, known: Float[Tensor, "n f"]) -> Float[np.ndarray, "n v"]:
        """Return the chance of each verdict for masks of such features."""
        with torch.no_grad():
            logits = self.head.eval()(known)
        return calibrated(logits, self.temperature, self.bias)

    def judge(
        self, model: Sam, image: EncodedImage, masks: Sequence[RLE], others: Sequence[RLE] = ()
    ) -> Float[np.ndarray, "n v"]:
        """Return the chance of each verdict for masks of an encoded image; `others` are there too, and not judged."""
        return self.chances(features.describe(model, image, masks, others))

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits of a SHA-256 over all that its chances and its word depend on."""
        return head_hash(self.head, self._notes())

    def save(self, path: Path) -> None:
        """Write it."""
        save_head(self.head, self._notes(), path)

    def _notes(self) -> dict[str, str]:
        names = ("temperature", "bias", "accept_from", "reject_from")
        return {
            "anymask.verifier": json.dumps(asdict(self.config)),
            "anymask.model": self.model,
            "anymask.calibration": json.dumps({name: getattr(self, name) for name in names}),
            "anymask.scores": json.dumps(dict(self.scores)),
        }


def load_verifier(path: Path, model: Sam) -> MaskVerifier:
    """Read what `save` wrote; raises DataError where it is none, or belongs to another model."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
        config = VerifierConfig(**json.loads(notes["anymask.verifier"]))
        head = VerifierHead(*features.width(model), config)
        head.load_state_dict(state)
        known = json.loads(notes["anymask.calibration"])
        scores = json.loads(notes["anymask.scores"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: is no verifier for this model; `anymask engine verify --train` makes one") from error
    if notes.get("anymask.model") != model_hash(model):
        raise DataError(
            f"{path}: this verifier reads another model's embeddings; `anymask engine verify --train` makes a new one"
        )
    known["bias"] = tuple(known["bias"])
    return MaskVerifier(model=notes["anymask.model"], head=head.eval(), config=config, scores=scores, **known)


def calibrated(logits: Float[Tensor, "n v"], temperature: float, bias: Sequence[float]) -> Float[np.ndarray, "n v"]:
    """Return the chances that logits mean."""
    chances = (logits / temperature + torch.tensor(bias, dtype=logits.dtype)).softmax(1)
    return np.asarray(chances.numpy(), np.float64)


def fit(
    known: Float[Tensor, "n f"], verdicts: Int[Tensor, " n"], num_means: int, config: VerifierConfig
) -> VerifierHead:
    """Train a head from random weights."""
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        head = VerifierHead(num_means, known.shape[1] - num_means, config)
        head.centre.copy_(known[:, num_means:].mean(0))
        head.spread.copy_(known[:, num_means:].std(0, correction=0).clamp(min=1e-3))
        optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, config.steps, pct_start=0.1)
        head.train()
        for _ in range(config.steps):
            chosen = torch.randint(len(known), (min(config.batch_size, len(known)),), generator=generator)
            loss = F.cross_entropy(head(known[chosen]), verdicts[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def held_out_logits(
    known: Float[Tensor, "n f"],
    verdicts: Int[Tensor, " n"],
    images: Int[np.ndarray, " n"],
    num_means: int,
    config: VerifierConfig,
) -> Float[Tensor, "n v"]:
    """Return the logits of each mask by a head that has seen no mask of its image."""
    logits = torch.zeros(len(known), len(VERDICTS))
    places = np.random.default_rng(config.seed).permutation(np.unique(images))
    for fold in range(config.folds):
        held = torch.from_numpy(np.isin(images, places[fold :: config.folds]))
        if held.any() and not held.all():
            head = fit(known[~held], verdicts[~held], num_means, config)
            with torch.no_grad():
                logits[held] = head(known[held])
    return logits


def calibrate(logits: Float[Tensor, "n v"], verdicts: Int[Tensor, " n"]) -> tuple[float, tuple[float, ...]]:
    """Return the temperature and the bias under which the verdicts are likeliest."""
    scale = torch.zeros(1, requires_grad=True)
    bias = torch.zeros(logits.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        # A verdict that nobody has given would be pushed out of the world; the small weight keeps it in.
        loss = F.cross_entropy(logits * scale.exp() + bias, verdicts) + 1e-3 * (
            scale.square().sum() + bias.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    return float((-scale.detach()).exp()), tuple(bias.detach().tolist())


def auc(scores: Float[np.ndarray, " n"], right: np.ndarray) -> float:
    """Return the chance that what is right scores higher than what is not, ties counting half; 0.5 without both."""
    positive, negative = scores[right], scores[~right]
    if not len(positive) or not len(negative):
        return 0.5
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(negative)))
