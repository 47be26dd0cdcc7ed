"""Real OOM reports, one by one: whom the kernel killed, and whom capplan's rules choose.

The reports are not the project's: a folder of evidence holds the kernel's own text of each,
with its source in the first line.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from capplan.mm import oom
from capplan.mm.state import new_kernel
from capplan.plan.oom_report import era_of, kernel_of
from capplan.sources.oom_log import parse
from capplan.sources.oom_model import Report

__all__ = ["Retold", "load_reports", "retell", "retell_all"]

# Not counted: a patch under discussion, whose score counts one node's pages.
OF_ONE_NODE = {"ml-linux-s390_a.out-13135_a1dd6a"}


@dataclass(frozen=True)
class Retold:
    """One report: the kernel's victim and capplan's; scores where the report prints one."""

    name: str
    source: str
    kernel: str
    era: str  # 5.9, 3.10, el6
    memcg: bool
    tasks: int
    victim: str
    ours: str
    same: bool
    score: int | None  # capplan's for the kernel's victim
    printed: int | None

    def as_json(self) -> dict[str, Any]:
        """As the committed figures hold it."""
        return asdict(self)


def load_reports(folder: Path) -> dict[str, tuple[str, Report]]:
    """Each file's source and its first report, by name; only those with a victim to choose.

    Parameters
    ----------
    folder : Path
        Holds ``kernel-evidence/oom``; empty where it does not.
    """
    found = {}
    for path in sorted((folder / "kernel-evidence" / "oom").glob("*.txt")):
        text = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        source = re.sub(r"^# source: | kernel: .*$", "", text[0].strip()) if text else ""
        report = parse(text)[0]
        if _is_told(report) and path.stem not in OF_ONE_NODE:
            found[path.stem] = (source, report)
    return found


def _is_told(report: Report) -> bool:
    """Whether the kernel searched this table for its victim."""
    if report.victim is None or report.allocating_task or report.no_killable:
        return False
    return report.victim.pid in {task.pid for task in report.tasks}


def retell_all(folder: Path) -> list[Retold]:
    """All reports of an evidence folder, retold; empty where it holds none."""
    k = new_kernel()[0]
    return [retell(k, name, *found) for name, found in load_reports(folder).items()]


def retell(k: Any, name: str, source: str, report: Report) -> Retold:
    """Let capplan choose from the report's table, and score what the kernel chose.

    Parameters
    ----------
    k : kernel_t
        What the table is written into; may be used again.
    name, source : str
        What the report is called, and where it was found.
    report : Report
        With a victim that stands in its table.
    """
    domain = kernel_of(k, report, report.tasks)
    era = era_of(report)
    victim = report.named or report.victim
    pid = victim.pid if victim else -1
    chosen = report.tasks[int(oom.select_bad_process(k, domain))]
    listed = [p for p, task in enumerate(report.tasks) if task.pid == pid]
    score = None
    if report.score is not None and listed:
        total = int(oom.constrained_totalpages(k, domain))
        points = int(oom.oom_badness(k, listed[0], total))
        score = points if era == "el6" else points * 1000 // total
    return Retold(
        name=name,
        source=source,
        kernel=report.kernel or "not given",
        era=era,
        memcg=domain >= 0,
        tasks=len(report.tasks),
        victim=report.tasks[listed[0]].name if listed else "",
        ours=chosen.name,
        same=chosen.pid == pid,
        score=score,
        printed=report.score,
    )
