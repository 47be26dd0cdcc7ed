"""A recorded node: the Train Ticket trace, one inferred node, its pods as containers."""

from __future__ import annotations

import csv
import gzip
import pathlib

import pytest

import capplan
from capplan.report import text

MIB = 1 << 20


def test_nezha_node_gives_a_verdict(shared: pathlib.Path, root: pathlib.Path) -> None:
    node = root / "profiles" / "traces" / "nezha-node.yaml"
    recorded = shared / "traces" / "nezha" / "trainticket_2023-01-29.csv.gz"
    if not (root.parent / "shared" / "traces").is_dir():
        pytest.skip("the profile looks for the trace beside the checkout")
    found = capplan.simulate(capplan.load(node))
    assert found.fits
    assert found.verdict.startswith("Fits: 7 containers ran 15 h with nobody killed, paused or")
    assert "the tightest is travel" in found.verdict
    assert "travel" in text.plain(found.outcome)
    travel = next(c for c in found.outcome.containers if c.name == "travel")
    # the simulated peak is the recorded one, but for kernel memory and a granule
    peak = _recorded_peak(recorded, "ts-travel-service-64469b5b48-25zj6", 15 * 3600)
    assert travel.peak_bytes == pytest.approx(peak, abs=6 * MIB)


def _recorded_peak(path: pathlib.Path, pod: str, seconds: int) -> float:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [
            (int(row["timestamp_s"]), float(row["value"]))
            for row in csv.DictReader(file)
            if row["container"] == pod and row["metric"] == "memory_usage_bytes"
        ]
    begin = min(t for t, _ in rows)
    return max(value for t, value in rows if t - begin <= seconds)
