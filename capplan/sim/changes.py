"""What is written to cgroup files and sysctls while a run goes on."""

from __future__ import annotations

from typing import Any

from capplan.mm import state as s
from capplan.mm.watermark import (
    calculate_totalreserve_pages,
    node_thresholds,
    setup_per_zone_wmarks,
    write_min_free_kbytes,
)
from capplan.sim.build import SYSCTLS, Machine
from capplan.sim.scenario import Change

__all__ = ["apply_change"]

_LIMITS = {
    "memory.max": ("memory", "max"), "memory.limit_in_bytes": ("memory", "max"),
    "memory.high": ("memory", "high"), "memory.low": ("memory", "low"),
    "memory.min": ("memory", "min"), "memory.swap.max": ("swap", "max"),
    "memory.swap.high": ("swap", "high"), "memory.memsw.limit_in_bytes": ("memsw", "max"),
}  # fmt: skip
_FLAGS = {
    "memory.oom.group": "oom_group", "memory.oom_control": "oom_kill_disable",
    "memory.swappiness": "swappiness", "memory.zswap.writeback": "zswap_writeback",
    "memory.soft_limit_in_bytes": "soft_limit", "memory.zswap.max": "zswap_max",
}  # fmt: skip


def apply_change(machine: Machine, change: Change) -> None:
    """Write one value as the kernel does; a cgroup's limit takes effect at its next charge.

    Departs from the kernel: writing memory.max or memory.high below the usage reclaims at the
    group's next charge, not in the writer's context.
    """
    k = machine.kernel[0]
    if change.cgroup:
        _cgroup(k, machine.cgroup_index[change.cgroup.strip("/")], change.key, change.value)
    else:
        _sysctl(k, change.key, change.value)


def _cgroup(k: Any, c: int, key: str, value: int) -> None:
    memcg = k.memcg[c]
    if key in _LIMITS:
        counter, field = _LIMITS[key]
        memcg[counter][field] = s.UNLIMITED if value < 0 else value
    elif key in _FLAGS:
        memcg[_FLAGS[key]] = s.UNLIMITED if value < 0 else value
    else:
        msg = f"cgroup file '{key}' cannot be written during a run"
        raise ValueError(msg)


def _sysctl(k: Any, key: str, value: int) -> None:
    if key == "vm.min_free_kbytes":
        write_min_free_kbytes(k, value)
    elif key in SYSCTLS:
        k[SYSCTLS[key]] = value
        if key == "vm.watermark_scale_factor":
            setup_per_zone_wmarks(k)
    else:
        msg = f"sysctl '{key}' cannot be written during a run"
        raise ValueError(msg)
    calculate_totalreserve_pages(k)
    k.wake_mark = node_thresholds(k).wake_kswapd
