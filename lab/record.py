"""One recording: the machine's speeds, two runs, and the files that they become."""

from __future__ import annotations

import gzip
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import machine, trace
from lab.calibrate import calibrate, write_whole
from lab.kernels import Kernel, LabError
from lab.scenario import Scenario
from lab.truth import boot_of, truth_of

TRUTHS = ("truth.json.gz", "truth-2.json.gz")


def record(
    scenario: Scenario, kernel: Kernel, out: Path, tell: Callable[[str], None] = lambda line: None
) -> Path:
    """Record a scenario with a kernel.

    Parameters
    ----------
    scenario : Scenario
    kernel : Kernel
    out : Path
        Folder of recordings; the new one is ``out/NAME``, or ``out/NAME-SERIES`` where the
        scenario is recorded with several kernels.
    tell : callable
        Takes a line about what goes on.

    Returns
    -------
    Path
        The recording's folder.

    Raises
    ------
    LabError
        A run failed; nothing is written then.
    """
    series = ".".join(kernel.release.split(".")[:2])
    name = scenario.name if len(scenario.kernels) == 1 else f"{scenario.name}-{series}"
    speeds = calibrate(kernel, scenario, tell)
    inputs: dict[str, Any] = {}
    truths: list[dict[str, Any]] = []
    for number in range(len(TRUTHS)):
        tell(f"{name}: run {number + 1} of {len(TRUTHS)} with {kernel.release}")
        run = trace.read(machine.run(scenario, kernel, seed=number + 1))
        _refuse_failures(name, run)
        truths.append(truth_of(run))
        if not inputs:
            inputs = {"name": name, "kernel": series} | scenario.inputs() | {"name": name}
            inputs |= {"boot": boot_of(run, scenario), "calibration": speeds | _sampling(run)}
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, truth in zip(TRUTHS, truths, strict=True):
        data = json.dumps(truth, separators=(",", ":")).encode()
        write_whole(folder / file, gzip.compress(data, 9, mtime=0))
    write_whole(folder / "scenario.json", (json.dumps(inputs, indent=1) + "\n").encode())
    return folder


def _sampling(run: trace.Trace) -> dict[str, float]:
    """CPU time of a sample, the sampler being first in line for it. [ns]"""
    return {"sample_ns": float(f"{statistics.median(run.sample_s) * 1e9:.3g}")}


def _refuse_failures(name: str, run: trace.Trace) -> None:
    """A process that could not do its phase makes no recording of that scenario."""
    failed = [" ".join(words[1:]) for _, words in run.events if words[0] == "error"]
    failed += [
        f"{words[1]} exited with {words[3]}"
        for _, words in run.events
        if words[0] == "exit" and words[2] == "code" and words[3] not in ("0", "12")
    ]
    if failed:
        raise LabError(f"{name}: " + "; ".join(failed))
