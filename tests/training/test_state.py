"""What is saved is whole, comes back as it was, and is refused where it does not fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anymask.errors import CheckpointError, OutputError
from anymask.training.config import ModelConfig, Recipe
from anymask.training.loop import new_state
from anymask.training.state import TrainingState


def moved(state: TrainingState, step: int) -> TrainingState:
    """The state after a step on made-up gradients."""
    generator = torch.Generator().manual_seed(step)
    for parameter in state.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    state.optimizer.step()
    assert state.moving_average is not None
    state.moving_average.update(state.model, step)
    state.step, state.seconds = step, 1.5 * step
    return state


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_everything_comes_back(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    saved = moved(new_state(recipe_of()), 7)
    saved.save(tmp_path / "state.pt")
    loaded = new_state(recipe_of(seed=5))
    loaded.load(tmp_path / "state.pt")
    assert (loaded.step, loaded.seconds) == (7, 10.5)
    assert equal(saved.model.state_dict(), loaded.model.state_dict())
    assert equal(saved.optimizer.state_dict(), loaded.optimizer.state_dict())
    assert saved.moving_average is not None and loaded.moving_average is not None
    assert equal(saved.moving_average.model.state_dict(), loaded.moving_average.model.state_dict())


def test_random_numbers_follow_from_seed_batch_and_process(recipe_of: Callable[..., Recipe]) -> None:
    state = new_state(recipe_of())

    def drawn(*of: int) -> tuple[float, float]:
        state.draw_anew(*of)
        return float(torch.rand(())), float(torch.rand((), generator=state.generator))

    first = drawn(1, 2, 3)
    assert first == drawn(1, 2, 3)
    others = [drawn(*of) for of in ((2, 2, 3), (1, 3, 3), (1, 2, 4))]
    assert len({*others, first}) == 4 and first[0] != first[1]


def test_the_recipe_may_change_decays_and_begin_an_average(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    without = new_state(recipe_of(ema=0.0))
    without.step = 3
    without.save(tmp_path / "state.pt")
    state = new_state(recipe_of(weight_decay=0.3, betas=(0.5, 0.6), seed=4))
    state.load(tmp_path / "state.pt")
    assert [group["weight_decay"] for group in state.optimizer.param_groups] == [0.3, 0.0]
    assert state.optimizer.param_groups[0]["betas"] == (0.5, 0.6)
    assert state.moving_average is not None
    assert equal(state.moving_average.model.state_dict(), without.model.state_dict())


@pytest.mark.parametrize("where", ["torch.save", "os.fsync", "pathlib.Path.replace"])
def test_a_crash_while_saving_leaves_the_old_state(
    where: str, recipe_of: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"
    state = moved(new_state(recipe_of()), 1)
    state.save(path)
    before = path.read_bytes()

    def crash(*args: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    moved(state, 2)
    with monkeypatch.context() as patch:
        patch.setattr(where, crash)
        with pytest.raises(KeyboardInterrupt):
            state.save(path)
    assert path.read_bytes() == before
    state.save(path)
    assert os.listdir(tmp_path) == ["state.pt"]
    other = new_state(recipe_of())
    other.load(path)
    assert other.step == 2


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    recipe_of: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"state\.pt cannot be written.*No space left"):
        new_state(recipe_of()).save(tmp_path / "state.pt")
    assert not os.listdir(tmp_path)


def test_what_does_not_fit_is_refused(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    new_state(recipe_of()).save(path)
    small = new_state(recipe_of())
    other = new_state(replace(recipe_of(), model=ModelConfig(size="compact", image_size=64)))
    with pytest.raises(CheckpointError, match="does not fit this recipe"):
        other.load(path)
    for content in (path.read_bytes()[:5000], b"", b"no state", b"PK\x03\x04" + b"0" * 50):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"state\.pt"):
            small.load(path)
    torch.save({"model": 3}, path)
    with pytest.raises(CheckpointError):
        small.load(path)
    torch.save([1], path)
    with pytest.raises(CheckpointError):
        small.load(path)
    with pytest.raises(CheckpointError):
        small.load(tmp_path / "absent.pt")
