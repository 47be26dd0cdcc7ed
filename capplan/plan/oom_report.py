"""Why a real OOM report's victim died: its badness table, worked out by the kernel's rules.

The report's own task table becomes a kernel record, the release's rules are set as features, and
the model's own functions (:mod:`capplan.mm.oom`) choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from capplan.mm import oom
from capplan.mm.state import MAX_PROCS, PROC_LIVE, PROC_UNBORN, UNLIMITED, new_kernel
from capplan.release import features, resolve
from capplan.sources.oom_model import Report, Task
from capplan.sources.oom_node import is_v1, release_of

__all__ = ["Choice", "Row", "choose", "era_of", "kernel_of"]

MEMCG = 1


def _plain(mechanism: Any) -> Any:
    """A mechanism's Python source: one table is not worth the compiler."""
    return getattr(mechanism, "py_func", mechanism)


BADNESS, BEATS, GET_MAX = map(_plain, (oom.oom_badness, oom.beats, oom.mem_cgroup_get_max))
RULES = ("root_bonus", "badness_clamped", "badness_per_mille", "oom_ties_to_first")


@dataclass(frozen=True)
class Row:
    """A task and its badness; sizes in bytes.

    Attributes
    ----------
    points
        None: it cannot be killed.
    score
        As /proc/PID/oom_score and old reports print it: thousandths.
    """

    task: Task
    rss: int
    swap: int
    tables: int
    points: int | None
    score: int | None


@dataclass(frozen=True)
class Choice:
    """The whole table, most points first.

    Attributes
    ----------
    total_pages
        What oom_score_adj is a per mille of. [pages]
    chosen
        Whom the rules choose; None when nobody can be killed.
    agrees
        Whether the kernel's victim is the same; None where it did not search this table.
    left_out
        Tasks that the model's table has no room for.
    """

    release: str
    total_pages: int
    rows: tuple[Row, ...]
    chosen: Task | None
    agrees: bool | None
    left_out: int = 0


def choose(report: Report) -> Choice:
    """Work out the badness table of a report.

    Parameters
    ----------
    report : Report
        With a task table.

    Returns
    -------
    Choice
    """
    kernel = new_kernel()
    k = kernel[0]
    tasks = _largest(report)
    domain = kernel_of(k, report, tasks)
    total = _total_pages(k, domain)
    points_of = [int(BADNESS(k, p, total)) for p in range(len(tasks))]
    index = _select(k, points_of, domain)
    unit = report.page_kb << 10
    per_mille = bool(k["badness_per_mille"])
    rows = []
    for p, task in enumerate(tasks):
        points = points_of[p]
        can = points != oom.LONG_MIN
        score = points if per_mille else points * 1000 // total
        row = Row(
            task, task.rss * unit, (task.swapents or 0) * unit, task.tables(report.page_kb) * unit,
            points if can else None, score if can else None,
        )  # fmt: skip
        rows.append(row)
    rows.sort(key=lambda row: (row.points is None, -(row.points or 0), row.task.pid))
    chosen = tasks[index] if index >= 0 else None
    return Choice(
        release=release_of(report),
        total_pages=total,
        rows=tuple(rows),
        chosen=chosen,
        agrees=_agrees(report, tasks, chosen),
        left_out=len(report.tasks) - len(tasks),
    )


def _total_pages(k: Any, domain: int) -> int:
    """constrained_totalpages() of :mod:`capplan.mm.oom`, at least 1."""
    if domain >= 0:
        return max(int(GET_MAX(k, domain)), 1)
    return max(int(k["totalram"]) + int(k["totalswap"]), 1)


def _select(k: Any, points_of: list[int], domain: int) -> int:
    """select_bad_process() of :mod:`capplan.mm.oom`: a table has no victims in flight."""
    chosen, most = oom.NO_VICTIM, oom.LONG_MIN
    for p, points in enumerate(points_of):
        if points != oom.LONG_MIN and BEATS(k, p, points, chosen, most, domain >= 0):
            chosen, most = p, points
    return chosen


def _largest(report: Report) -> list[Task]:
    """The tasks, in the table's order; of too many those that may have the most points."""
    if len(report.tasks) <= MAX_PROCS:
        return report.tasks
    order = sorted(report.tasks, key=lambda task: -(task.rss + (task.swapents or 0)))
    kept = {id(task) for task in order[:MAX_PROCS]}
    return [task for task in report.tasks if id(task) in kept]


