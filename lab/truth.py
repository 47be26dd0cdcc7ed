"""From a trace to a recording's files: ``boot`` of scenario.json, and a truth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lab import trace as t
from lab.plan import CGROUPS, ZRAM_NODE
from lab.scenario import Scenario
from lab.trace import Trace

BOOT_MEMINFO = (
    "MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "Active(anon)", "Inactive(anon)",
    "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "SwapTotal", "SwapFree", "Zswap",
    "Zswapped", "Dirty", "Writeback", "AnonPages", "Shmem", "SReclaimable", "SUnreclaim",
    "PageTables", "KernelStack", "Percpu",
)  # fmt: skip
MEMINFO = (*BOOT_MEMINFO, "Mapped", "AnonHugePages", "HugePages_Total", "HugePages_Free")
VMSTAT = (
    "pswpin", "pswpout", "pgscan_kswapd", "pgscan_direct", "pgsteal_kswapd", "pgsteal_direct",
    "pgscan_khugepaged", "allocstall_normal", "allocstall_dma32", "allocstall_movable",
    "workingset_refault_anon", "workingset_refault_file", "workingset_activate_file",
    "workingset_activate_anon", "pgmajfault", "pgfault", "oom_kill", "slabs_scanned",
    "kswapd_low_wmark_hit_quickly", "kswapd_high_wmark_hit_quickly", "pageoutrun", "zswpin",
    "zswpout", "zswpwb", "compact_stall", "compact_fail", "compact_success",
    "compact_migrate_scanned", "compact_free_scanned", "compact_daemon_wake",
    "pgmigrate_success", "thp_fault_alloc", "thp_fault_fallback", "thp_collapse_alloc",
    "thp_split_page", "thp_split_pmd", "thp_swpout", "thp_swpout_fallback", "numa_hit",
    "numa_miss", "numa_foreign", "pgactivate", "pgdeactivate", "drop_slab",
)  # fmt: skip
STAT = (
    "anon", "file", "shmem", "kernel", "slab_reclaimable", "slab_unreclaimable", "pagetables",
    "anon_thp", "file_mapped", "file_dirty", "file_writeback", "inactive_anon", "active_anon",
    "inactive_file", "active_file", "zswap", "zswapped", "pgscan", "pgsteal",
    "workingset_refault_file", "workingset_refault_anon", "pgmajfault", "total_rss",
    "total_cache", "total_swap", "cache", "rss", "swap",
)  # fmt: skip
NUMBER_FILES = (
    "memory.current", "memory.swap.current", "memory.zswap.current", "memory.usage_in_bytes",
    "memory.memsw.usage_in_bytes", "memory.failcnt",
)  # fmt: skip
MM_STAT = ("orig_data_bytes", "compr_data_bytes", "mem_used_bytes")
OOM_LINES = re.compile(r"invoked oom-killer|^oom-kill:|Killed process")
KILLED = re.compile(r"Killed process (\d+) \((\w+)\).*? anon-rss:(\d+)kB")


def boot_of(trace: Trace, scenario: Scenario) -> dict[str, Any]:
    """The node just before t = 0."""
    boot = trace.boot
    zones = t.zones(boot["/proc/zoneinfo"])
    nodes = len({zone["node"] for zone in zones})
    counts = t.buddyinfo(boot["/proc/buddyinfo"])
    meminfo = t.pairs(boot["/proc/meminfo"])
    found: dict[str, Any] = {
        "kernel": boot["/proc/version"].split()[2],
        "zones": zones,
        "buddyinfo": {
            t.zone_label(zone["node"], zone["zone"], nodes): counts[zone["node"], zone["zone"]]
            for zone in zones
        },
        "min_free_kbytes": int(boot["/proc/sys/vm/min_free_kbytes"]),
        "swappiness": int(boot["/proc/sys/vm/swappiness"]),
        "lru_gen_enabled": boot.get("/sys/kernel/mm/lru_gen/enabled", "0x0000").strip(),
        "overcommit_memory": int(boot["/proc/sys/vm/overcommit_memory"]),
        "thp_for_process_memory": scenario.thp == "always",
        "meminfo_kb": {name: meminfo[name] for name in BOOT_MEMINFO if name in meminfo},
    }
    if scenario.zram is not None:
        chosen = re.search(r"\[([\w-]+)\]", boot[f"/sys/block/{ZRAM_NODE}/comp_algorithm"])
        found["zram_comp_algorithm"] = chosen[1] if chosen else ""
    return found


def truth_of(trace: Trace) -> dict[str, Any]:
    """A truth file's content."""
    log = [(at, line) for at, line in trace.kernel_log if OOM_LINES.search(line)]
    return {
        "end_s": round(trace.end_s, 3),
        "events": sorted(_events(trace, log), key=lambda event: float(event["t"])),
        "kernel_log": [{"t": round(at, 3), "msg": line} for at, line in log],
        "series": _series(trace),
    }


