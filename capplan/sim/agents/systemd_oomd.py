"""systemd-oomd (systemd, src/oom: oomd-manager.c, oomd-util.c): swap rule and pressure rule.

::

    each 150 ms: MemAvailable and SwapFree both below 10 %   (SwapUsedLimit=90%)
                 -> the group with the most swap, of those above 5 % of all swap
    each 1 s:    full avg10 of a monitored group above its limit for the whole duration,
                 reclaim in it within the last 30 s, 15 s since the last such kill
                 -> the group below it with the most pgscan since the last second;
                    of equals the largest

A group is a candidate when it has no groups below it, or memory.oom.group. ``omit`` takes it
off the list, ``avoid`` puts it at the end. All its processes get SIGKILL.

Departs from systemd-oomd: of several groups over their limits it takes any (a hash table's
order), here the first in the node file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from capplan.mm.state import (
    NEVER_NS,
    NS_PER_MS,
    NS_PER_S,
    PAGE_SIZE,
    PROC_LIVE,
    WATCH_AVAILABLE,
    WATCH_STALL,
    WATCH_SWAP,
)
from capplan.sim.agents.base import LISTED, Agent, Hands, MemInfo, View, Watch, grid
from capplan.sim.agents.model import ManagedOom, SystemdOomd
from capplan.sim.scenario import Scenario

__all__ = ["Candidate", "SystemdOomdAgent", "by_pgscan", "by_swap"]

SWAP_NS = 150 * NS_PER_MS  # SWAP_INTERVAL_USEC
PRESSURE_NS = NS_PER_S  # MEM_PRESSURE_INTERVAL_USEC
POST_ACTION_NS = 15 * NS_PER_S  # POST_ACTION_DELAY_USEC
RECLAIM_NS = 30 * NS_PER_S  # RECLAIM_DURATION_USEC
SWAP_CANDIDATE_SHARE = 0.05  # THRESHOLD_SWAP_USED_PERCENT
PREFERENCES = {"none": 0, "avoid": 1, "omit": 2}


@dataclass(frozen=True)
class Candidate:
    """A group that may be killed, as it was read."""

    path: str
    preference: str = "none"
    swap_bytes: int = 0
    current_bytes: int = 0
    pgscan: int = 0
    last_pgscan: int = 0

    @property
    def scanned(self) -> int:
        """oomd_pgscan_rate(): pages scanned since it was read last."""
        return self.pgscan - (self.last_pgscan if self.last_pgscan <= self.pgscan else 0)


def by_swap(candidates: list[Candidate], threshold: int) -> list[Candidate]:
    """Candidates of the swap rule, the first to be killed first (compare_swap_usage).

    Worked example
    --------------
    1 GiB of swap, so a threshold of 51 MiB: a 300 MiB, b 400 MiB and avoided, c 50 MiB:
    a, b.
    """
    able = [c for c in candidates if c.preference != "omit" and c.swap_bytes > threshold]
    return sorted(able, key=lambda c: (PREFERENCES[c.preference], -c.swap_bytes))


def by_pgscan(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates of the pressure rule (compare_pgscan_rate_and_memory_usage).

    Worked example
    --------------
    Pages scanned in the last second, and MiB held: a 100, 50; b 100, 70; c 900, 10 and
    avoided: b, a, c.
    """
    able = [c for c in candidates if c.preference != "omit" and (c.pgscan or c.current_bytes)]
    return sorted(
        able, key=lambda c: (PREFERENCES[c.preference], -c.scanned, -c.current_bytes)
    )  # fmt: skip


@dataclass
class _Monitored:
    """A group whose pressure is watched, and what is remembered of it."""

    config: ManagedOom
    limit: float  # percent
    duration_ns: int
    pgscan: int = 0
    above_since_ns: int | None = None
    reclaimed_ns: int = -NEVER_NS
    avg10: float = 0.0


