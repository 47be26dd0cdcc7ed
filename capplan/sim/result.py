"""What a run leaves: events, series under the kernel's own names, and totals.

Series names are those of the files they mirror, so that a recording and a run can be laid
over each other: ``t`` [s], ``meminfo_kb.MemFree``, ``vmstat.pgscan_kswapd`` (cumulative),
``psi.memory.some.total_us``, ``zone.DMA32.free`` [pages], ``cgroup.<path>.memory.current``
[bytes], ``cgroup.<path>.stat.anon`` [bytes], ``cgroup.<path>.events.max``,
``cgroup.<path>.psi.some`` [us], ``process.<name>.rss_pages``. A name with ``|min`` or
``|max`` behind it is the bin's extreme; without, the value at the bin's end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd

    from capplan.sim.scenario import Scenario


@dataclass(slots=True)  # not frozen: one takes four times as long to make, and runs have 30,000
class Event:
    """Something that happened, at run time ``t`` [s].

    ``event`` is one of start, exit, oom_kill, paused, resumed, throttle_begin,
    throttle_end, oom_no_victim, panic, enomem, kswapd_wake, kswapd_sleep, direct_reclaim,
    swap_full, zswap_full, restart, write_failed; and of agents (:mod:`capplan.sim.agents`)
    evicted, oomd_kill, earlyoom_kill, memory_pressure_begin, memory_pressure_end,
    admission_rejected, vpa_recommendation, vpa_update, vpa_pending, hpa_scale,
    hpa_pending. ``name`` is the process (or the cgroup
    where no process is meant). ``detail`` holds, for oom_kill: scope (memcg or global),
    oom_cgroup, trigger, anon_rss_kb, file_rss_kb, shmem_rss_kb, swap_kb, pgtables_kb,
    oom_score_adj, points, totalpages, constraint; for write_failed: errno, key, pages,
    reclaimed; for oom_no_victim (at most one a second and group): oom_cgroup, repeats
    (how often it happened since the last one told); for exit: how (code or signal) and
    value; for evicted, oomd_kill and the like: agent, what it saw, which limit, candidates
    (the ranking's first); for direct_reclaim, paused and the like: free and marks at that
    moment [pages].
    """

    t: float
    event: str
    name: str
    cgroup: str = ""
    scope: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskTotals:
    """A process's lot over the run [seconds unless named otherwise]."""

    process: str
    container: str
    cgroup: str
    late_s: float  # behind its schedule at the end
    late_max_s: float
    stall_s: float  # memory stalls (reclaim, swap-in of workingset, throttle)
    throttle_s: float  # memory.high penalty
    pause_s: float  # v1 OOM wait
    io_s: float
    majfaults: int
    state: str  # live, exited, killed, evicted, paused, unborn
    restarts: int


@dataclass(frozen=True)
class Run:
    """A finished simulation."""

    scenario: Scenario
    events: tuple[Event, ...]
    series: Mapping[str, np.ndarray[Any, Any]]
    totals: tuple[TaskTotals, ...]
    wmarks: dict[str, tuple[int, int, int]]  # zone -> min, low, high [pages]
    version: str
    seed: int
    granule_pages: int
    wall_s: float

    @property
    def timeseries(self) -> pd.DataFrame:
        """All series as a DataFrame indexed by t [s]."""
        import pandas as pd

        frame = pd.DataFrame({k: v for k, v in self.series.items() if k != "t"})
        frame.index = pd.Index(self.series["t"], name="t")
        return frame
