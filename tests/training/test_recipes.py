"""Recipes are read as they stand, or refused in one sentence with the line that is wrong."""

from pathlib import Path

import pytest

from anymask.errors import RecipeError
from anymask.training.config import read_recipe

OTHERS = ("finetune", "text")
ROOT = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path for path in ROOT.rglob("*.toml") if path.stem not in OTHERS)
"""Those of `anymask train RECIPE`; `anymask finetune` and `anymask train text` have settings of their own."""

GOOD = """
[run]
steps = 100
precision = "bfloat16"

[optim]
betas = [0.9, 0.95]
milestones = [60, 86]
learning_rate = 1

[[sources]]
tars = ["a.tar", "b.tar"]
transforms = { scale = [0.5, 2], flip = true }

[[sources]]
folders = ["photos"]
weight = 2

[sources.transforms]
color = 0.5
"""


def test_what_may_be_left_out_may_be_said(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(GOOD + "[model]\npred_iou_thresh = 1\n")
    model = read_recipe(tmp_path / "recipe.toml").model
    assert (model.pred_iou_thresh, model.stability_score_thresh) == (1.0, None)
    with pytest.raises(RecipeError, match="pred_iou_thresh must be a number, not 'high'"):
        read(tmp_path, GOOD + "[model]\npred_iou_thresh = 'high'\n")


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return read_recipe(path)


def test_values_are_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(GOOD)
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert (recipe.run.steps, recipe.run.precision, recipe.run.batch_size) == (100, "bfloat16", 16)
    assert (recipe.optim.betas, recipe.optim.milestones, recipe.optim.learning_rate) == ((0.9, 0.95), (60, 86), 1.0)
    first, second = recipe.sources
    assert first.tars == ("a.tar", "b.tar") and first.transforms.scale == (0.5, 2.0) and first.transforms.flip
    assert second.folders == ("photos",) and second.weight == 2.0 and second.transforms.color == 0.5
    assert recipe.rounds.num_rounds == 11


@pytest.mark.parametrize("path", RECIPES, ids=[str(path.relative_to(ROOT)) for path in RECIPES])
def test_the_recipes_of_the_repository_are_sound(path: Path) -> None:
    assert read_recipe(path).sources


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("steps = 100", "step = 100", 3, "run.step is no key of a recipe; here these are: batch_size"),
        ("steps = 100", "steps = 1.5", 3, "run.steps must be a whole number, not 1.5"),
        ("steps = 100", "steps = true", 3, "run.steps must be a whole number, not true"),
        ("steps = 100", "steps = '100'", 3, "run.steps must be a whole number, not '100'"),
        ("steps = 100", "seed = 1", 2, "run.steps is missing"),
        ("steps = 100", "steps = 0", 3, "run: steps is 0; it must be at least 1"),
        ('"bfloat16"', '"bf16"', 4, "run.precision must be 'float32' or 'bfloat16', not 'bf16'"),
        ("[0.9, 0.95]", "[0.9]", 7, "optim.betas needs 2 values, not 1"),
        ("[0.9, 0.95]", "[0.9, 'x']", 7, "optim.betas[1] must be a number, not 'x'"),
        ("[0.9, 0.95]", "0.9", 7, "optim.betas must be a list, each value a number, not 0.9"),
        ("[0.9, 0.95]", "[0.9, 1.5]", 6, "optim: ema is 0.0 and betas (0.9, 1.5)"),
        ("milestones = [60, 86]", "milestones = [60, 86.5]", 8, "optim.milestones[1] must be a whole number"),
        ("learning_rate = 1", "learning_rate = nan", 9, "optim.learning_rate must be a number, not nan"),
        ("[optim]", "[optimizer]", 6, "optimizer is no key of a recipe"),
        ("[optim]", "[optim.inner]", 6, "optim.inner is no key"),
        ("flip = true", "flop = true", 13, "sources[0].transforms.flop is no key"),
        ("flip = true", "flip = 1", 13, "sources[0].transforms.flip must be true or false, not 1"),
        ("scale = [0.5, 2]", "scale = [2, 0.5]", 13, "sources[0].transforms: scale is (2.0, 0.5)"),
        ("weight = 2", "weight = 'x'", 17, "sources[1].weight must be a number"),
        ("weight = 2", "weight = -2", 17, "sources[1]: weight is -2.0"),
        ('folders = ["photos"]', "", 15, "sources[1]: a source needs one of data, tars and folders"),
        ("color = 0.5", "colour = 0.5", 20, "sources[1].transforms.colour is no key"),
        ("color = 0.5", "color = 2", 20, "sources[1].transforms: color is 2.0"),
        ("[optim]", "[model]\nsize = 'huge'\n[optim]", 7, "model: size is 'huge'; it must be one of vit_b"),
        ("[optim]", "[model]\nimage_size = 100\n[optim]", 7, "model: image_size is 100"),
        ("[optim]", "[rounds.prompts]\npoints = 1\n[optim]", 7, "rounds.prompts.points is no key"),
        ("[optim]", "[rounds]\nprompts.points = 1\n[optim]", 7, "rounds.prompts.points is no key"),
        ("steps = 100", "steps = ", 3, "Invalid value (at line 3"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    with pytest.raises(RecipeError) as raised:
        read(tmp_path, GOOD.replace(old, new))
    assert words in str(raised.value)
    assert f"line {line}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_tables_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.toml: run is missing"):
        read(
            tmp_path,
            GOOD.replace("[run]", "[model]").replace("steps = 100\nprecision", "size").replace('"bfloat16"', '"smoke"'),
        )
    with pytest.raises(RecipeError, match="sources must hold at least one"):
        read(tmp_path, "sources = []\n[run]\nsteps = 1\n")
    with pytest.raises(RecipeError, match="sources must be a list"):
        read(tmp_path, "sources = 3\n[run]\nsteps = 1\n")
    with pytest.raises(RecipeError, match=r"absent\.toml cannot be read"):
        read_recipe(tmp_path / "absent.toml")


FORMER = GOOD.replace("steps = 100", "steps = 100\ndeep = 2.0") + "[loss]\nnested = 0.5\n[rounds]\nnum_taught = 2\n"


def test_former_keys_are_taken_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "recipe.toml").write_text(FORMER)
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert (recipe.run.nested_mask_weight, recipe.loss.ambiguity, recipe.rounds.num_loss_rounds) == (2.0, 0.5, 2)
    assert [record.getMessage() for record in caplog.records] == [
        "run.deep is called run.nested_mask_weight now; the former name will go",
        "loss.nested is called loss.ambiguity now; the former name will go",
        "rounds.num_taught is called rounds.num_loss_rounds now; the former name will go",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (
            "num_taught = 2",
            "num_taught = 2\nnum_loss_rounds = 2",
            25,
            "rounds.num_taught is the former name of num_loss",
        ),
        ("num_taught = 2", "num_taught = 99", 25, "rounds: num_loss_rounds is 99 of 10 rounds after the first"),
        ("deep = 2.0", "deep = -1", 4, "run: nested_mask_weight is -1.0"),
    ],
)
def test_what_is_wrong_with_former_keys_has_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(tmp_path, FORMER.replace(old, new))
    assert f", line {line}: {words}" in str(error.value)
