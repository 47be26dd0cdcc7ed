"""How big and how fast a burst the node takes before allocations reclaim for themselves.

A process in the root group, bound by no limit, grows from the node's tightest moment on. kswapd
is woken at the low mark and races it: what it gives back in time is part of what the node
absorbs. The burst ends where an allocation of its own finds less than the min mark and has to
reclaim (``allocstall`` in /proc/vmstat): from there on whoever allocates waits.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import capplan.sim.run
from capplan.sim.scenario import PAGE_SIZE, Mapping, Op, Process, Scenario, Task
from capplan.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capplan.sim.result import Event, Run

__all__ = ["RATES", "Absorbed", "Burst", "absorbed", "burst", "fastest", "tightest"]

NAME = "capplan-burst"
NS_PER_S = 1_000_000_000
RATES = (64 * MIB, 256 * MIB, 1024 * MIB)
"""Rates that are shown [bytes/s]: a container that starts, a cache that fills, a fork that copies
(one CPU of today touches 1 to 2 GiB/s of new memory)."""
SLOWEST, FASTEST = 1 * MIB, 4096 * MIB  # where the largest rate is looked for
STEPS = 6  # halvings of the logarithm: the rate is found to 1/64 of 12 octaves, 14 %
SHARE = 0.75  # of what is available: a burst that memory alone does not decide


@dataclasses.dataclass(frozen=True)
class Absorbed:
    """What the node took of one burst.

    Attributes
    ----------
    rate : float
        At which it grew. [bytes/s]
    size_bytes : int
        What it asked for.
    absorbed_bytes : int
        What it had when an allocation of its own first reclaimed; ``size_bytes`` when none did.
    """

    rate: float
    size_bytes: int
    absorbed_bytes: int

    @property
    def whole(self) -> bool:
        """Whether all of it was taken."""
        return self.absorbed_bytes >= self.size_bytes


@dataclasses.dataclass(frozen=True)
class Burst:
    """What the node takes at its tightest moment.

    Attributes
    ----------
    at_s : float
        When that was. [s]
    available_bytes : int
        MemAvailable then.
    at_rates : tuple of Absorbed
        Bursts without end, at :data:`RATES`.
    fastest_rate : float, optional
        Largest rate at which three quarters of that are absorbed [bytes/s]; None: not even at
        1 MiB/s. 4 GiB/s stands for "as fast as one CPU touches memory".
    """

    at_s: float
    available_bytes: int
    at_rates: tuple[Absorbed, ...]
    fastest_rate: float | None


def tightest(run: Run) -> tuple[int, int]:
    """When a run had least memory available [ns], and how much [bytes]."""
    available = run.series.get("meminfo_kb.MemAvailable|min", run.series["meminfo_kb.MemAvailable"])
    last = len(available) - 1
    at = int(available[:last].argmin()) if last > 0 else 0
    return int(run.series["t"][at] * NS_PER_S), int(available[at]) * 1024


def burst(scenario: Scenario, at_ns: int, available_bytes: int) -> Burst:
    """Play bursts of several rates, and find the largest rate for most of what is available.

    Parameters
    ----------
    scenario : Scenario
        The node and its load.
    at_ns, available_bytes : int
        From :func:`tightest`; the same for all settings that are compared.
    """
    managed = sum(zone.managed for zone in scenario.node.zones) * PAGE_SIZE
    return Burst(
        at_s=at_ns / NS_PER_S,
        available_bytes=available_bytes,
        at_rates=tuple(absorbed(scenario, at_ns, rate, managed) for rate in RATES),
        fastest_rate=fastest(scenario, at_ns, int(SHARE * available_bytes)),
    )


def fastest(scenario: Scenario, at_ns: int, size_bytes: int) -> float | None:
    """Largest rate at which a burst is absorbed whole [bytes/s]; None: at none.

    Bisection over the logarithm of the rate: the faster, the less kswapd has given back.
    """
    if absorbed(scenario, at_ns, FASTEST, size_bytes).whole:
        return float(FASTEST)
    if not absorbed(scenario, at_ns, SLOWEST, size_bytes).whole:
        return None
    good, bad = float(SLOWEST), float(FASTEST)
    for _ in range(STEPS):
        middle = (good * bad) ** 0.5
        if absorbed(scenario, at_ns, middle, size_bytes).whole:
            good = middle
        else:
            bad = middle
    return good


def absorbed(scenario: Scenario, at_ns: int, rate: float, size_bytes: int) -> Absorbed:
    """Play one burst.

    Parameters
    ----------
    rate : float
        [bytes/s]
    size_bytes : int
        Up to which it grows.
    """
    pages = max(size_bytes // PAGE_SIZE, 1)
    growing_ns = int(pages * PAGE_SIZE / rate * NS_PER_S)
    made = _with_burst(scenario, at_ns, pages, rate, growing_ns)
    ends = _ends(capplan.sim.run.run(made, stop=_ends).events)
    if not ends:
        return Absorbed(rate, pages * PAGE_SIZE, pages * PAGE_SIZE)
    grown = int((ends[0] - at_ns / NS_PER_S) * rate)
    return Absorbed(rate, pages * PAGE_SIZE, min(max(grown, 0), pages * PAGE_SIZE - 1))


def _ends(events: Sequence[Event]) -> list[float]:
    """When an allocation of the burst's own found no memory without reclaim [s]."""
    kinds = ("direct_reclaim", "oom_kill", "enomem")
    return [event.t for event in events if event.name == NAME and event.event in kinds]


def _with_burst(
    scenario: Scenario, at_ns: int, pages: int, rate: float, growing_ns: int
) -> Scenario:
    """The scenario with the burst in it, cut off when the burst is over."""
    memory = Mapping(name=NAME, kind="anon", max_pages=pages)
    grow = Op("grow", NAME, pages=pages, rate=rate / PAGE_SIZE)
    process = Process(
        NAME, "", "", start_ns=at_ns, oom_score_adj=0, mappings=(NAME,), tasks=(Task((grow,)),)
    )
    end = at_ns + growing_ns + NS_PER_S // 2
    return dataclasses.replace(
        scenario,
        mappings=(*scenario.mappings, memory),
        processes=(*scenario.processes, process),
        duration_ns=end,
        sample_ns=end,  # nothing is read of the curves
    )
