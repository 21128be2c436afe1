"""`anymask evaluate rating`: sheets for people to rate masks on, and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.evaluate.options import AsJson, Data, Images, Seed, name_models, open_named
from anymask.cli.weights import Device, Offline
from anymask.data.files import check_folder

app = typer.Typer(help="Let people rate masks from 1 to 10, as the paper's human study does.")


@app.command("sheet", epilog="Example: anymask evaluate rating sheet photographs --model anymask-s -o rating")
def make_sheet(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where sheet.html and key.json go.")],
    model: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A model; may be repeated.")] = None,
    images: Images = None,
    max_masks: Annotated[
        int, typer.Option(min=1, metavar="N", help="Masks of a data set, each on its own image.")
    ] = 20,
    seed: Seed = 0,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Make a sheet of masks in random order: each model's after one click, and the annotated ones among them."""
    from functools import cache

    import numpy as np

    from anymask.data.files import make_folder, write_text_atomic
    from anymask.data.open import open_sets
    from anymask.evaluation.examples import draw_examples
    from anymask.evaluation.rating import MIN_SIDE, RatedMask, sheet
    from anymask.evaluation.single_point import ModelSegmenter
    from anymask.inference.answers import channels_of
    from anymask.workflows.evaluation_pictures import draw_panel

    check_folder(output)
    names = name_models(model)
    sets = cache(lambda channels: open_sets(data, images=images, channels=channels))
    items = []
    for label, path in names.items():
        loaded, _ = open_named(path, offline=offline, device=device)
        seen = sets(channels_of(loaded))
        for example in draw_examples(ModelSegmenter(loaded), label, seen, max_masks, MIN_SIDE**2, seed):
            subject = f"{example.set_name} {example.point[0]},{example.point[1]} {example.image.shape}"
            items.append(RatedMask(picture=draw_panel(example, example.masks[label]), method=label, subject=subject))
            if label == next(iter(names)):
                items.append(RatedMask(picture=draw_panel(example, example.truth), method="annotated", subject=subject))
    page, key = sheet(items, name=output.resolve().name, rng=np.random.default_rng(seed))
    make_folder(output)
    write_text_atomic(output / "sheet.html", page)
    write_text_atomic(output / "key.json", json.dumps(key.to_dict(), indent=1) + "\n")
    typer.echo(f"sheet    {output / 'sheet.html'}  ({len(items)} masks; whose they are is in key.json)")


@app.command("summary", epilog="Example: anymask evaluate rating summary rating/key.json ratings-*.json")
def summary(
    key: Annotated[Path, typer.Argument(metavar="KEY.json", help="The sheet's key.")],
    ratings: Annotated[list[Path], typer.Argument(metavar="RATINGS.json...", help="What the sheet's button saved.")],
    as_json: AsJson = False,
) -> None:
    """Say what each method was rated, with the 95 % interval of the mean."""
    import dataclasses

    import numpy as np

    from anymask.data.json_files import read_json
    from anymask.errors import DataError
    from anymask.evaluation.rating import Key, summarise
    from anymask.evaluation.report import table

    try:
        whose = Key.from_dict(read_json(key))
    except (ValueError, DataError) as error:
        raise DataError(f"{key} is no key of a sheet, such as key.json beside it") from error
    found = summarise(whose, ratings, rng=np.random.default_rng(0))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(rating) for rating in found]))
        return
    rows = [[r.method, f"{r.mean:.2f}", f"{r.low:.2f}–{r.high:.2f}", str(r.num_ratings)] for r in found]
    typer.echo(table(["method", "mean", "95 %", "ratings"], rows))
