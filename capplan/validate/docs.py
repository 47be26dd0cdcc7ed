"""The pages of ``docs/`` that are generated from figures, and the figures themselves.

``fidelity.json`` holds what was measured; the pages are rendered from it alone, so a test can
hold each against the other without a simulation. What a command did not measure anew stays as
it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from capplan.sim.costs import COSTS
from capplan.validate.calibration import DERIVATIONS
from capplan.validate.fidelity import DATA, FORMAT
from capplan.validate.judge import Verdict
from capplan.validate.measured import mechanisms_table, recordings_of, worst_of
from capplan.validate.mechanisms import TITLES
from capplan.validate.sensitivity import Outcome, PageCacheOutcome
from capplan.validate.zone_states import RULES

PAGES = ("fidelity.md", "fidelity-recordings.md")
EVIDENCE_PAGE = "oom-evidence.md"
PICTURES = (
    "global-adj-victim",
    "global-swap-leak",
    "node-mix-4g",
    "v2-high-throttle",
    "zswap-compressible",
)
PICTURE_DPI = 55
HEADROOM = ("global-noswap-minfree-4096", "global-noswap-minfree-65536")
Data = dict[str, Any]


def data_path(docs: Path) -> Path:
    """Where the figures lie: in the package beside a checkout's docs, else in docs itself."""
    package = docs.resolve().parent / "capplan" / "validate"
    return (package if package.is_dir() else docs) / DATA


def read_data(docs: Path) -> Data:
    """The figures as they are; empty sections where there are none yet."""
    path = data_path(docs)
    found: Data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {"format": FORMAT, **{key: value for key, value in found.items() if key != "format"}}


def with_recordings(data: Data, verdicts: Sequence[Verdict]) -> Data:
    """The figures with these verdicts in place of the recordings' and mechanisms'."""
    recordings = recordings_of(verdicts)
    return data | {"recordings": recordings, "mechanisms": mechanisms_table(recordings)}


def with_sensitivity(data: Data, outcomes: Sequence[Outcome]) -> Data:
    """The figures with a sensitivity study's outcome: what fails besides."""
    base = {name for name, entry in data["recordings"].items() if entry["passed"]}
    changed = []
    for outcome in outcomes:
        lost = sorted(base - set(outcome.passed))
        if lost or set(outcome.passed) - base:
            changed.append({"cost": outcome.cost, "factor": outcome.factor, "failed": lost})
    study = {
        "cases": len(outcomes),
        "recordings": len(data["recordings"]),
        "passed": len(base),
        "changed": changed,
    }
    return data | {"sensitivity": study}


def with_evidence(data: Data, reports: Sequence[Data], states: Sequence[Data]) -> Data:
    """The figures with counts of retold OOM reports and explained zone dumps.

    Parameters
    ----------
    reports : sequence of dict
        Each with ``era``, ``same``, ``score``, ``printed``.
    states : sequence of dict
        Each with ``rule``.
    """
    oom: Data = {}
    for era in ("5.9", "3.10", "el6"):
        own = [report["same"] for report in reports if report["era"] == era]
        oom[era] = [sum(own), len(own)]
    scored = [r for r in reports if r["score"] is not None]
    oom["scores"] = [sum(abs(r["score"] - r["printed"]) <= 1 for r in scored), len(scored)]
    rules = [state["rule"] for state in states]
    return data | {"oom": oom, "watermarks": {rule: rules.count(rule) for rule in RULES}}


def with_page_cache(data: Data, folder: Path) -> Data:
    """The figures with those of the page cache runs of ``folder``."""
    from capplan.validate.page_cache import compare, load_all

    runs = []
    for recorded in load_all(folder):
        found = compare(recorded)
        runs.append(
            {
                "name": recorded.name,
                "operations_error": round(found.operation_error, 4),
                "cache": round(found.cache_error, 5),
                "used": round(found.used_error, 5),
                "dirty": round(found.dirty_error, 5),
                "operations": [
                    {"name": op, "error": round(ours / real - 1, 4)}
                    for op, real, ours in found.operations
                ],
            }
        )
    return data | {"page_cache": runs}