def _events(trace: Trace, log: list[tuple[float, str]]) -> Iterator[dict[str, Any]]:
    for at, words in trace.events:
        event: dict[str, Any] = {"t": round(at, 3), "event": words[0]}
        if words[0] == "start":
            yield event | {"name": words[1], "pid": int(words[2])}
        elif words[0] == "exit":
            yield event | {"name": words[1], "how": words[2], "value": int(words[3])}
        elif words[0] == "changed":
            yield event | {"name": words[1], "errno": int(words[2])}
    for at, line in log:
        if killed := KILLED.search(line):
            yield {
                "t": round(at, 3),
                "event": "oom_kill",
                "name": killed[2],
                "pid": int(killed[1]),
                "anon_rss_kb": int(killed[3]),
                "scope": "memcg" if line.startswith("Memory cgroup") else "global",
            }


def _series(trace: Trace) -> dict[str, list[float | None]]:
    """All series, of one length; None where a sample lacks a value. Those of only nought go."""
    rows = [_row(files, statm) for _, files, statm in trace.samples]
    names = list(dict.fromkeys(name for row in rows for name in row))
    series: dict[str, list[float | None]] = {"t": [round(at, 3) for at, _, _ in trace.samples]}
    for name in names:
        values = [row.get(name) for row in rows]
        if any(values) or not name.startswith("vmstat."):
            series[name] = values
    return series


def _row(files: dict[str, str], statm: dict[str, str]) -> dict[str, float]:
    row: dict[str, float] = {}
    for path, text in files.items():
        if path.startswith(f"{CGROUPS}/"):
            group, _, name = path.removeprefix(f"{CGROUPS}/").rpartition("/")
            row |= {f"cgroup.{group}.{key}": value for key, value in _cgroup(name, text)}
        else:
            row |= dict(_node(path, text))
    for name, text in statm.items():
        row[f"process.{name}.rss_pages"] = int(text.split()[1])
    return row


def _node(path: str, text: str) -> Iterator[tuple[str, float]]:
    if path == "/proc/meminfo":
        yield from _chosen("meminfo_kb.", t.pairs(text), MEMINFO)
    elif path == "/proc/vmstat":
        yield from _chosen("vmstat.", t.pairs(text), VMSTAT)
    elif path == "/proc/pressure/memory":
        for name, total in t.pressure(text).items():
            yield f"psi.memory.{name}.total_us", total
    elif path == "/proc/zoneinfo":
        zones = t.zones(text)
        nodes = len({zone["node"] for zone in zones})
        for zone in zones:
            yield f"zone.{t.zone_label(zone['node'], zone['zone'], nodes)}.free", zone["free"]
    elif path.endswith("/mm_stat"):
        for name, value in zip(MM_STAT, text.split(), strict=False):
            yield f"zram.{name}", int(value)


def _chosen(
    head: str, values: dict[str, int], names: tuple[str, ...]
) -> Iterator[tuple[str, float]]:
    yield from ((head + name, values[name]) for name in names if name in values)


def _cgroup(name: str, text: str) -> Iterator[tuple[str, float]]:
    if name in NUMBER_FILES:
        yield name, int(text)
    elif name == "memory.stat":
        yield from _chosen("stat.", t.pairs(text), STAT)
    elif name == "memory.pressure":
        yield from ((f"psi.{kind}", total) for kind, total in t.pressure(text).items())
    elif name == "memory.swap.events":
        yield from ((f"swap_events.{key}", value) for key, value in t.pairs(text).items())
    else:  # memory.events, v1's memory.oom_control
        yield from ((f"events.{key}", value) for key, value in t.pairs(text).items())
