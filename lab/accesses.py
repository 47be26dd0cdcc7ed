"""What ``capplan record --working-set`` sees in a guest of accesses at known rates."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

from capplan.sources.record import WATCHED
from capplan.sources.record_watched import SIGMA, read_watched
from lab import machine, trace
from lab.kernels import Kernel, LabError
from lab.plan import FILES, FOUND
from lab.scenario import Process, Scenario

ACCESS = ("touch_anon", "touch_anon_random", "loop_read_file")
Row = tuple[str, str, float, float, float, float]  # group, kind, window, truth, seen, error


def accesses(scenario: Scenario, kernel: Kernel) -> tuple[list[Row], str]:
    """Boot the scenario; the shares that are touched within each window, and what record said.

    Raises
    ------
    LabError
        The run failed, or a kdamond was left behind.
    """
    run = trace.read(machine.run(scenario, kernel, 1))
    text = run.fetched.get(f"{FILES}{FOUND}")
    if text is None:
        log = run.fetched.get(f"{FILES}/lab/log", "").strip()
        raise LabError(f"{scenario.name}: nothing was found:\n{log}")
    found = json.loads(text)
    if found["kdamonds_left"]:
        raise LabError(f"{scenario.name}: {found['kdamonds_left']} kdamonds were left behind")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / WATCHED
        path.write_text(found["files"].get(WATCHED, ""), encoding="utf-8")
        return list(_rows(scenario, path)), found["said"].strip()


def _rows(scenario: Scenario, path: Path) -> Iterator[Row]:
    for group, kinds in read_watched(path).items():
        processes = [process for process in scenario.processes if process.cgroup == group]
        if not any(phase.op == "exec" for process in processes for phase in process.phases):
            for kind, watched in kinds.items():
                if "mapped" in kind and all(process.phases[0].file for process in processes):
                    continue  # read(2) is not seen there
                for share in watched.shares:
                    truth = truth_of(processes, share.window_s)
                    yield group, kind, share.window_s, truth, share.share, SIGMA * share.error


def truth_of(processes: list[Process], window_s: float) -> float:
    """The share of a group's memory that its processes touch within a window.

    Worked example
    --------------
    20 MiB at random at 20 MiB/s and 80 MiB idle: 0.2 (1 - exp(-1)) = 0.126 within a second.
    """
    touched = whole = 0.0
    for process in processes:
        mib = max(phase.mib or 0.0 for phase in process.phases)
        for phase in process.phases:
            if phase.op in ACCESS:
                laps = (phase.rate_mib_s or 0.0) * window_s / mib
                at_random = phase.op == "touch_anon_random"
                touched += mib * (-math.expm1(-laps) if at_random else min(laps, 1.0))
        whole += mib
    return touched / whole


def table(rows: list[Row]) -> str:
    """The rows for people."""
    lines = ["group           kind         window  touched  seen"]
    for group, kind, window_s, truth, seen, error in rows:
        lines.append(
            f"{group:14}  {kind:11}  {window_s:4.1f} s  {truth:6.1%}  {seen:6.1%} +- {error:.1%}"
        )
    return "\n".join(lines)
