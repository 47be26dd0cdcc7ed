"""Many runs of a day of 50 containers: threads or processes, one core or two, a thousand runs.

Under pressure a part of the thousand is run, and the rest reckoned at its rate.

Figures that are compared are taken in turns, round after round, so that other work on the
machine touches both alike; the ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import median, report
from benchmarks.node_files import write_idle_day, write_pressure_day
from capplan.plan.executor import Pool, run_points
from capplan.plan.local import Inline, Processes, cores
from capplan.plan.point import Variant, points, variant
from capplan.plan.store import Store
from capplan.plan.work import Chunk, Done, compute

MIB = 1 << 20
AIM_S = 30.0
PRESSURE_GRANULE = 9  # the coarsest: 32,768 of 2 MiB


class Threads:
    """The same work in threads of this process: only the engine runs beside itself."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._threads = concurrent.futures.ThreadPoolExecutor(size)

    def submit(self, chunk: Chunk) -> concurrent.futures.Future[list[Done]]:
        """Have a chunk computed."""
        return self._threads.submit(compute, chunk)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()


def rate(made: Variant, pool: Pool, first: int, count: int) -> float:
    """Runs a second, of replicates that nobody ran before."""
    with Store(":memory:") as store:
        begin = time.perf_counter()
        for _ in run_points(points([made], range(first, first + count), 1), store, pool=pool):
            pass
        return count / (time.perf_counter() - begin)


def compare(made: Variant, rounds: int, count: int) -> list[tuple[str, float, str, str]]:
    """One worker, as many threads as cores, as many processes: rates and their ratios."""
    size = cores()
    makers: dict[str, Callable[[], Pool]] = {
        "in this process": Inline,
        "1 process": lambda: Processes(1),
        f"{size} threads": lambda: Threads(size),
        f"{size} processes": lambda: Processes(size),
    }
    pools = {name: make() for name, make in makers.items()}
    found: dict[str, list[float]] = {name: [] for name in pools}
    first = 1
    for pool in pools.values():
        rate(made, pool, first, 4 * size)  # warm
    for _ in range(rounds):
        for name, pool in pools.items():
            first += count
            found[name].append(rate(made, pool, first, count))
    for pool in pools.values():
        pool.close()
    rows = [(name, median(rates), "runs/s", "") for name, rates in found.items()]
    for name, target in ((f"{size} threads", ""), (f"{size} processes", ">= 1.8")):
        ratios = [a / b for a, b in zip(found[name], found["1 process"])]
        rows.append((f"{name} / 1 process", median(ratios), "", target))
    return rows


def thousand(made: Variant, count: int) -> list[tuple[str, float, str, str]]:
    """How long so many runs take on all cores, and how the memory goes."""
    pool = Processes(cores())
    sizes = []
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "runs.sqlite") as store:
        begin = time.perf_counter()
        found = run_points(points([made], range(1, count + 1), 1), store, pool=pool)
        for done, _ in enumerate(found, start=1):
            if done in (count // 5, count):
                sizes.append((_own_mib(), max(map(_mib, pool.pids))))
        seconds = time.perf_counter() - begin
    pool.close()
    (own, worker), (own_end, worker_end) = sizes
    return [
        (f"{count} runs", seconds, "s", f"< {AIM_S * count / 1000:g}, aim {5 * count / 1000:g}"),
        ("this process after a fifth", own, "MiB", ""),
        ("this process at the end", own_end, "MiB", "no more"),
        ("largest worker after a fifth", worker, "MiB", ""),
        ("largest worker at the end", worker_end, "MiB", "no more"),
    ]


def under_pressure(made: Variant, count: int) -> list[tuple[str, float, str, str]]:
    """How long a thousand days with kswapd at work throughout take, from ``count`` of them."""
    pool = Processes(cores())
    rate(made, pool, 1, 2 * pool.size)  # warm
    seconds = count / rate(made, pool, 1000, count)
    pool.close()
    return [
        (f"{count} runs", seconds, "s", ""),
        ("a thousand at this rate", seconds * 1000 / count / 60, "min", "< 10, aim 2"),
    ]


def _own_mib() -> float:
    return _mib(os.getpid())


def _mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=60, help="runs of each kind a round")
    parser.add_argument("--pressure", type=int, default=60, help="runs under pressure")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = variant(write_idle_day(Path(folder)))
        report("many_runs_thousand", thousand(made, given.runs))
        report("many_runs_scaling", compare(made, given.rounds, given.count))
        hard = variant(write_pressure_day(Path(folder), PRESSURE_GRANULE))
        report("many_runs_pressure", under_pressure(hard, given.pressure))


if __name__ == "__main__":
    main()
