"""`anymask evaluate`: the paper's experiments, a protocol a verb."""

from __future__ import annotations

import typer

from anymask.cli import (
    evaluate_all,
    evaluate_edges,
    evaluate_instances,
    evaluate_proposals,
    evaluate_rating,
    evaluate_single_point,
    evaluate_text,
)

app = typer.Typer(help="Run the experiments of the Segment Anything paper on any model.")
app.command("single-point", epilog="Example: anymask evaluate single-point photographs-val.tar -o results")(
    evaluate_single_point.single_point
)
app.command(epilog="Example: anymask evaluate edges BSR/BSDS500/data --method model -o results/edges")(
    evaluate_edges.edges
)
app.command(epilog="Example: anymask evaluate proposals lvis_v1_val.json --images val2017 -o results")(
    evaluate_proposals.proposals
)
app.command(epilog="Example: anymask evaluate instances instances_val2017.json boxes.json --images val2017")(
    evaluate_instances.instances
)
app.command(epilog="Example: anymask evaluate text instances_val2017.json --images val2017 -o results")(
    evaluate_text.text
)
app.command("all", epilog="Example: anymask evaluate all photographs --model anymask-s --model sam-vit-b -o report")(
    evaluate_all.everything
)
app.add_typer(evaluate_rating.app, name="rating")
