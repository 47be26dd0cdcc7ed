"""What ``capplan report`` gives: one result or two, in the form that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.errors import InputError
from capplan.report import record, results
from capplan.report.files import as_json

if TYPE_CHECKING:
    from capplan.report.page import Material
    from capplan.report.tables import Table


class OfRun:
    """The report of one run, or of two beside each other."""

    def __init__(self, first: Material, second: Material | None = None) -> None:
        self.first, self.second = first, second

    def html(self) -> str:
        """One page."""
        from capplan.report import page, sides

        return page.write(self.first) if self.second is None else sides.write(*self._both())

    def md(self) -> str:
        """A pull request's comment."""
        from capplan.report import markdown

        if self.second is None:
            return markdown.single(self.first)
        return markdown.pair(*self._both())

    def csv(self) -> str:
        """The containers."""
        from capplan.report import sides, tables

        if self.second is None:
            return tables.as_csv(tables.containers(self.first.outcome))
        return tables.as_csv(sides.containers(*self._both()))

    def json(self) -> str:
        """The summary, or both."""
        said: dict[str, Any] = dict(self.first.summary)
        if self.second is not None:
            said = {"a": said, "b": dict(self.second.summary)}
        return as_json(said).decode()

    def pictures(self, kind: str) -> dict[str, bytes]:
        """File name to picture; a comparison's begin with a- and b-."""
        from capplan.report import draw, page

        named = [("", self.first)] if self.second is None else zip(("a-", "b-"), self._both())
        return {
            f"{side}{chart.slug}.{kind}": draw.save(chart, kind, FILE_WIDTH)
            for side, material in named
            for chart in page.charts(material)
        }

    def _both(self) -> tuple[Material, Material]:
        assert self.second is not None
        return self.first, self.second


class OfMany:
    """The report of many runs: risk, sweep, compare, headroom."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self.summary = summary

    def html(self) -> str:
        """One page."""
        from capplan.report import odds

        return odds.write(self.summary)

    def md(self) -> str:
        """A pull request's comment."""
        from capplan.report import markdown

        return markdown.many(self.summary)

    def csv(self) -> str:
        """The first table of its page."""
        from capplan.report import odds_tables, tables

        found: list[Table] = [table for _, _, table in odds_tables.report_tables(self.summary)]
        return tables.as_csv(found[0])

    def json(self) -> str:
        """The summary."""
        return as_json(self.summary).decode()

    def pictures(self, kind: str) -> dict[str, bytes]:
        """File name to picture."""
        from capplan.report import draw, odds

        return {
            f"{chart.slug}.{kind}": draw.save(chart, kind, FILE_WIDTH)
            for chart in odds.charts(self.summary)
        }


FILE_WIDTH = 588.0  # of a picture as a file, its legend apart [points]
Report = OfRun | OfMany


def open_result(directory: Path, other: Path | None = None) -> Report:
    """The report of a result, or of two runs.

    Raises
    ------
    InputError
        When a directory holds no whole result, or two are given that cannot be compared.
    """
    first = _read(directory)
    if other is None:
        return first
    second = _read(other)
    if isinstance(first, OfMany) or isinstance(second, OfMany):
        raise InputError(
            f"{directory}, {other}: only single runs are put beside each other\n"
            "    expected two results of capplan simulate; capplan compare runs settings many times"
        )
    return OfRun(first.first, second.first)


def _read(directory: Path) -> Report:
    from capplan.report.odds import KINDS

    summary = results.read_summary(directory)
    if "kind" not in summary:
        return OfRun(material(directory))
    if summary["kind"] not in KINDS:
        raise InputError(
            f"{directory}: a result of the kind {summary['kind']!r} has no report\n"
            f"    expected a single run, or {', '.join(KINDS)}"
        )
    return _guarded(directory, summary)


def _guarded(directory: Path, summary: dict[str, Any]) -> OfMany:
    """Refuse what has not the fields of its kind before anything is drawn."""
    from capplan.report import odds_tables

    try:
        odds_tables.report_tables(summary)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{directory}: not a whole result: {said}") from error
    return OfMany(summary)


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
