"""Attack the package: mutated inputs on every surface, and processes that are killed while they write.

    python tests/attack/run.py --inputs 10000 --seed 0
    python tests/attack/run.py --kills 200 --database postgresql
    python tests/attack/run.py --kills-of finetune --kills 20

All of it stays on this machine: servers listen on the loopback address. Each surface runs in a process of its own,
which is watched: an input that takes over ten seconds, or a process over 4 GB, is a fault. The n-th input of a seed is
always the same. Seconds are those of the processor, as the machine may do other work, too; to wait for six times as
long is a fault as well. Faults are printed, and the exit status is 1 where there are any.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SHARES = {"http": 0.35, "files": 0.35, "python": 0.2, "shell": 0.1}
"""Of all inputs; one of the shell takes as long as ten of another."""
MAX_SECONDS = 10.0
MAX_WAIT = 6.0
"""Times as many seconds by the clock as of the processor."""
MAX_BYTES = 4 << 30
START_SECONDS = 240.0


@dataclass(slots=True, kw_only=True)
class Found:
    """What came of the inputs of a surface."""

    tried: int = 0
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0
    most_bytes: int = 0


def attack(surface: str, count: int, seed: int) -> Found:
    """Try so many inputs on a surface; after one that the process did not outlive, a new process goes on."""
    found = Found()
    while found.tried < count:
        _watch(surface, count, seed, found)
    return found


def _watch(surface: str, count: int, seed: int, found: Found) -> None:
    command = [sys.executable, __file__, "--child", surface, "--inputs", str(count), "--seed", str(seed)]
    with tempfile.TemporaryDirectory(prefix="anymask-attack-") as folder, tempfile.TemporaryFile("w+") as errors:
        environment = os.environ | {"TMPDIR": folder, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
        child = subprocess.Popen(
            [*command, "--first", str(found.tried), "--folder", folder],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            bufsize=0,  # a line that waits in a buffer is none that `select` knows of
        )
        assert child.stdout is not None
        limit, last, used = START_SECONDS, time.monotonic(), 0.0
        try:
            while found.tried < count:
                ready, _, _ = select.select([child.stdout], [], [], 0.5)
                found.most_bytes = max(found.most_bytes, size := _peak_bytes(child.pid))
                if size > MAX_BYTES:
                    found.faults.append(f"{surface} {found.tried}: the process takes {size:,} bytes")
                    break
                if ready:
                    line = child.stdout.readline()
                    if not line:
                        errors.seek(0)
                        said = errors.read()[-800:]
                        if limit == START_SECONDS:
                            raise RuntimeError(f"{surface} could not be made ready: {said}")
                        found.faults.append(f"{surface} {found.tried}: the process ended ({child.wait()}) {said}")
                        break
                    before, used = used, _processor_seconds(child.pid)
                    last = time.monotonic()
                    fault = json.loads(line)
                    if fault == "ready":
                        limit = MAX_SECONDS
                        continue
                    found.slowest = max(found.slowest, used - before)
                    if fault is not None:
                        found.faults.append(f"{surface} {found.tried}: {fault}")
                    found.tried += 1
                elif _processor_seconds(child.pid) - used > limit or time.monotonic() - last > MAX_WAIT * limit:
                    found.faults.append(f"{surface} {found.tried}: took over {limit:g} seconds")
                    break
            else:
                return
            found.tried += 1  # the next process begins after the input that this one did not outlive
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def _peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had, where the system tells."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _processor_seconds(pid: int) -> float:
    """Return what a process has used of the processor, where the system tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _be_child(surface: str, seed: int, first: int, count: int, folder: Path) -> None:
    """Try inputs one by one, and say of each what was wrong, on a line of JSON."""
    from surfaces import SURFACES

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the package prints goes elsewhere
    with SURFACES[surface](folder) as attempt:
        out.write('"ready"\n')
        for number in range(first, count):
            rng = np.random.default_rng([seed, list(SHARES).index(surface), number])
            out.write(json.dumps(attempt(rng)) + "\n")


def main() -> int:
    """Read the arguments, attack, and report."""
    sys.path.insert(0, str(HERE.parent))  # what attacks share with the tests
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=0, help="mutated inputs, over all surfaces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surface", choices=SHARES, help="one alone, with all the inputs")
    parser.add_argument("--kills", type=int, default=0, help="how often a process is killed with SIGKILL")
    parser.add_argument("--kills-of", choices=("server", "finetune", "prefill"), default="server")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    for name in ("--child", "--first", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        _be_child(chosen.child, chosen.seed, int(chosen.first), chosen.inputs, Path(chosen.folder))
        return 0
    faults: list[str] = []
    shares = {chosen.surface: 1.0} if chosen.surface else SHARES
    for surface, share in shares.items() if chosen.inputs else ():
        found = attack(surface, round(chosen.inputs * share), chosen.seed)
        print(
            f"{surface}: {found.tried:,} inputs, {len(found.faults)} faults, slowest {found.slowest:.1f} s, "
            f"most memory {found.most_bytes / 2**30:.2f} GiB",
            flush=True,
        )
        faults += found.faults
    if chosen.kills:
        from kills import KILLS

        report = KILLS[chosen.kills_of](chosen.kills, seed=chosen.seed, database=chosen.database)
        print(report.line, flush=True)
        faults += report.faults
    for fault, times in Counter(faults).most_common():
        print(f"FAULT {fault}" + (f" ({times} times)" if times > 1 else ""))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
