"""On what a benchmark ran: a figure without its processor says little."""

from __future__ import annotations

import os
from typing import Any

from anymask.threads import instruction_sets, processor_name


def machine() -> dict[str, Any]:
    """Return the processor, those of its instruction sets that matter here, and how many of its cores there are."""
    return {"processor": processor_name(), "instructions": instruction_sets(), "cpus": os.cpu_count()}
