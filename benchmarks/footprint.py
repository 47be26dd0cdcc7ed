"""Memory of a 1 TiB node, and the times of a first start and of a warm one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import median, report

ROOT = Path(__file__).resolve().parent.parent

_ONE_TIB = """
import resource, sys
from dataclasses import replace
from benchmarks import nodes
from capplan.sim import run as engine

machines = []
build = engine.build
engine.build = lambda *a: machines.append(build(*a)) or machines[-1]
day = nodes.idle(duration_ns=600 * nodes.SECOND)
engine.run(replace(day, node=nodes.node(1024, {})))
m = machines[0]
arrays = m.kernel.nbytes + m.frames.nbytes + m.entries.nbytes
print(arrays, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
_START = """
from benchmarks import nodes
from capplan.sim.run import run
run(nodes.idle(duration_ns=60 * nodes.SECOND))
"""


def _python(code: str, cache: str) -> tuple[str, float, float]:
    """Run code in a new process: its output, wall and CPU seconds."""
    environment = {**os.environ, "CAPPLAN_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True,
                          capture_output=True, text=True)  # fmt: skip
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, wall, cpu


def main() -> None:
    """First start in an empty cache, then warm ones."""
    with tempfile.TemporaryDirectory() as cache:
        _, cold_wall, cold_cpu = _python(_START, cache)
        warm = [_python(_START, cache) for _ in range(5)]
        arrays, peak = map(int, _python(_ONE_TIB, cache)[0].split())
    report("footprint", [
        ("first start, compile included", cold_cpu, "s CPU", "< 30"),
        ("first start, compile included", cold_wall, "s wall", ""),
        ("warm start and a minute of 50 containers", median([w[2] for w in warm]), "s CPU", "< 2"),
        ("state arrays of a 1 TiB node", arrays / 2**20, "MiB", "< 64 MB"),
        ("peak RSS, warm cache", peak / 2**20, "MiB", "< 300 MB"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
