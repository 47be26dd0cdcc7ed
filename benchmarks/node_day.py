"""A 64 GiB node with 50 containers for 24 hours: without pressure, and under it."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import capplan.sim.run as engine
from benchmarks import nodes
from benchmarks.common import median, one_core, report
from capplan.sim.scenario import Scenario

spent = {"engine": 0.0}
_advance = engine.advance


def _timed_advance(*args: Any) -> int:
    begin = time.process_time()
    stop = _advance(*args)
    spent["engine"] += time.process_time() - begin
    return int(stop)


def timed(scenario: Scenario, times: int) -> tuple[float, float, Any]:
    """Median CPU seconds in the engine and of the whole run, and the last run."""
    engine_s, whole_s = [], []
    for _ in range(times):
        spent["engine"] = 0.0
        begin = time.process_time()
        run = engine.run(scenario)
        whole_s.append(time.process_time() - begin)
        engine_s.append(spent["engine"])
    return median(engine_s), median(whole_s), run


def _rate(run: Any, name: str) -> float:
    """Pages a second of a vmstat counter."""
    column = run.series[f"vmstat.{name}"]
    return float(column[-1] - column[0]) / float(run.series["t"][-1])


def pressure(granule_order: int, target: str, times: int) -> None:
    """One day under pressure."""
    engine_s, whole_s, run = timed(nodes.pressure(granule_order), times)
    stolen, scanned = _rate(run, "pgsteal_kswapd"), _rate(run, "pgscan_kswapd")
    passes = np.diff(run.series["vmstat.pageoutrun"]) > 0
    kswapd = run.series["kswapd.cpu_us"][-1] / 1e6 / run.series["t"][-1]
    report(f"pressure_g{granule_order}", [
        ("engine", engine_s, "s", target),
        ("whole run", whole_s, "s", ""),
        ("per page scanned, all included", engine_s * 1e9 / (scanned * 86400), "ns", ""),
        ("kswapd reclaims", stolen / nodes.MIB, "MiB/s", ">= 20"),
        ("of it anonymous, to zswap", _rate(run, "zswpout") / stolen * 100, "%", "about half"),
        ("scanned per page stolen", scanned / stolen, "", ">= 1.5"),
        ("minutes in which kswapd ran", passes.mean() * 100, "%", ">= 50"),
        ("kswapd's CPU time", kswapd * 100, "% of a core", ""),
    ])  # fmt: skip


def main() -> None:
    """All of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    one_core()
    engine.advance = _timed_advance  # type: ignore[assignment]
    engine.run(nodes.idle(duration_ns=60 * nodes.SECOND))  # warm-up
    engine_s, whole_s, _ = timed(nodes.idle(), times)
    report("idle_day", [
        ("engine", engine_s * 1e3, "ms", "< 50, aim 10"),
        ("whole run, built and read", whole_s * 1e3, "ms", ""),
    ])  # fmt: skip
    pressure(6, "< 4", min(times, 3))
    pressure(9, "< 1", min(times, 3))  # 32,768 granules; the target is for half as many


if __name__ == "__main__":
    main()
