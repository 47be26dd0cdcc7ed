"""What ``capplan report`` gives: one result or two, in the form that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from capplan.report import record, results

if TYPE_CHECKING:
    from pathlib import Path

    from capplan.report.page import Material


def material(directory: Path) -> Material:
    """All that a report of one run is made from.

    Raises
    ------
    InputError
        When the directory holds no whole result of a run.
    """
    from capplan.report.page import Material

    folder = directory if directory.is_dir() else directory.parent
    found = results.read(directory)
    return Material(found.summary, found.outcome, record.read(folder))


def as_text(form: str, first: Material, second: Material | None = None) -> str:
    """The report as "html", "md", "csv" or "json" text."""
    from capplan.report import markdown, page, sides, tables
    from capplan.report.files import as_json

    if form == "html":
        return page.write(first) if second is None else sides.write(first, second)
    if form == "md":
        return markdown.single(first) if second is None else markdown.pair(first, second)
    if form == "csv":
        table = (
            tables.containers(first.outcome) if second is None else sides.containers(first, second)
        )
        return tables.as_csv(table)
    if second is None:
        return as_json(dict(first.summary)).decode()
    return as_json({"a": dict(first.summary), "b": dict(second.summary)}).decode()


def pictures(form: str, first: Material, second: Material | None = None) -> dict[str, bytes]:
    """File name to picture; a comparison's begin with a- and b-."""
    from capplan.report import draw, page

    sides = {"": first} if second is None else {"a-": first, "b-": second}
    return {
        f"{side}{chart.slug}.{form}": draw.save(chart, form, draw.NARROW * 1.4)
        for side, of in sides.items()
        for chart in page.charts(of)
    }
