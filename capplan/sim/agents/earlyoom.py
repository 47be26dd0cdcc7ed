"""earlyoom (rfjakob/earlyoom: main.c, kill.c, meminfo.c).

::

    memory %: MemAvailable / (MemAvailable + AnonPages)      swap %: SwapFree / SwapTotal, or 0
    both at or below the first limits:  SIGTERM          both at or below the second: SIGKILL
    to the process with the highest oom_score (+300 preferred, -300 avoided), of equals the
    largest; then wait until it is gone, at most 10 s, a SIGTERM becoming a SIGKILL on the way

It sleeps 100 ms to 1 s: as long as memory filled at 6000 MiB/s and swap at 800 MiB/s would
take to reach the first limits.

Departs from earlyoom: process_mrelease(2) is not played, a victim's memory comes back as it
exits; looks far from the limits are left out, so the first look near them comes up to one sleep
earlier or later than it would.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from capplan.mm.state import NEVER_NS, NS_PER_MS, PAGE_SIZE, PROC_LIVE, WATCH_AVAILABLE
from capplan.sim.agents.base import LISTED, Agent, Hands, MemInfo, View, Watch
from capplan.sim.agents.model import Earlyoom

__all__ = ["EarlyoomAgent", "Victim", "largest", "mem_percent", "sleep_ms", "swap_percent"]

MEM_FILL_RATE, SWAP_FILL_RATE = 6000, 800  # KiB per millisecond, sleep_time_ms()
MIN_SLEEP_MS, MAX_SLEEP_MS = 100, 1000
PREFER, AVOID = 300, -300  # OOM_SCORE_PREFER, OOM_SCORE_AVOID
RSS_PREFER, RSS_AVOID = 3_145_728 << 10, -3_145_728 << 10  # VMRSS_PREFER, VMRSS_AVOID
POLL_NS, POLLS = 100 * NS_PER_MS, 100  # kill_wait()
NEAR_PAGES = 4096  # 16 MiB above the limit each look is played
KIB = 1024


class Victim(NamedTuple):
    """A process as it is weighed."""

    name: str
    proc: int
    oom_score: int  # with what --prefer and --avoid add
    rss_bytes: int  # likewise, with --sort-by-rss
    oom_score_adj: int


def mem_percent(seen: MemInfo) -> float:
    """Available memory as a share of what user space has (MemAvailable + AnonPages) [percent]."""
    return seen.available * 100 / (seen.available + seen.anon)


def swap_percent(seen: MemInfo) -> float:
    """Free swap [percent]; 0 without swap, so that memory alone decides."""
    return seen.swap_free * 100 / seen.swap_total if seen.swap_total else 0.0


def sleep_ms(config: Earlyoom, seen: MemInfo) -> int:
    """Time to the next look (main.c, sleep_time_ms()) [ms].

    Worked example
    --------------
    16 GiB of user memory, half of it available, limit 10 %, no swap: 40 % of 16 GiB at
    6000 KiB a millisecond are 1118 ms, so 1000.
    """
    user = (seen.available + seen.anon) // KIB
    room = max(int((mem_percent(seen) - config.mem_term) * user / 100), 0)
    swap = max(int((swap_percent(seen) - config.swap_term) * (seen.swap_total // KIB) / 100), 0)
    ms = room // MEM_FILL_RATE + swap // SWAP_FILL_RATE
    return min(max(ms, MIN_SLEEP_MS), MAX_SLEEP_MS)


def largest(found: list[Victim], *, sort_by_rss: bool = False) -> list[Victim]:
    """Processes in the order of choice (kill.c, is_larger()); of equals the first seen.

    Worked example
    --------------
    oom_score and MiB: a 700, 100; b 710, 10; c 700, 300: b, c, a; by RSS: c, a, b.
    """
    if sort_by_rss:
        return sorted(found, key=lambda v: (-v.rss_bytes, -v.oom_score))
    return sorted(found, key=lambda v: (-v.oom_score, -v.rss_bytes))


class EarlyoomAgent(Agent):
    """The daemon."""

    name = "earlyoom"

    def __init__(self, config: Earlyoom, phase: float) -> None:
        """Begin its clock at a share (0 to 1) of its longest sleep."""
        self.config = config
        self.due_ns = 1 + int(phase * MAX_SLEEP_MS) * NS_PER_MS
        self.prefer = re.compile(config.prefer) if config.prefer else None
        self.avoid = re.compile(config.avoid) if config.avoid else None
        self.ignore = re.compile(config.ignore) if config.ignore else None
        self.victim: Victim | None = None
        self.killed = False  # whether the victim had SIGKILL already
        self.polls = 0
        self.nap_ms = MIN_SLEEP_MS

    def look(self, view: View, hands: Hands) -> None:
        """One turn of poll_loop(), or of kill_wait() while a victim is on its way."""
        seen = view.meminfo()
        if self.victim is not None and self._waits(view, hands, seen, self.victim):
            self.due_ns = view.now_ns + POLL_NS
            return
        signal = self._signal(seen)
        self.victim = self._choose(view, hands, seen, signal == "SIGKILL") if signal else None
        if self.victim is None:
            self._sleep(view, seen)
        else:
            self.due_ns = view.now_ns + POLL_NS

    def wake(self, view: View) -> None:
        """The way to the limit is half gone: the next look comes within a sleep of that length."""
        self.watch = Watch()
        self.due_ns = view.now_ns + self.nap_ms * NS_PER_MS

    def _signal(self, seen: MemInfo) -> str:
        """lowmem_sig()."""
        c, memory, swap = self.config, mem_percent(seen), swap_percent(seen)
        if memory <= c.mem_kill and swap <= c.swap_kill:
            return "SIGKILL"
        return "SIGTERM" if memory <= c.mem_term and swap <= c.swap_term else ""

    def _sleep(self, view: View, seen: MemInfo) -> None:
        """Sleep; where the limit is far, until half of the way to it is gone.

        All free pages and page cache less reserves are available, all others at most
        anonymous: so the percentage is above the limit while they are more than that share.
        """
        self.nap_ms = sleep_ms(self.config, seen)
        share = self.config.mem_term / 100
        limit = view.unavailable_pages() + int(share * (seen.total // PAGE_SIZE))
        room = view.takeable_pages() - limit
        if room > NEAR_PAGES:
            self.watch = Watch(WATCH_AVAILABLE, available=limit + room // 2)
            self.nap_ms = max(self.nap_ms // 2, MIN_SLEEP_MS)
            self.due_ns = NEVER_NS
            return
        self.due_ns = view.now_ns + self.nap_ms * NS_PER_MS

    # --- killing ------------------------------------------------------------------------

    def _waits(self, view: View, hands: Hands, seen: MemInfo, victim: Victim) -> bool:
        """kill_wait(): whether it goes on waiting; a SIGTERM becomes a SIGKILL."""
        self.polls += 1
        if not self.killed and self._signal(seen) == "SIGKILL":
            self.killed = True
            hands.kill(victim.proc)
        return view.exists(victim.proc) and self.polls < POLLS

    def _weighed(self, view: View) -> list[Victim]:
        """find_largest_process(): all that may be chosen, in the order of choice."""
        found = []
        for p, score in view.oom_scores().items():
            proc, name, rss = view.k.proc[p], view.comm(p), view.rss(p)
            if p == 0 or proc.state != PROC_LIVE or (self.ignore and self.ignore.search(name)):
                continue
            for pattern, points, size in (
                (self.prefer, PREFER, RSS_PREFER), (self.avoid, AVOID, RSS_AVOID)
            ):  # fmt: skip
                if pattern is not None and pattern.search(name):
                    rss, score = (
                        (rss + size, score) if self.config.sort_by_rss else (rss, score + points)
                    )
            full = view.machine.proc_names[p]
            found.append(Victim(full, p, score, rss, int(proc.oom_score_adj)))
        return largest(found, sort_by_rss=self.config.sort_by_rss)

    def _choose(self, view: View, hands: Hands, seen: MemInfo, kill: bool) -> Victim | None:
        """kill_process(): signal the largest process; None where there is none."""
        ranked = self._weighed(view)
        if not ranked:
            return None
        victim = ranked[0]
        self.killed, self.polls = kill, 0
        c = self.config
        detail: dict[str, Any] = {
            "agent": self.name,
            "signal": "SIGKILL" if kill else "SIGTERM",
            "memory_percent": mem_percent(seen),
            "swap_percent": swap_percent(seen),
            "memory_limit": c.mem_kill if kill else c.mem_term,
            "swap_limit": c.swap_kill if kill else c.swap_term,
            "MemAvailable_bytes": seen.available,
            "AnonPages_bytes": seen.anon,
            "SwapFree_bytes": seen.swap_free,
            "SwapTotal_bytes": seen.swap_total,
            "candidates": [
                {"name": v.name, "oom_score": v.oom_score, "rss_bytes": v.rss_bytes,
                 "oom_score_adj": v.oom_score_adj}
                for v in ranked[:LISTED]
            ],
            "ranked": len(ranked),
        }  # fmt: skip
        hands.tell("earlyoom_kill", victim.name, hands.path_of(victim.proc), detail)
        if kill:
            hands.kill(victim.proc)
        else:
            hands.terminate(victim.proc)
        return victim
