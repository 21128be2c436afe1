from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_plan_is_printed_for_people_and_machines(
    anymask: Callable[..., Any], refused: Callable[..., str], tiny_recipe: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(tiny_recipe)
    ran = anymask("train", "plan", recipe, "--gpu", "h100", "--gpus", "2")
    assert ran.status == 0, ran.err
    assert "on 2 h100 in bfloat16, if 35% of the peak" in ran.out
    values = json.loads(anymask("train", "plan", recipe, "--json").out)
    assert (values["size"], values["steps"], values["gpu"], values["gpus"]) == ("smoke", 4, "a100", 1)
    assert values["flops_per_image"] == 3 * (values["encoder_flops"] + values["decoder_flops"])
    assert "abacus" in refused("train", "plan", recipe, "--gpu", "abacus")
    assert list(tmp_path.iterdir()) == [recipe]