def with_page_cache_sensitivity(data: Data, outcomes: Sequence[PageCacheOutcome]) -> Data:
    """The figures with those of the page cache runs that a changed cost moves.

    Parameters
    ----------
    outcomes : sequence of PageCacheOutcome
        Of no change first, as :func:`~capplan.validate.sensitivity.study_page_cache` gives them.
    """
    rows: list[Data] = [
        {
            "cost": outcome.cost,
            "factor": outcome.factor,
            "operations": round(outcome.operations, 3),
            "cache": round(outcome.cache, 4),
            "used": round(outcome.used, 4),
            "dirty": round(outcome.dirty, 3),
            "missed": list(outcome.missed),
        }
        for outcome in outcomes
    ]
    base, *changed = rows
    figures = ("operations", "cache", "used", "dirty", "missed")
    moved = [row for row in changed if any(row[key] != base[key] for key in figures)]
    study = {"cases": len(changed), "base": base, "changed": moved}
    return data | {"page_cache_sensitivity": study}


def pages(data: Data, failures: Sequence[Data] = ()) -> dict[str, str]:
    """The generated pages by file name, from the figures alone.

    Parameters
    ----------
    data : dict
        As :func:`read_data` gives them.
    failures : sequence of dict
        The committed list of expected failures.
    """
    recordings = data["recordings"]
    context = data | {
        "passed": sum(entry["passed"] for entry in recordings.values()),
        "failures": list(failures),
        "pictures": [name for name in PICTURES if name in recordings],
        "headroom": [_headroom(name, recordings[name]) for name in HEADROOM if name in recordings],
        "rules": RULES,
        "titles": TITLES,
        "costs": COSTS,
        "derivations": DERIVATIONS,
    }
    return {name: render(name, context) for name in PAGES}


def expected_failures(folders: Sequence[Path]) -> list[Data]:
    """The committed lists of recordings that are known to fail, beside the recordings."""
    import yaml

    found: list[Data] = []
    for folder in folders:
        path = folder / "expected-failures.yaml"
        if path.exists():
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
            found += loaded["expected_failures"]
    return found


def _headroom(name: str, entry: Mapping[str, Any]) -> Data:
    ((victim, (ours, *kernel)),) = entry["victims_kb"].items()
    nearer = min(kernel, key=lambda real: abs(real - ours))
    difference = ours / nearer - 1
    return {
        "recording": name,
        "victim": victim,
        "model": ours,
        "kernel": nearer,
        "difference": difference,
    }


def evidence_page(reports: Sequence[Data], states: Sequence[Data]) -> str:
    """The page that lists OOM reports and zone dumps one by one."""
    sources: dict[str, list[str]] = {}
    for report in reports:
        sources.setdefault(report["source"], []).append(report["name"])
    context = {"reports": reports, "states": states, "sources": list(sources.items())}
    return render(EVIDENCE_PAGE, context)


def render(name: str, context: Mapping[str, Any]) -> str:
    """A page from its template."""
    import jinja2

    folder = resources.files("capplan.validate").joinpath("templates")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
    )  # Markdown: cells are escaped by hand
    environment.filters |= {"second": _seconds, "cell": _cell}
    tools = {
        "pct": _percent,
        "yes": lambda value: "yes" if value else "NO",
        "seconds": _seconds,
        "worst": worst_of,
        "cells": _cells,
        "signed": lambda op: f"{100 * op['error']:+.1f} %",
    }
    text = folder.joinpath(f"{name}.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(**context, **tools).rstrip() + "\n"


def _percent(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{100 * value:.{digits}f} %"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _cell(text: str) -> str:
    """Foreign text in a table's cell: no new column, no markup."""
    return "".join(f"\\{c}" if c in "|\\`*_<>[]" else c for c in text if c.isprintable())


def _cells(runs: Sequence[Data], key: str, digits: int) -> str:
    values = [run[key] for run in runs]
    shown = [*values, sum(values) / len(values)]
    return " | ".join(_percent(value, digits) for value in shown)


def write(docs: Path, data: Data, texts: Mapping[str, str]) -> list[Path]:
    """Write the figures and the pages, each whole or not at all."""
    docs.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    written = [_replace(data_path(docs), figures)]
    return written + [_replace(docs / name, text) for name, text in texts.items()]


def _replace(path: Path, text: str) -> Path:
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
    return path


def draw_pictures(verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """The few pictures that the page shows: the same figures give the same bytes."""
    from capplan.validate.picture import save

    chosen = [verdict for verdict in verdicts if verdict.name in PICTURES]
    return [save(verdict, folder, dpi=PICTURE_DPI) for verdict in chosen]
