"""What is written to cgroup files and sysctls while a run goes on.

Here values are set; what a write does besides (reclaim, kill, wake who was paused) is put
into ``k.write`` for the engine (:mod:`capplan.sim.writes`).
"""

from __future__ import annotations

from typing import Any

from capplan.mm import state as s
from capplan.mm.page_counter import propagate_protected_usage
from capplan.mm.watermark import (
    calculate_totalreserve_pages,
    node_thresholds,
    setup_per_zone_wmarks,
    write_min_free_kbytes,
)
from capplan.sim.build import SYSCTLS, Machine
from capplan.sim.scenario import Change

__all__ = ["apply_change", "push_write"]

_LIMITS = {
    "memory.low": ("memory", "low"), "memory.min": ("memory", "min"),
    "memory.swap.max": ("swap", "max"), "memory.swap.high": ("swap", "high"),
}  # fmt: skip
_CAPS = {
    "memory.max": ("max", s.WRITE_MAX), "memory.high": ("high", s.WRITE_HIGH),
}  # fmt: skip
_V1_LIMITS = {
    "memory.limit_in_bytes": s.WRITE_V1_LIMIT, "memory.memsw.limit_in_bytes": s.WRITE_V1_MEMSW,
}  # fmt: skip
_FLAGS = {
    "memory.oom.group": "oom_group", "memory.oom_control": "oom_kill_disable",
    "memory.swappiness": "swappiness", "memory.zswap.writeback": "zswap_writeback",
    "memory.soft_limit_in_bytes": "soft_limit", "memory.zswap.max": "zswap_max",
}  # fmt: skip
_CENTISECS = {
    "vm.dirty_expire_centisecs": "dirty_expire_ns",
    "vm.dirty_writeback_centisecs": "dirty_writeback_ns",
}  # fmt: skip


def apply_change(machine: Machine, change: Change) -> None:
    """Write one value as the kernel does."""
    k = machine.kernel[0]
    if change.cgroup:
        _cgroup(k, machine.cgroup_index[change.cgroup.strip("/")], change.key, change.value)
    else:
        _sysctl(k, change.key, change.value)


def push_write(k: Any, kind: int, c: int, value: int) -> None:
    """Have the engine do, from now on, what writing ``value`` [pages] does in the kernel."""
    if (k.write["due_ns"][: int(k.nr_writes)] == s.NEVER_NS).all():
        k.nr_writes = 0
    if k.nr_writes >= s.MAX_WRITES:
        msg = f"more than {s.MAX_WRITES} writes to cgroup files are at work at once"
        raise ValueError(msg)
    write = k.write[int(k.nr_writes)]
    k.nr_writes += 1
    write.kind, write.memcg, write.value = kind, c, value
    write.done = write.drained = write.begun = 0
    write.retries = s.MAX_RECLAIM_RETRIES
    write.due_ns = k.now_ns
    k.write_due_ns = min(int(k.write_due_ns), int(k.now_ns))


def _cgroup(k: Any, c: int, key: str, value: int) -> None:
    memcg = k.memcg[c]
    pages = s.UNLIMITED if value < 0 else value
    if key in _CAPS:
        field, kind = _CAPS[key]
        lowered = pages < memcg.memory[field]
        memcg.memory[field] = pages
        if lowered:
            push_write(k, kind, c, pages)
    elif key in _V1_LIMITS:
        push_write(k, _V1_LIMITS[key], c, pages)
    elif key in _LIMITS:
        counter, field = _LIMITS[key]
        memcg[counter][field] = pages
        # the parent's sums: page_counter_set_min(), page_counter_set_low()
        getattr(propagate_protected_usage, "py_func", propagate_protected_usage)(k, c)
    elif key == "memory.reclaim":
        push_write(k, s.WRITE_RECLAIM, c, pages)
    elif key in _FLAGS:
        memcg[_FLAGS[key]] = pages
        if key == "memory.oom_control" and value == 0:
            push_write(k, s.WRITE_OOM_RECOVER, c, 0)
    else:
        msg = f"cgroup file '{key}' cannot be written during a run"
        raise ValueError(msg)


def _sysctl(k: Any, key: str, value: int) -> None:
    if key == "vm.min_free_kbytes":
        write_min_free_kbytes(k, value)
    elif key == "vm.nr_hugepages":
        push_write(k, s.WRITE_HUGEPAGES, 0, value)
        return
    elif key in _CENTISECS:
        k[_CENTISECS[key]] = value * 10 * s.NS_PER_MS
    elif key in SYSCTLS:
        k[SYSCTLS[key]] = value
        if key == "vm.compaction_proactiveness":  # a write has it looked at now
            k.proactive_due_ns = k.now_ns if value else s.NEVER_NS
        if key == "vm.watermark_scale_factor":
            setup_per_zone_wmarks(k)
    else:
        msg = f"sysctl '{key}' cannot be written during a run"
        raise ValueError(msg)
    calculate_totalreserve_pages(k)
    k.wake_mark = node_thresholds(k).wake_kswapd
    push_write(k, s.WRITE_REPLAN, 0, 0)
