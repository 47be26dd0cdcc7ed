"""Recordings of real kernels dressed as runs: what the analysis says of the truth itself."""

from __future__ import annotations

import gzip
import json
import pathlib

import numpy as np

from capplan.sim.result import Event, Run, TaskTotals
from capplan.validate.recording import load_scenario


def recorded(folder: pathlib.Path) -> Run:
    """The kernel's own course of a recording as a Run (lateness and stalls are not recorded)."""
    scenario = load_scenario(folder)
    with gzip.open(folder / "truth.json.gz", "rt", encoding="utf-8") as file:
        truth = json.load(file)
    groups = {p.name: p.cgroup for p in scenario.processes}
    known = ("t", "event", "name", "scope")
    events = tuple(
        Event(
            e["t"], e["event"], e["name"], groups.get(e["name"], ""), e.get("scope") or "",
            {k: v for k, v in e.items() if k not in known},
        )
        for e in truth["events"]
    )  # fmt: skip
    # an exit by itself ends a process; what was killed also exits, by its signal
    state = {e.name: "exited" for e in events if e.event == "exit"}
    state |= {e.name: "killed" for e in events if e.event == "oom_kill"}
    totals = tuple(
        TaskTotals(p.name, p.container, p.cgroup, 0, 0, 0, 0, 0, 0, 0, state.get(p.name, "live"), 0)
        for p in scenario.processes
    )
    series = {
        name: np.array([np.nan if v is None else v for v in values], dtype=float)
        for name, values in truth["series"].items()
    }
    marks = {z.name: z.wmark for z in scenario.node.zones if z.wmark is not None}
    return Run(scenario, events, series, totals, marks, "0.1.0", 1, 1, 0.0)
