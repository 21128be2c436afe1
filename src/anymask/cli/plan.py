"""`anymask train plan`: what a recipe costs, before an hour is spent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from anymask.training.plan import Plan


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as those in recipes/.")],
    gpu: Annotated[str, typer.Option(help="a100, h100, h200, …")] = "a100",
    gpus: Annotated[int | None, typer.Option(metavar="N", help="How many; the recipe's processes by default.")] = None,
    efficiency: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of the peak reached; 0.35 (bfloat16), 0.45 (float32).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count a recipe's parameters, operations, memory a GPU and hours; nothing is read or trained."""
    import dataclasses
    import json

    from anymask.training.config import read_recipe
    from anymask.training.plan import plan_run

    found = plan_run(read_recipe(recipe), gpu=gpu, gpus=gpus, efficiency=efficiency)
    typer.echo(json.dumps(dataclasses.asdict(found)) if as_json else "\n".join(_lines(found)))


def _lines(found: Plan) -> list[str]:
    """Return the plan as text."""
    parts = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in found.parameters.items())
    checkpointed = f"{found.flops_per_image_checkpointed / 1e12:.3g} TFLOP with activation checkpointing"
    lines = [
        f"model        {found.size} at {found.image_size} pixels: {parts}",
        f"run          {found.steps} steps of {found.batch} images",
        f"forward      {found.encoder_flops / 1e12:.3g} TFLOP an image in the encoder, "
        f"{found.decoder_flops / 1e12:.3g} in the decoder",
        f"step         {found.flops_per_image / 1e12:.3g} TFLOP an image, forward and backward; {checkpointed}",
        f"             {found.flops_per_step / 1e15:.3g} PFLOP in all",
        f"memory       {found.state_bytes / 2**30:.1f} GiB of weights, gradients and optimiser in a process",
    ]
    if found.activation_bytes is not None and found.activation_bytes_checkpointed is not None:
        lines.append(
            f"             {found.activation_bytes / 2**30:.1f} GiB of activations, "
            f"{found.activation_bytes_checkpointed / 2**30:.1f} GiB with activation checkpointing"
        )
    for precision, hours in found.hours.items():
        lines.append(
            f"hours        {hours:.3g} on {found.gpus} {found.gpu} in {precision}, if "
            f"{found.efficiency[precision]:.0%} of the peak is reached"
        )
    return lines