class SystemdOomdAgent(Agent):
    """The daemon."""

    name = "systemd-oomd"

    def __init__(self, config: SystemdOomd, scenario: Scenario, view: View, phase: float) -> None:
        """Begin its clocks at a share (0 to 1) of their intervals."""
        self.config = config
        self.groups = {group.path.strip("/"): group for group in scenario.cgroups}
        self.paths = [path for path in view.index if path]
        self.preferences = {m.cgroup: m.preference for m in config.managed}
        self.containers = {p.cgroup.strip("/"): p.container for p in scenario.processes}
        self.swap = [m.cgroup for m in config.managed if m.swap] if view.k.totalswap else []
        self.pressure = [self._monitored(m) for m in config.managed if m.pressure]
        self.phases = (1 + int(phase * SWAP_NS), 1 + int(phase * PRESSURE_NS))
        self.swap_ns = self.phases[0] if self.swap else NEVER_NS
        self.pressure_ns = self.phases[1] if self.pressure else NEVER_NS
        self.due_ns = min(self.swap_ns, self.pressure_ns)
        self.scans: dict[str, int] = {}  # candidates' pgscan when they were read last
        self.acted_ns: int | None = None
        self.far, self.stall = Watch(), 0  # what the two rules wait for

    def _monitored(self, config: ManagedOom) -> _Monitored:
        limit = self.config.pressure_limit if config.limit is None else config.limit
        duration = config.duration_ns
        if duration is None:
            duration = self.config.pressure_duration_ns
        return _Monitored(config, 100 * limit, duration)

    def look(self, view: View, hands: Hands) -> None:
        """Apply the rules whose time has come, and sleep where nothing can come of it."""
        now = view.now_ns
        if now >= self.pressure_ns:
            quiet = self._apply_pressure(view, hands)
            self.stall = WATCH_STALL if quiet else 0
            self.pressure_ns = NEVER_NS if quiet else grid(self.phases[1], PRESSURE_NS, now + 1)
        if now >= self.swap_ns:
            self.far = self._apply_swap(view, hands)
            self.swap_ns = NEVER_NS if self.far.flags else grid(self.phases[0], SWAP_NS, now + 1)
        self.watch = replace(self.far, flags=self.far.flags | self.stall)
        self.due_ns = min(self.swap_ns, self.pressure_ns)

    def wake(self, view: View) -> None:
        """Both clocks go on."""
        now_ns = view.now_ns
        if self.swap:
            self.swap_ns = grid(self.phases[0], SWAP_NS, now_ns)
        if self.pressure:
            self.pressure_ns = grid(self.phases[1], PRESSURE_NS, now_ns)
        self.watch, self.far, self.stall = Watch(), Watch(), 0
        self.due_ns = min(self.swap_ns, self.pressure_ns)

    # --- swap ---------------------------------------------------------------------------

    def _apply_swap(self, view: View, hands: Hands) -> Watch:
        """monitor_swap_contexts_handler(); what to wait for when it is far from acting."""
        free_share = 1.0 - self.config.swap_used_limit
        seen = view.meminfo()
        mem_mark = int(seen.total * round(free_share * 10_000) // 10_000)
        swap_mark = int(seen.swap_total * round(free_share * 10_000) // 10_000)
        if seen.swap_free >= swap_mark:
            return Watch(WATCH_SWAP, swap=-(-swap_mark // PAGE_SIZE))
        if seen.available >= mem_mark:
            mark = mem_mark // PAGE_SIZE + 1 + view.unavailable_pages()
            far = view.takeable_pages() >= mark
            return Watch(WATCH_AVAILABLE, available=mark) if far else Watch()
        least = int(seen.swap_total * SWAP_CANDIDATE_SHARE)
        ranked = by_swap(self._read(view, self.swap), least)
        if ranked:
            self._kill(view, hands, ranked, {"rule": "swap", "swap_used_limit":
                       self.config.swap_used_limit, "least_swap_bytes": least}, seen)  # fmt: skip
        return Watch()

    # --- pressure -----------------------------------------------------------------------

    def _apply_pressure(self, view: View, hands: Hands) -> bool:
        """monitor_memory_pressure_contexts_handler(); whether nothing comes of it without a stall.

        All reclaim is within a stall, so until one begins no pressure rises and no pgscan grows.
        """
        now = view.now_ns
        for group in self.pressure:
            self._update(view, group, now)
        if self.acted_ns is not None and self.acted_ns + POST_ACTION_NS <= now:
            self.acted_ns = None
        over = [g for g in self.pressure if self._is_over(g, now)]
        if over and self.acted_ns is None:
            self._act(view, hands, over, now)
        elif any(g.above_since_ns is not None for g in self.pressure):
            self._read_candidates(view)
        else:
            self.scans = {}
        return not view.stalled() and all(g.avg10 == 0.0 for g in self.pressure)

    def _update(self, view: View, group: _Monitored, now: int) -> None:
        path = group.config.cgroup
        scanned = view.pgscan(path)
        if scanned > group.pgscan:
            group.reclaimed_ns = now
        group.pgscan = scanned
        group.avg10 = view.full_avg10(path)
        if group.avg10 <= group.limit:
            group.above_since_ns = None
        elif group.above_since_ns is None:
            group.above_since_ns = now

    def _is_over(self, group: _Monitored, now: int) -> bool:
        since = group.above_since_ns
        return since is not None and now - since >= group.duration_ns

    def _act(self, view: View, hands: Hands, over: list[_Monitored], now: int) -> None:
        candidates = self._read_candidates(view)
        for group in over:
            if now - group.reclaimed_ns > RECLAIM_NS:
                continue
            path = group.config.cgroup
            ranked = by_pgscan([c for c in candidates if f"{c.path}/".startswith(f"{path}/")])
            if not ranked:
                continue
            since = now if group.above_since_ns is None else group.above_since_ns
            why = {
                "rule": "pressure", "monitored": path, "avg10": group.avg10,
                "limit": group.limit, "duration_s": group.duration_ns / NS_PER_S,
                "above_s": (now - since) / NS_PER_S,
            }  # fmt: skip
            self._kill(view, hands, ranked, why, view.meminfo())
            self.acted_ns = now
            return

    # --- candidates ---------------------------------------------------------------------

    def _read_candidates(self, view: View) -> list[Candidate]:
        found = self._read(view, [g.config.cgroup for g in self.pressure])
        self.scans = {c.path: c.pgscan for c in found}
        return found

    def _read(self, view: View, roots: list[str]) -> list[Candidate]:
        """Groups without groups below them, or with memory.oom.group, that hold processes."""
        paths = dict.fromkeys(path for root in roots for path in self._leaves(root, top=True))
        return [
            Candidate(
                path,
                self.preferences.get(path, "none"),
                view.swap_current(path),
                view.current(path),
                view.pgscan(path),
                self.scans.get(path, 0),
            )
            for path in paths
            if view.processes(path)
        ]

    def _leaves(self, path: str, *, top: bool = False) -> list[str]:
        group = self.groups.get(path)
        if not top and group is not None and group.oom_group:
            return [path]
        head = f"{path}/" if path else ""
        below = [p for p in self.paths if p.startswith(head) and "/" not in p[len(head) :]]
        return [leaf for one in below for leaf in self._leaves(one)] if below else [path]

    def _kill(
        self, view: View, hands: Hands, ranked: list[Candidate], why: dict[str, Any], seen: MemInfo
    ) -> None:
        """SIGKILL to the first; one event for each container in it."""
        chosen = ranked[0]
        if any(view.k.proc[p].state == PROC_LIVE for p in view.processes(chosen.path)):
            detail = why | {
                "agent": self.name,
                "group": chosen.path,
                "MemAvailable_bytes": seen.available,
                "MemTotal_bytes": seen.total,
                "SwapFree_bytes": seen.swap_free,
                "SwapTotal_bytes": seen.swap_total,
                "candidates": [_row(c) for c in ranked[:LISTED]],
                "ranked": len(ranked),
            }
            for path, name in self.containers.items():
                if f"{path}/".startswith(f"{chosen.path}/") and view.processes(path):
                    hands.tell("oomd_kill", name, path, detail)
        hands.kill_group(chosen.path)


def _row(c: Candidate) -> dict[str, Any]:
    return {
        "name": c.path, "pgscan": c.scanned, "current_bytes": c.current_bytes,
        "swap_bytes": c.swap_bytes, "preference": c.preference,
    }  # fmt: skip
