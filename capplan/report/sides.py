"""Two results beside each other: what changed in the input, what changed in the outcome."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from capplan.plan.outcome_context import Context
from capplan.report import figures_memory, figures_pressure, figures_swap, html, page, words
from capplan.report.chart import alike
from capplan.report.plates import plate
from capplan.report.tables import Cell, Column, Table
from capplan.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from capplan.plan.outcome_model import ContainerOutcome, NodeOutcome
    from capplan.report.chart import Chart
    from capplan.report.page import Material

ABSENT = "not there"
SECTIONS = (
    ("input", "What was changed"), ("outcome", "What it changes"), ("containers", "Containers"),
    ("node", "Node"), ("methods", "Methods"),
)  # fmt: skip


def write(first: Material, second: Material) -> str:
    """The page as HTML; the same results give the same text."""
    return html.render(
        "sides.html.j2",
        page_title=f"{first.outcome.name}: {headline(first, second)}",
        version=str(second.provenance.get("capplan", "")),
        report=report(first, second),
    )


def report(first: Material, second: Material) -> dict[str, Any]:
    """What the template shows."""
    return {
        "title": _names(first, second),
        "fits": second.outcome.fits,
        "verdict": ("Comparison", headline(first, second)),
        "facts": (
            "A is the first result named, B the second. One run each: a difference that is small "
            "against what other seeds give is no difference; capplan compare pairs many seeds."
        ),
        "sections": SECTIONS,
        "inputs": inputs(first, second),
        "outcomes": outcomes(first, second),
        "containers": containers(first, second),
        "node": node(first, second),
        "settings": _settings(first, second),
    }


def _names(first: Material, second: Material) -> str:
    a, b = first.outcome.name, second.outcome.name
    return f"{a}: two settings" if a == b else f"{a} and {b}"


def headline(first: Material, second: Material) -> str:
    """Whether the change mends, breaks, or leaves the verdict."""
    words_ = {True: "fits", False: "does not fit"}
    a, b = first.outcome, second.outcome
    if a.fits == b.fits:
        both = "both fit" if a.fits else "both do not fit"
        return f"{both}; {_troubled(a)} troubled in A, {_troubled(b)} in B"
    return f"A {words_[a.fits]}, B {words_[b.fits]}"


def _troubled(outcome: Any) -> str:
    count = len({i.container or i.name for i in outcome.incidents if i.breaks})
    return f"{count} container{'s' if count != 1 else ''}"


# --- input -------------------------------------------------------------------------------


def inputs(first: Material, second: Material) -> Table:
    """Every key of the resolved input that differs."""
    a, b = dict(_flat(first.resolved)), dict(_flat(second.resolved))
    keys = [*a, *(key for key in b if key not in a)]
    rows: list[tuple[Cell, ...]] = [
        (Cell(key, key), Cell(_said(a, key)), Cell(_said(b, key)))
        for key in keys
        if _said(a, key) != _said(b, key)
    ]
    if first.recorded.run.version != second.recorded.run.version:
        versions = (first.recorded.run.version, second.recorded.run.version)
        rows.insert(0, (Cell("capplan"), *(Cell(v) for v in versions)))
    count = f"{len(rows)} setting{'s' if len(rows) != 1 else ''} of the input differ"
    columns = (Column("key", "key", False), Column("a", "A", False), Column("b", "B", False))
    return Table(count if len(rows) != 1 else f"{count}s", columns, tuple(rows))


def _said(flat: Mapping[str, str], key: str) -> str:
    return flat.get(key, ABSENT)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}.{number}")
    else:
        yield prefix, _value(prefix, value)


def _value(key: str, value: Any) -> str:
    sized = isinstance(value, int) and not isinstance(value, bool) and value >= 1024
    if sized and (".memory." in f".{key}" or key.endswith(("memory", "size"))):
        return f"{format_bytes(value)} ({value})"
    return "null" if value is None else str(value)


# --- outcome -----------------------------------------------------------------------------


def outcomes(first: Material, second: Material) -> list[tuple[str, str, list[str]]]:
    """Each side's verdict and incidents."""
    return [
        (name, m.outcome.verdict, [i.title for i in m.outcome.incidents if i.breaks][: page.TOLD])
        for name, m in (("A", first), ("B", second))
    ]


