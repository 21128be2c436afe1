"""Former names of modules, which are importable for one version."""

from __future__ import annotations

import importlib
import sys

import pytest

from anymask.moved import MOVED, RENAMED, find


@pytest.mark.parametrize("former", sorted(MOVED))
def test_a_former_name_warns_and_has_the_names(former: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, former, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{former} is {MOVED[former]} now") as caught:
        module = importlib.import_module(former)
    assert caught[0].filename == importlib.__file__ or caught[0].filename == __file__
    now = importlib.import_module(MOVED[former])
    assert {name for name in vars(now) if not name.startswith("_")} <= set(vars(module))
    assert all(getattr(module, old) is find(MOVED[former], new) for old, new in RENAMED.get(former, {}).items())


def test_the_warning_is_of_the_line_that_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "anymask.data.labelled", raising=False)
    with pytest.warns(DeprecationWarning, match=r"anymask\.data\.open now") as caught:
        from anymask.data.labelled import open_labelled
    from anymask.data.open import open_data

    assert caught[0].filename == __file__ and open_labelled is open_data


def test_no_former_name_is_taken() -> None:
    assert all(importlib.util.find_spec(now) for now in MOVED.values())
    with pytest.raises(ModuleNotFoundError, match=r"anymask\.data\.nowhere"):
        importlib.import_module("anymask.data.nowhere")
