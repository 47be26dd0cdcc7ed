"""A real OOM report retold: what was asked for, what there was, and why that process."""

from __future__ import annotations

from collections.abc import Iterator

from capplan.plan.oom_report import Choice, Row
from capplan.report.lines import wrap
from capplan.report.words import clean
from capplan.sources.oom_model import Report, Victim
from capplan.units import format_bytes

__all__ = ["listing", "tell"]

TOP = 12
UNLIMITED_KB = 1 << 50


def listing(reports: list[Report]) -> str:
    """One line for each report of a file."""
    lines = [f"{len(reports)} OOM reports; name one for its story:"]
    for number, report in enumerate(reports, 1):
        lines.append(f"  {number:>3}  line {report.line:<8} {clean(_title(report))}")
    return "\n".join(lines)


def tell(report: Report, choice: Choice | None) -> str:
    """The story of one report.

    Parameters
    ----------
    report : Report
    choice : Choice or None
        Its badness table; None where the report has no tasks.

    Returns
    -------
    str
        Text for people.
    """
    lines = [*wrap(f"{_title(report)}."), ""]
    lines += ["What there was", *_memory(report), ""]
    if choice is None:
        lines.append("The report has no task table: why that process cannot be seen.")
    else:
        lines += [*_why(report, choice), "", *_table(report, choice)]
    if report.unknown:
        lines += ["", f"{len(report.unknown)} lines inside the report were not understood:"]
        lines += [f"  line {number}: {clean(text)[:80]}" for number, text in report.unknown[:5]]
    return "\n".join(lines)


def _title(report: Report) -> str:
    where = (
        f"Group {report.memcg} was at its limit"
        if report.is_memcg
        else "The node was out of memory"
    )
    if not report.is_memcg and report.constraint not in ("", "CONSTRAINT_NONE"):
        where = f"The nodes of {report.constraint} were out of memory"
    victim = report.victim
    if victim is not None:
        what = f"{victim.name} ({victim.pid}) was killed{_held(victim)}"
    else:
        what = "nobody could be killed" if report.no_killable else "the kill is cut off"
    if report.panicked:
        what = "the node panicked (vm.panic_on_oom)"
    asked = f" when {report.trigger} asked for memory" if report.trigger else ""
    return f"{where}{asked}: {what}"


def _held(victim: Victim) -> str:
    sizes = (victim.anon_rss_kb, victim.file_rss_kb, victim.shmem_rss_kb)
    held = sum(size or 0 for size in sizes)
    return f", {format_bytes(held << 10)} resident" if victim.anon_rss_kb is not None else ""


def _memory(report: Report) -> Iterator[str]:
    if report.order > 0:
        size = format_bytes(report.page_kb << (10 + report.order))
        yield f"  asked for       {size} in one piece (order {report.order})"
    for name, counter in report.counters.items():
        limit = "no limit"
        if counter.limit_kb < UNLIMITED_KB:
            limit = f"limit {format_bytes(counter.limit_kb << 10)}"
        usage = format_bytes(counter.usage_kb << 10)
        yield f"  {name:<15} {usage} used, {limit}, hit {counter.failcnt} times"
    for zone in report.zones:
        free, low = format_bytes(zone.free_kb << 10), format_bytes(zone.min_kb << 10)
        below = ", below it" if zone.free_kb < zone.min_kb else ""
        yield f"  {f'zone {zone.zone}':<15} {free} free, min mark {low}{below}"
    if report.swap_total_kb is not None:
        unused, total = (report.swap_free_kb or 0) << 10, report.swap_total_kb << 10
        yield f"  {'swap':<15} {format_bytes(unused)} free of {format_bytes(total)}"
    pages = report.meminfo
    if "active_file" in pages:
        cache = (pages["active_file"] + pages.get("inactive_file", 0)) * report.page_kb
        yield f"  {'page cache':<15} {format_bytes(cache << 10)}"
    if not (report.counters or report.zones or pages):
        yield "  nothing of it is in the report"


def _why(report: Report, choice: Choice) -> list[str]:
    total = format_bytes(choice.total_pages * report.page_kb << 10)
    said = "" if report.kernel else " (a guess: the report does not name it)"
    lines = [
        "Why it",
        *wrap(
            f"points = rss + swap + page tables + oom_score_adj x {choice.total_pages // 1000} "
            f"pages (a thousandth of {total}); the most points die. Rules of kernel "
            f"{choice.release}{said}.",
            "  ",
        ),
    ]
    if report.allocating_task:
        lines += wrap(
            "vm.oom_kill_allocating_task was set: who asked dies, whatever its points.", "  "
        )
    elif choice.chosen is not None and choice.agrees:
        lines += wrap(f"By these rules {choice.chosen.name} ({choice.chosen.pid}) is chosen, as "
                       "the kernel did.", "  ")  # fmt: skip
    elif choice.chosen is not None and choice.agrees is False:
        lines += wrap(
            f"By these rules {choice.chosen.name} ({choice.chosen.pid}) would be chosen; the "
            "kernel chose another: the table is cut off, or holds a task that had been killed "
            "before.",
            "  ",
        )
    elif choice.chosen is None:
        lines += wrap("By these rules nobody in the table may be killed.", "  ")
    return lines


def _table(report: Report, choice: Choice) -> list[str]:
    heads = ("pid", "name", "rss", "swap", "tables", "adj", "points", "score")
    named = report.victim.pid if report.victim else None
    shown = list(choice.rows[:TOP])
    shown += [row for row in choice.rows[TOP:] if row.task.pid == named]
    rows = [_cells(row) for row in shown]
    widths = [max(len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]
    lines = []
    for line, row in zip((heads, *rows), (None, *shown)):
        mark = " <- killed" if row is not None and row.task.pid == named else ""
        cells = [
            cell.ljust(width) if i == 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ]
        lines.append(f"  {'  '.join(cells)}{mark}".rstrip())
    left = len(choice.rows) - len(shown) + choice.left_out
    return [*lines, f"  ... and {left} more"] if left > 0 else lines


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row.task.pid),
        clean(row.task.name),
        format_bytes(row.rss),
        format_bytes(row.swap) if row.swap else "-",
        format_bytes(row.tables) if row.tables else "-",
        str(row.task.adj),
        "never" if row.points is None else str(row.points),
        "-" if row.score is None else str(row.score),
    )
