"""capplan inside a guest: what ``capture`` and ``record`` write there, brought out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import machine, trace
from lab.calibrate import write_whole
from lab.kernels import Kernel, LabError
from lab.outlook import NEXT, OBSERVED
from lab.plan import FILES, FOUND
from lab.scenario import Scenario

TRACES = ("record/trace.csv", "trace-2.csv")
KEPT = ("node.yaml", "profiles", "trace.csv")  # of what record writes; the rest made these


def observe(
    scenario: Scenario, following: Path, kernel: Kernel, out: Path, tell: Callable[[str], None]
) -> Path:
    """Boot the scenario twice, with capplan in it, and write what was found.

    Parameters
    ----------
    scenario : Scenario
        Its process ``observe`` runs ``/lab/observe``, its process ``job`` starts after that has
        captured the node.
    following : Path
        What capplan is told of ``job``: a container of a node file.
    kernel : Kernel
    out : Path
        Folder; the result is ``out/NAME-SERIES``.
    tell : callable
        Takes a line about what goes on.

    Returns
    -------
    Path
        ``capture`` and ``record`` as they were written in the first run, ``trace-2.csv`` of the
        second, ``next.yaml``, and ``observed.json`` with the times.

    Raises
    ------
    LabError
        A run failed; nothing is written then.
    """
    series = ".".join(kernel.release.split(".")[:2])
    folder = out / f"{scenario.name}-{series}"
    files: dict[str, str] = {NEXT: following.read_text(encoding="utf-8")}
    runs: list[dict[str, Any]] = []
    for number, name in enumerate(TRACES):
        tell(f"{folder.name}: run {number + 1} of {len(TRACES)} with {kernel.release}")
        found, times = _run(scenario, kernel, number + 1)
        runs.append({"trace": name, "seed": number + 1} | times)
        files |= {name: found["record/trace.csv"]} if number else _kept(found)
    observed = {"kernel": kernel.release, "runs": runs}
    files[OBSERVED] = json.dumps(observed, indent=1) + "\n"
    if folder.exists():
        shutil.rmtree(folder)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, text.encode())
    return folder


def _run(scenario: Scenario, kernel: Kernel, seed: int) -> tuple[dict[str, str], dict[str, Any]]:
    """One boot: the files that capplan wrote in it, and when things happened [s]."""
    run = trace.read(machine.run(scenario, kernel, seed))
    failed = [" ".join(words[1:]) for _, words in run.events if words[0] == "error"]
    text = run.fetched.get(f"{FILES}{FOUND}")
    if failed or text is None:
        log = run.fetched.get(f"{FILES}/lab/log", "").strip()
        raise LabError(f"{scenario.name}: {'; '.join(failed) or 'nothing was found'}:\n{log}")
    found = json.loads(text)
    begun = {words[1]: at for at, words in run.events if words[0] == "start"}
    times = {name: round(found[name] - run.t0_s, 3) for name in ("record_s", "capture_s")}
    said = found["said"].strip().splitlines()[-1]
    return found["files"], times | {"next_s": round(begun["job"], 3), "said": said}


def _kept(found: dict[str, str]) -> dict[str, str]:
    """Both node files with their profiles, and the trace."""
    return {
        name: text
        for name, text in found.items()
        if name.startswith("capture/") or name.split("/")[1] in KEPT
    }
