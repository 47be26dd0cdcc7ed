"""Where in the kernel to look when a series is off."""

from __future__ import annotations

_HINTS = (
    ("meminfo_kb.MemFree", "mm/page_alloc.c: per-cpu lists, marks; mm/vmscan.c: balance_pgdat"),
    ("meminfo_kb.AnonPages", "mm/vmscan.c: get_scan_count, shrink_folio_list; mm/oom_kill.c"),
    ("meminfo_kb.Cached", "mm/vmscan.c: shrink_inactive_list; mm/workingset.c"),
    ("meminfo_kb.SwapFree", "mm/swapfile.c: get_swap_pages, swap_free"),
    ("meminfo_kb.Zswapped", "mm/zswap.c: zswap_store, zswap_load"),
    ("stat.anon", "mm/memcontrol.c: try_charge_memcg; mm/vmscan.c: get_scan_count"),
    ("stat.total_rss", "mm/memcontrol.c: try_charge_memcg; mm/vmscan.c: get_scan_count"),
    ("stat.file", "mm/vmscan.c: shrink_inactive_list; mm/workingset.c: workingset_refault"),
    ("stat.total_cache", "mm/vmscan.c: shrink_inactive_list; mm/workingset.c"),
    ("memory.swap.current", "mm/vmscan.c: get_scan_count; mm/memcontrol.c: charge of swap"),
    ("stat.total_swap", "mm/vmscan.c: get_scan_count; mm/memcontrol.c: memsw counter"),
    ("memory.zswap.current", "mm/zswap.c: zswap_store; lib/lzo stored length"),
    ("memory.current", "mm/memcontrol.c: try_charge_memcg, mem_cgroup_handle_over_high"),
    ("memory.usage_in_bytes", "mm/memcontrol.c: try_charge_memcg, mem_cgroup_oom"),
)  # fmt: skip


def hint_for(series: str) -> str:
    """Kernel functions behind a series, for the line that says it fails."""
    return next((hint for ending, hint in _HINTS if series.endswith(ending)), "no hint")
