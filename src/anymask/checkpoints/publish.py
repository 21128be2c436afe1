"""A folder to upload to the Hugging Face Hub: our file, a twin for transformers where there is one, and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anymask.checkpoints.load import model_hash, save_model
from anymask.checkpoints.repositories import OWN_FILE
from anymask.data.files import make_folder, write_text_atomic
from anymask.errors import CheckpointError, InputError
from anymask.model import Sam


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the card says that the model does not know itself."""

    name: str
    """As the repository will be called: org/name."""
    licence: str
    """Of the weights, by the Hub's short names, such as apache-2.0."""
    description: str = ""
    base: str | None = None
    """The repository or the name of the model that it was tuned from."""
    data: str = ""
    """What it was trained on, and under which licence that is."""
    scores: Mapping[str, float] | None = None
    """Measured figures by their names."""

    def __post_init__(self) -> None:
        """Refuse what a card cannot say."""
        if not self.name.strip() or not self.licence.strip():
            raise InputError("a model that is published needs a name and a licence")


def publish(model: Sam, folder: str | Path, card: Card, *, dtype: torch.dtype | None = None) -> list[Path]:
    """Write the folder, new or empty, and return its files.

    Raises InputError where there is something in the folder, CheckpointError and OutputError where it cannot be
    written.
    """
    target = Path(folder)
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"{target}: is not empty; give a new folder, so that nothing else is uploaded")
    make_folder(target)
    save_model(model, target / OWN_FILE, "native", dtype)
    has_twin = True
    try:
        save_model(model, target, "huggingface", dtype)
    except CheckpointError:
        has_twin = False
        values = {"model_type": "anymask", "sam_config": model.config.to_dict(), "hash": model_hash(model)}
        write_text_atomic(target / "config.json", json.dumps(values, indent=2) + "\n")
    write_text_atomic(target / "README.md", _card(model, card, has_twin))
    return sorted(target.iterdir())


def _card(model: Sam, card: Card, has_twin: bool) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    config = model.config
    front: dict[str, Any] = {
        "license": card.licence.lower(),
        "library_name": "transformers" if has_twin else "anymask",
        "pipeline_tag": "mask-generation",
        "tags": ["anymask", "segment-anything", "image-segmentation"],
    }
    if card.base:
        front["base_model"] = card.base
    head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())
    parts = [f"---\n{head}---\n\n# {card.name}\n"]
    if card.description:
        parts.append(card.description + "\n")
    parts.append(
        f"A promptable segmentation model of {parameters / 1e6:.1f} million parameters, which sees images at "
        f"{config.image_size} pixels; encoder: {type(config.encoder).__name__.removesuffix('Config')}.\n"
    )
    parts.append(
        "```python\nimport anymask\n\n"
        f'predictor = anymask.Predictor(anymask.load("{card.name}"))\npredictor.set_image("photo.jpg")\n'
        "masks = predictor.predict(points=[(520, 375)])\n```\n"
    )
    if has_twin:
        parts.append(
            "```python\nfrom transformers import pipeline\n\n"
            f'masks = pipeline("mask-generation", model="{card.name}")("photo.jpg")["masks"]\n```\n'
        )
    if model.channels is not None:
        parts.append(
            "It sees pictures through a mapping of channels that its file holds; other programs must apply it.\n"
        )
    if card.scores:
        rows = "".join(f"| {name} | {value:.4g} |\n" for name, value in card.scores.items())
        parts.append(f"## Scores\n\n| measure | value |\n|---|---|\n{rows}")
    parts.append(f"## Licence and data\n\nThe weights are under {card.licence}.\n")
    if card.base:
        parts.append(f"It was tuned from {card.base}, whose licence holds as well.\n")
    parts.append((card.data or "Its maker says nothing of the data that it was trained on.") + "\n")
    parts.append(f"Hash of config and weights: `{model_hash(model)}`\n")
    return "\n".join(parts)


def read_scores(path: str | Path) -> dict[str, float]:
    """Return the numbers of a JSON file by their names, those within others joined by a space.

    Raises InputError where there are none.
    """
    from anymask.data.json_files import read_json

    found: dict[str, float] = {}

    def collect(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                collect(inner, f"{name} {key}".strip())
        elif isinstance(value, int | float) and not isinstance(value, bool) and name:
            found[name] = float(value)

    collect(read_json(path), "")
    if not found:
        raise InputError(f"{path}: has no numbers; an object of names and numbers was expected")
    return found