def containers(first: Material, second: Material) -> Table:
    """What changed for each container, the largest change of trouble first."""
    a = {c.name: c for c in first.outcome.containers}
    b = {c.name: c for c in second.outcome.containers}
    names = [c.name for c in words.by_risk([*first.outcome.containers, *second.outcome.containers])]
    rows = [_pair(name, a.get(name), b.get(name)) for name in dict.fromkeys(names)]
    titles = ("what befell it", "peak", "limit", "headroom")
    columns = [Column("container", "container", False)]
    columns += [
        Column(f"{title}_{side}", f"{title} {side.upper()}", title != "what befell it")
        for title in titles
        for side in "ab"
    ]
    return Table(f"{len(rows)} containers, those at most risk first", tuple(columns), tuple(rows))


def _pair(name: str, a: ContainerOutcome | None, b: ContainerOutcome | None) -> tuple[Cell, ...]:
    cells = [Cell(name, name)]
    for side in (a, b):
        said = ABSENT if side is None else befell(side)
        bad = side is not None and (side.troubled or bool(side.throttled))
        cells.append(Cell(said, said, state="bad" if bad else ""))
    for key in ("peak_bytes", "limit_bytes", "headroom_bytes"):
        for side in (a, b):
            value = None if side is None else getattr(side, key)
            cells.append(Cell(words.size(value), value))
    return tuple(cells)


def befell(c: ContainerOutcome) -> str:
    """All that went wrong with a container, in words."""
    parts = [
        f"killed {words.times(c.killed)}" if c.killed else "",
        f"paused {words.paused(c)}" if c.paused else "",
        f"evicted {words.times(c.evicted)}" if c.evicted else "",
        f"throttled {words.throttled(c)}" if c.throttle_s else "",
        "unfinished" if c.unfinished and not (c.killed or c.paused) else "",
    ]
    return "; ".join(part for part in parts if part) or words.NOTHING


def node(first: Material, second: Material) -> Table:
    """The node's figures side by side."""
    a = _figures(first.outcome.node)
    b = _figures(second.outcome.node)
    rows = [
        (Cell(key), Cell(a.get(key, words.NOTHING)), Cell(b.get(key, words.NOTHING)))
        for key in dict.fromkeys([*a, *b])
    ]
    columns = (Column("what", "what", False), Column("a", "A", False), Column("b", "B", False))
    return Table("The node in A and in B", columns, tuple(rows))


def _figures(found: NodeOutcome) -> dict[str, str]:
    """Every figure of a node's outcome by its name in words."""
    rows: dict[str, str] = {}
    for field in fields(found):
        value, name = getattr(found, field.name), field.name.replace("_", " ")
        if name.endswith(" bytes"):
            rows[name.removesuffix(" bytes")] = words.size(value)
        elif name.endswith(" share") or name == "psi some peak":
            rows[name.removesuffix(" share")] = words.percent(value)
        elif field.name.endswith("_s"):
            rows[name.removesuffix(" s")] = words.time(value)
        elif isinstance(value, int):
            rows[name] = f"{value:,}"
    rows |= {f"free 2 MiB blocks, {z}": f"{n:,}" for z, n in found.least_huge_blocks.items()}
    return rows


def _charts(material: Material) -> list[Chart | None]:
    outcome, context = material.outcome, Context(material.recorded.run)
    return [
        replace(figures_memory.chart(outcome, context), wide=False),
        figures_pressure.chart(outcome, context),
        figures_swap.chart(outcome, context),
    ]


def _settings(first: Material, second: Material) -> list[dict[str, Any]]:
    """Each side's pictures, on the same scales, and its methods."""
    ours: list[Chart] = []
    theirs: list[Chart] = []
    for a, b in zip(_charts(first), _charts(second)):
        one, other = alike(a, b) if a is not None and b is not None else (a, b)
        ours += [one] if one is not None else []
        theirs += [other] if other is not None else []
    return [_setting("a", "A", first, ours), _setting("b", "B", second, theirs)]


def _setting(slug: str, name: str, material: Material, charts: list[Chart]) -> dict[str, Any]:
    return {
        "slug": slug,
        "name": name,
        "plates": [plate(chart, f"{slug}-") for chart in charts],
        **page.methods(material),
    }
