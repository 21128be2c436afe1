"""`anymask evaluate`: the paper's experiments, a protocol per verb."""

from __future__ import annotations

import typer

from anymask.cli.evaluate import all as evaluate_all
from anymask.cli.evaluate import coco
from anymask.cli.evaluate import edges as evaluate_edges
from anymask.cli.evaluate import rating as evaluate_rating
from anymask.cli.evaluate import single_point as evaluate_single_point

app = typer.Typer(help="Run the experiments of the Segment Anything paper on any model.")
app.command("single-point", epilog="Example: anymask evaluate single-point photographs-val.tar -o results")(
    evaluate_single_point.single_point
)
app.command(epilog="Example: anymask evaluate edges BSR/BSDS500/data --method model -o results/edges")(
    evaluate_edges.edges
)
app.command(epilog="Example: anymask evaluate proposals lvis_v1_val.json --images val2017 -o results")(coco.proposals)
app.command(epilog="Example: anymask evaluate instances instances_val2017.json boxes.json --images val2017")(
    coco.instances
)
app.command(epilog="Example: anymask evaluate text instances_val2017.json --images val2017 -o results")(coco.text)
app.command("all", epilog="Example: anymask evaluate all photographs --model anymask-s --model sam-vit-b -o report")(
    evaluate_all.everything
)
app.add_typer(evaluate_rating.app, name="rating")
