"""The committed counts and the page of evidence are what the evidence folder gives."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from capplan.plan.oom_evidence import retell_all
from capplan.validate import docs
from capplan.validate.zone_states import load_states

pytestmark = pytest.mark.slow

ACCEPT = "CAPPLAN_GOLDEN_ACCEPT" in os.environ
STALE = 0.002  # of RAM, or of an operation's time


@pytest.fixture(scope="module")
def measured(shared: pathlib.Path, root: pathlib.Path) -> dict[str, Any]:
    if not (shared / "kernel-evidence").is_dir() or not (shared / "page-cache-runs").is_dir():
        pytest.skip("no kernel-evidence or page-cache-runs in the evidence folder")
    reports = [retold.as_json() for retold in retell_all(shared)]
    states = [state.as_json() for state in load_states(shared)]
    folder = root / "docs"
    data = docs.with_evidence(docs.read_data(folder), reports, states)
    data = docs.with_page_cache(data, shared / "page-cache-runs")
    page = docs.evidence_page(reports, states)
    if ACCEPT:
        failures = docs.expected_failures([root / "tests" / "recordings"])
        docs.write(folder, data, docs.pages(data, failures) | {docs.EVIDENCE_PAGE: page})
    return {"data": data, "page": page}


def test_counts_are_those_committed(measured: dict[str, Any], root: pathlib.Path) -> None:
    committed = docs.read_data(root / "docs")
    for key in ("oom", "watermarks"):
        assert measured["data"][key] == committed[key]


def test_the_page_lists_every_report_and_state(
    measured: dict[str, Any], root: pathlib.Path
) -> None:
    page = (root / "docs" / docs.EVIDENCE_PAGE).read_text(encoding="utf-8")
    assert page == measured["page"]


def test_page_cache_figures_are_near_those_committed(
    measured: dict[str, Any], root: pathlib.Path
) -> None:
    committed = docs.read_data(root / "docs")["page_cache"]
    fresh = measured["data"]["page_cache"]
    assert [run["name"] for run in fresh] == [run["name"] for run in committed]
    for now, then in zip(fresh, committed, strict=True):
        for key in ("operations_error", "cache", "used", "dirty"):
            assert abs(now[key] - then[key]) <= STALE, (now["name"], key)
