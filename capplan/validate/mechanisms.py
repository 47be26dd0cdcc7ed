"""Which mechanisms a run exercises: the same question for a recording and for a prediction.

Both have a scenario, series under the kernel's names, and events; what was at work is read off
those, so that a verdict can be given the figures of the recordings in which the same was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capplan.sim.scenario import UNLIMITED, Scenario

Series = Mapping[str, NDArray[np.float64]]

# In the order in which they decide a verdict; what stands in a sentence.
TITLES = {
    "memcg_oom": "OOM kill at a group's limit",
    "global_oom": "OOM kill of the node",
    "pause": "pause at a cgroup v1 limit",
    "agent": "eviction by a user-space agent",
    "memory_high": "throttling at memory.high",
    "zswap": "zswap",
    "zram": "zram",
    "memcg_swap": "swap of a group at its limit",
    "global_swap": "swap of the node",
    "memcg_file": "page cache within a group's limit",
    "global_file": "page cache of the node",
    "protection": "memory.min and memory.low",
    "writeback": "writing of files",
    "shmem": "tmpfs",
    "locked": "locked memory",
    "fork": "copy-on-write after fork",
    "numa": "several memory nodes",
    "lru_gen": "multi-gen LRU",
    "oom_score_adj": "victims by oom_score_adj",
    "growth": "growth without reclaim",
}
FEW_PAGES = 1024  # 4 MiB: what drifts out of a cache by itself decides nothing


@dataclass(frozen=True)
class Seen:
    """What the events say: (event, scope) of each kind that occurred."""

    happened: frozenset[tuple[str, str]]

    def any_of(self, *events: str, scope: str | None = None) -> bool:
        """Whether one of these occurred, of that scope if one is given."""
        return any(e in events and scope in (None, s) for e, s in self.happened)


def exercised(
    scenario: Scenario, series: Series, happened: Collection[tuple[str, str]]
) -> tuple[str, ...]:
    """Mechanisms that were at work, in the order of :data:`TITLES`.

    Parameters
    ----------
    scenario : Scenario
        What was configured.
    series : mapping
        At least ``vmstat.*`` and ``cgroup.*.events.*`` as files show them. [pages, counts]
    happened : collection of (event, scope)
        ``oom_kill`` with its scope, ``paused``, ``evicted`` and the like.

    Returns
    -------
    tuple of str
        Keys of :data:`TITLES`; ``growth`` alone where memory was only taken and given back.
    """
    seen = Seen(frozenset(happened))
    found = _of_events(scenario, seen) | _of_reclaim(scenario, series) | _of_program(scenario)
    if not found - {"shmem", "locked", "fork", "numa", "writeback"}:
        found.add("growth")
    return tuple(key for key in TITLES if key in found)


def _of_events(scenario: Scenario, seen: Seen) -> set[str]:
    found = set()
    if seen.any_of("oom_kill", scope="memcg"):
        found.add("memcg_oom")
    if seen.any_of("oom_kill", scope="global"):
        found.add("global_oom")
    if seen.any_of("oom_kill") and any(p.oom_score_adj for p in scenario.processes):
        found.add("oom_score_adj")
    if seen.any_of("paused"):
        found.add("pause")
    if seen.any_of("evicted", "oomd_kill", "earlyoom_kill"):
        found.add("agent")
    return found


def _of_reclaim(scenario: Scenario, series: Series) -> set[str]:
    """What was taken from whom.

    vmstat counts the node's own reclaim (kswapd is at work then), memory.stat all of a group's.
    """
    kswapd = _grown(series, "vmstat.pgsteal_kswapd")
    of_node = kswapd + _grown(series, "vmstat.pgsteal_direct")
    top = [c.path for c in scenario.cgroups if "/" not in c.path]
    of_groups = sum(_grown(series, f"cgroup.{path}.stat.pgsteal") for path in top) - of_node
    zswapped = _grown(series, "vmstat.zswpout")
    swapped = _grown(series, "vmstat.pswpout") + zswapped
    found = set()
    if swapped > FEW_PAGES:
        found.add("global_swap" if kswapd > FEW_PAGES else "memcg_swap")
        if any(swap.zram for swap in scenario.node.swaps):
            found.add("zram")
    if zswapped > FEW_PAGES:
        found.add("zswap")
    if of_node - swapped > FEW_PAGES:
        found.add("global_file")
    elif of_groups - swapped > FEW_PAGES:
        found.add("memcg_file")
    if max(of_node, of_groups) > FEW_PAGES:
        if any(c.memory_min > 0 or c.memory_low > 0 for c in scenario.cgroups):
            found.add("protection")
        if scenario.node.lru_gen:
            found.add("lru_gen")
    limited = (c.path for c in scenario.cgroups if c.memory_high != UNLIMITED)
    if any(_grown(series, f"cgroup.{path}.events.high") for path in limited):
        found.add("memory_high")
    return found


def _of_program(scenario: Scenario) -> set[str]:
    kinds = {mapping.name: mapping.kind for mapping in scenario.mappings}
    ops = [op for process in scenario.processes for task in process.tasks for op in task.ops]
    found = set()
    for op in ops:
        if op.op == "write":
            found.add("shmem" if kinds.get(op.mapping) == "shmem" else "writeback")
        elif op.op == "mlock":
            found.add("locked")
    if any(mapping.cow_of for mapping in scenario.mappings):
        found.add("fork")
    if len({zone.node for zone in scenario.node.zones}) > 1:
        found.add("numa")
    return found


def _grown(series: Series, name: str) -> float:
    values = series.get(name)
    if values is None or not len(values):
        return 0.0
    there = values[~np.isnan(values)]
    return float(there[-1] - there[0]) if len(there) else 0.0
