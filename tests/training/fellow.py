"""One process of a run that several train: `python fellow.py RECIPE FOLDER [STEP]`, or `forked` of a warm one.

With STEP the second process kills itself, once, when that many lines are in the log.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch.distributed

from anymask.model.config import SIZES, ViTConfig
from anymask.training.config import read_recipe
from anymask.training.objectives.sam import train

SMALL = ViTConfig(width=32, depth=2, num_heads=2, global_blocks=(1,))
"""An encoder without batch norm, whose batch is a process's own."""


def main(recipe: Path, folder: Path, dies_at: int | None = None) -> None:
    """Train what the recipe says, and note every second step which of its measurements this is."""
    SIZES["smoke"] = replace(SIZES["smoke"], encoder=SMALL)
    if dies_at is not None and os.environ["RANK"] == "1" and not (folder / "died").exists():
        threading.Thread(target=_die_at, args=(folder, dies_at), daemon=True).start()
    seen: list[int] = []
    train(read_recipe(recipe), folder, callbacks=[(2, lambda model, step: seen.append(step) or {"seen": len(seen)})])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def forked(environment: Mapping[str, str], recipe: Path, folder: Path, error: Path) -> None:
    """Do so in a process that has imported all this already; what goes wrong is written to `error`."""
    os.environ.update(environment)
    try:
        main(recipe, folder)
    except BaseException:
        error.write_text(traceback.format_exc())
        raise


def _die_at(folder: Path, lines: int) -> None:
    log = folder / "log.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) < lines:
        time.sleep(0.01)
    (folder / "died").touch()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