def _agrees(report: Report, tasks: list[Task], chosen: Task | None) -> bool | None:
    """Whether the rules choose the kernel's victim."""
    named = report.named
    if named is None or report.allocating_task or named.pid not in {t.pid for t in tasks}:
        return None
    return chosen is not None and chosen.pid == named.pid


def era_of(report: Report) -> str:
    """Which rules the report's kernel had: el6, 3.10 (up to 5.8) or 5.9 (and later)."""
    release = release_of(report)
    if ".el6" in release:
        return "el6"
    return "5.9" if resolve(release).version >= (5, 9) else "3.10"


def kernel_of(k: Any, report: Report, tasks: list[Task]) -> int:
    """Make a kernel record of a report's tasks and totals; return its OOM domain.

    Parameters
    ----------
    k : kernel_t
        Written: ``proc``, ``memcg``, the rules and totals.
    report : Report
    tasks : list of Task
        At most ``MAX_PROCS`` of its tasks.
    """
    k["memcg"]["parent"][:2] = (-1, 0)
    k["memcg"]["subtree_end"][:2] = 2
    k["memcg"]["swappiness"][:2] = 60
    k["nr_memcgs"], k["swappiness"], k["cgroup_v1"] = 2, 60, 0
    rules = features(release_of(report)).kernel_fields()
    for name in RULES:
        k[name] = rules[name]
    _fill_tasks(k, report, tasks)
    return _fill_totals(k, report)


def _fill_tasks(k: Any, report: Report, tasks: list[Task]) -> None:
    """Turn the task table into processes; all sit in one memcg, in the table's order."""
    # a container's root is not the node's: docker drops CAP_SYS_ADMIN
    docker = "docker" in (report.memcg or "")
    k["proc"]["state"] = PROC_UNBORN
    k["nr_procs"] = len(tasks)
    most = 1 << 52  # pages of 2**64 bytes: a forged table must not overflow int64
    for p, task in enumerate(tasks):
        proc = k["proc"][p]
        proc["state"], proc["pid"], proc["memcg"] = PROC_LIVE, task.pid % (1 << 31), MEMCG
        proc["rss_anon"] = min(max(task.rss, 0), most)
        proc["swapents"] = min(max(task.swapents or 0, 0), most)
        proc["pgtables"] = min(max(task.tables(report.page_kb), 0), most)
        proc["oom_score_adj"] = max(min(task.adj, 1000), -1000)
        proc["cap_sys_admin"] = task.uid == 0 and not docker


def _fill_totals(k: Any, report: Report) -> int:
    """Set limits and totals as printed; return the domain.

    A memcg report prints no total of swap, some no limit: what the table holds is a floor.
    """
    page_kb = report.page_kb
    if not report.is_memcg:
        k["totalram"] = report.totalram_pages or sum(task.rss for task in report.tasks)
        k["totalswap"] = (report.swap_total_kb or 0) // page_kb
        return -1
    counters = report.counters
    memory, swap = k["memcg"]["memory"][MEMCG], k["memcg"]["swap"][MEMCG]
    resident = min(sum(task.rss for task in report.tasks), UNLIMITED)
    limited = "memory" in counters
    limit = min(counters["memory"].limit_kb // page_kb, UNLIMITED) if limited else resident
    memory["max"] = limit
    swap["max"] = UNLIMITED
    k["totalswap"] = min(sum(task.swapents or 0 for task in report.tasks), UNLIMITED)
    if "swap" in counters:
        swap["max"] = min(counters["swap"].limit_kb // page_kb, UNLIMITED)
    k["cgroup_v1"] = is_v1(report)
    if "memory+swap" in counters:
        memsw = min(counters["memory+swap"].limit_kb // page_kb, UNLIMITED)
        k["memcg"]["memsw"]["max"][MEMCG] = memsw
        if memsw < UNLIMITED:
            k["totalswap"] = max(memsw - int(memory["max"]), 0)
    elif k["cgroup_v1"]:
        k["memcg"]["memsw"]["max"][MEMCG] = UNLIMITED
    return MEMCG
