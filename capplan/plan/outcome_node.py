"""The node: free memory against the marks, reclaim, swap, zswap, fragmentation, PSI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.plan.fragmentation import available_shares, most_unusable
from capplan.plan.outcome_context import Context
from capplan.plan.outcome_model import NodeOutcome, ZoneOutcome
from capplan.plan.outcome_series import PAGE_SIZE, Array

if TYPE_CHECKING:
    from capplan.plan.outcome_series import Series

KIB = 1024
HUGE = 9  # order of a block of 2 MiB


def node(context: Context) -> NodeOutcome:
    """What became of the node."""
    series = context.series
    available = series.extreme("meminfo_kb.MemAvailable", "min")
    some = series.get("psi.memory.some.total_us")
    peak = _peak(series, series.average10(some))
    return NodeOutcome(
        memory_bytes=context.memory,
        zones=tuple(_zone(context, name, marks) for name, marks in context.run.wmarks.items()),
        lowest_available_bytes=None if available is None else int(available[0]) * KIB,
        lowest_available_t=None if available is None else available[1],
        **_reclaim(context),
        **_swap(context),
        psi_some_share=_psi(context, some),
        psi_full_share=_psi(context, series.get("psi.memory.full.total_us")),
        psi_some_peak=peak[0],
        psi_some_peak_t=peak[1],
        majfaults=int(series.increase(series.get("vmstat.pgmajfault"))),
        compact_stalls=int(series.increase(series.get("vmstat.compact_stall"))),
        least_huge_blocks=_huge_blocks(context),
        order_available=available_shares(series, context.run.wmarks),
        order9_unusable=most_unusable(series, context.run.wmarks, HUGE),
    )


def _zone(context: Context, name: str, marks: tuple[int, int, int]) -> ZoneOutcome:
    lowest = context.series.extreme(f"zone.{name}.free", "min")
    zones = context.scenario.node.zones
    managed = sum(z.managed for z in zones if context.zone_name(z) == name)
    low_min, low_low, low_high = marks
    return ZoneOutcome(
        name=name,
        managed_bytes=managed * PAGE_SIZE,
        lowest_free_bytes=None if lowest is None else int(lowest[0]) * PAGE_SIZE,
        lowest_t=None if lowest is None else lowest[1],
        min_bytes=low_min * PAGE_SIZE,
        low_bytes=low_low * PAGE_SIZE,
        high_bytes=low_high * PAGE_SIZE,
        where="not recorded" if lowest is None else against(lowest[0], marks),
    )


def against(free: float, marks: tuple[int, int, int]) -> str:
    """Where ``free`` pages stand against min, low and high, in words."""
    least, low, high = marks
    if free <= least:
        return "below min"
    if free <= low:
        return "between min and low"
    return "between low and high" if free <= high else "above high"


def _reclaim(context: Context) -> dict[str, Any]:
    series = context.series

    def pages(name: str) -> int:
        return int(series.increase(series.get(f"vmstat.{name}"))) * PAGE_SIZE

    wakes = sum(1 for _ in context.events("kswapd_wake"))
    return {
        "kswapd_wakes": wakes,
        "kswapd_awake_s": _awake(context),
        "kswapd_scanned_bytes": pages("pgscan_kswapd"),
        "kswapd_reclaimed_bytes": pages("pgsteal_kswapd"),
        "direct_stalls": int(series.increase(series.allocstall)),
        "direct_scanned_bytes": pages("pgscan_direct"),
        "direct_reclaimed_bytes": pages("pgsteal_direct"),
        "refault_bytes": pages("workingset_refault_anon") + pages("workingset_refault_file"),
    }


def _awake(context: Context) -> float:
    """How long kswapd was awake [s]: by its events, else by the samples in which it scanned."""
    since, awake, seen = None, 0.0, False
    for event in context.events("kswapd_wake", "kswapd_sleep"):
        seen = True
        if event.event == "kswapd_wake":
            since = event.t if since is None else since
        elif since is not None:
            awake += event.t - since
            since = None
    if seen:
        return awake + (context.duration - since if since is not None else 0.0)
    series = context.series
    steps = np.diff(series.t, prepend=series.t[:1])
    return float(steps[series.rises(series.get("vmstat.pgscan_kswapd"))].sum())


def _swap(context: Context) -> dict[str, int]:
    series = context.series
    total, free = series.get("meminfo_kb.SwapTotal"), series.get("meminfo_kb.SwapFree")
    used = 0 if total is None or free is None else int(np.nanmax(total - free)) * KIB

    def highest(name: str) -> int:
        found = series.extreme(name, "max")
        return 0 if found is None else int(found[0]) * KIB

    zram = series.extreme("zram.mem_used_total", "max")
    return {
        "swap_total_bytes": context.swap_total,
        "swap_peak_bytes": used,
        "swap_in_bytes": int(series.increase(series.get("vmstat.pswpin"))) * PAGE_SIZE,
        "swap_out_bytes": int(series.increase(series.get("vmstat.pswpout"))) * PAGE_SIZE,
        "zswap_peak_bytes": highest("meminfo_kb.Zswap"),
        "zswapped_peak_bytes": highest("meminfo_kb.Zswapped"),
        "zram_peak_bytes": 0 if zram is None else int(zram[0]),
        "zswap_full": sum(1 for _ in context.events("zswap_full")),
    }


def _psi(context: Context, total_us: Array | None) -> float:
    """Share of the run, from the first sample to the last."""
    span = float(context.series.t[-1] - context.series.t[0])
    return min(context.series.increase(total_us) / (span * 1e6), 1.0) if span > 0 else 0.0


def _peak(series: Series, average: Array | None) -> tuple[float, float | None]:
    if average is None or not average.any():
        return 0.0, None
    index = int(np.argmax(average))
    return float(average[index]), float(series.t[index])


def _huge_blocks(context: Context) -> dict[str, int]:
    """Per zone the least free blocks of 2 MiB (order 9 and above) at any sample."""
    least = {}
    for name in context.run.wmarks:
        ninth = context.series.get(f"zone.{name}.order9")
        tenth = context.series.get(f"zone.{name}.order10")
        if ninth is not None and tenth is not None:
            least[name] = int(np.nanmin(ninth + 2 * tenth))
    return least
