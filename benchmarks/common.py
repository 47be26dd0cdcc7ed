"""Shared by the benchmarks: one core, medians, a table and a JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def one_core() -> None:
    """Stay on one core: what is measured is not moved about."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def seconds(work: Callable[[], Any], times: int) -> list[float]:
    """CPU seconds of each call; other work on the machine does not count."""
    found = []
    for _ in range(times):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return found


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def report(name: str, rows: Sequence[tuple[str, float, str, str]]) -> None:
    """Print rows of (what, value, unit, target) and write them to results/<name>.json."""
    width = max(len(row[0]) for row in rows)
    print(f"\n{name}")
    for what, value, unit, target in rows:
        print(f"  {what:<{width}}  {value:>12,.4g} {unit:<14} {target}")
    RESULTS.mkdir(exist_ok=True)
    content = {
        "benchmark": name,
        "machine": {"cpu": _cpu(), "python": platform.python_version()},
        "rows": [dict(zip(("what", "value", "unit", "target"), row)) for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
