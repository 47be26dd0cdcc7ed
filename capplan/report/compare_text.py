"""A comparison as text: the pick first, then one column per setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from capplan.plan.intervals import percent
from capplan.report.lines import aligned, wrap
from capplan.report.many_text import interval, section
from capplan.report.words import clean
from capplan.units import format_bytes, format_rate

if TYPE_CHECKING:
    from capplan.plan.burst import Absorbed
    from capplan.plan.compare_model import Comparison, Setting
    from capplan.plan.tally import Spread

__all__ = ["comparison_text", "figures", "names"]

COLUMNS = 4  # settings side by side on a page of 100 characters
RISKS = {"kill": "P(OOM kill)", "pause": "P(pause)", "throttle": "P(throttle)", "evict": "P(evict)"}
Cell = Callable[["Setting"], str]


def comparison_text(found: Comparison) -> str:
    """A comparison as plain text."""
    lines = wrap(found.verdict)
    if len(found.keys) > 1:
        named = zip(names(found), found.settings)
        lines += section("Settings", [line for name, s in named for line in _set(name, s)])
    for begin in range(0, len(found.settings), COLUMNS):
        some = found.settings[begin : begin + COLUMNS]
        title = found.keys[0] if len(found.keys) == 1 else "Side by side"
        rows = [[name, *(cell(s) for s in some)] for name, cell in figures(found)]
        head = [" ", *names(found)[begin : begin + COLUMNS]]
        lines += section(title, aligned(head, [row for row in rows if _says(row)]))
    lines += section("Warnings", list(_warnings(found)))
    lines += section("How to read this", list(_how(found)))
    return "\n".join(lines) + "\n"


def names(found: Comparison) -> list[str]:
    """What stands over each column, * marking the pick: the value, or a letter for several keys."""
    made = []
    for n, setting in enumerate(found.settings):
        name = f"{chr(ord('A') + n)}" if n < 26 else f"A{n - 25}"
        if setting.name:
            name = clean(setting.name)
        elif len(found.keys) == 1:
            name = clean(setting.settings.get(found.keys[0], "as written"))
        made.append(f"{name} *" if n == found.pick else name)
    return made


def _set(name: str, setting: Setting) -> list[str]:
    """What a column sets; a named one in as many lines as that takes."""
    if not setting.name:
        return [f"  {name}  {clean(setting.label)}"]
    told = ", ".join(f"{key}={value}" for key, value in setting.settings.items()) or "as written"
    return wrap(f"{name}: {told}", "  - ")


def figures(found: Comparison) -> Iterator[tuple[str, Cell]]:
    """The rows: a name, and what it is for a setting."""
    yield "min mark", lambda s: _mark(s, "minimum")
    yield "low mark (kswapd wakes)", lambda s: _mark(s, "low")
    yield "high mark (kswapd sleeps)", lambda s: _mark(s, "high")
    yield "runs without incident", lambda s: "-" if s.risk is None else interval(s.risk.fitting)
    yield "  against the first", _against
    for what, words in RISKS.items():
        yield words, _risk(what)
    yield "least headroom under a limit", _spread("headroom_min", format_bytes)
    yield "lowest MemAvailable", _spread("available_min", format_bytes)
    yield "allocation stalls", _spread("direct_stalls", _count)
    yield "kswapd, share of a CPU", _spread("kswapd_cpu_share", _share)
    yield "read from swap", _spread("swap_in", format_bytes)
    yield "written to swap", _spread("swap_out", format_bytes)
    yield "PSI memory some", _spread("psi_some", _share)
    yield "PSI memory full", _spread("psi_full", _share)
    yield "fewest free 2 MiB blocks", _spread("order9_min", _count)
    bursts = next((s.burst for s in found.settings if s.burst is not None), None)
    for n, one in enumerate(bursts.at_rates if bursts is not None else ()):
        yield f"burst absorbed at {format_rate(one.rate)}", _burst(n)
    if bursts is not None:
        yield "fastest burst absorbed", _fastest


def _says(row: Sequence[str]) -> bool:
    """Whether a row holds anything (no swap: no lines about swap)."""
    return any(cell not in ("-", "0 B", "") for cell in row[1:])


def _mark(setting: Setting, name: str) -> str:
    if setting.marks is None:
        return "-"
    size = getattr(setting.marks, name)
    return f"{format_bytes(size)} ({percent(size / setting.marks.low_memory)} %)"


def _risk(what: str) -> Cell:
    return lambda s: "-" if s.risk is None else interval(s.risk.node[what])


def _spread(metric: str, form: Callable[[float], str]) -> Cell:
    def cell(setting: Setting) -> str:
        found: Spread | None = None if setting.risk is None else setting.risk.spread.get(metric)
        return "-" if found is None else form(found.quantiles[2])

    return cell


def _against(setting: Setting) -> str:
    found = setting.against
    if found is None:
        return "-"
    if found.fits_only_here == found.fits_only_there == 0:
        return "the same runs"
    sure = "" if found.p_value <= 0.05 else ", chance?"
    return f"+{found.fits_only_here} -{found.fits_only_there}{sure}"


def _burst(n: int) -> Cell:
    def cell(setting: Setting) -> str:
        if setting.burst is None:
            return "-"
        found: Absorbed = setting.burst.at_rates[n]
        return f"{'all, ' if found.whole else ''}{format_bytes(found.absorbed_bytes)}"

    return cell


def _fastest(setting: Setting) -> str:
    if setting.burst is None:
        return "-"
    rate = setting.burst.fastest_rate
    return "none" if rate is None else format_rate(rate)


def _share(value: float) -> str:
    return f"{percent(value)} %"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _warnings(found: Comparison) -> Iterator[str]:
    told: dict[str, list[str]] = {}
    for name, setting in zip(names(found), found.settings):
        for text in (setting.error, *setting.warnings):
            if text:
                told.setdefault(text, []).append(name.removesuffix(" *"))
    for text, labels in told.items():
        who = "" if len(labels) == len(found.settings) else f"{', '.join(labels)}: "
        yield from wrap(f"{who}{' '.join(text.split())}", "  - ")


def _how(found: Comparison) -> Iterator[str]:
    yield from wrap(
        f"{found.replicates:,} runs per setting with the same draws; risks with their 95 % "
        "interval, other figures are medians. Against the first: runs without incident under this "
        "setting only (+) and under the first only (-).",
        "  ",
    )
    burst = next((s.burst for s in found.settings if s.burst is not None), None)
    if burst is not None:
        yield from wrap(
            f"Bursts start at {burst.at_s:.0f} s, when the first setting had least memory "
            f"available ({format_bytes(burst.available_bytes)}), and count up to the first "
            "allocation that has to reclaim for itself. The fastest is for three quarters of what "
            "was available.",
            "  ",
        )
