"""Files of the memory controller, v1 and v2, as keys of groups and containers.

Both versions' keys are accepted by the model, so that a v2 key on a v1 node gets an error
that says what to write instead (:mod:`capplan.spec.check`) and not an unknown-key error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from capplan.spec.agents import ManagedOOM
from capplan.spec.common import Bytes, Limit, Model

CgroupVersion = Literal["v1", "v2"]


class OomControl(Model):
    """cgroup v1's ``memory.oom_control``."""

    oom_kill_disable: bool
    """1: a task whose page fault finds no memory pauses until there is some; 0: it is killed
    (the kernel's default)."""


def _flag(value: Any) -> Any:
    """Kernel files hold 0 and 1; YAML people write true and false."""
    return bool(value) if value in (0, 1) and not isinstance(value, bool) else value


def _oom_control(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _flag(v) for k, v in value.items()}
    return value if isinstance(value, OomControl) else {"oom_kill_disable": _flag(value)}


Flag = Annotated[bool, BeforeValidator(_flag)]


class CgroupFiles(Model):
    """What may be written to a group's files. A key left out is not written."""

    memory_max: Annotated[Limit | None, Field(alias="memory.max")] = None
    """Hard limit; with nothing left to reclaim, a task is killed."""
    memory_high: Annotated[Limit | None, Field(alias="memory.high")] = None
    """Above it tasks are throttled and reclaimed from, never killed."""
    memory_low: Annotated[Limit | None, Field(alias="memory.low")] = None
    """Protected from reclaim as long as others can be reclaimed."""
    memory_min: Annotated[Limit | None, Field(alias="memory.min")] = None
    """Protected from reclaim in any case."""
    memory_swap_max: Annotated[Limit | None, Field(alias="memory.swap.max")] = None
    """Most swap the group may use; 0 forbids it."""
    memory_swap_high: Annotated[Limit | None, Field(alias="memory.swap.high")] = None
    """Above it tasks are throttled when they allocate."""
    memory_zswap_max: Annotated[Limit | None, Field(alias="memory.zswap.max")] = None
    """Most compressed bytes the group may hold in the zswap pool."""
    memory_zswap_writeback: Annotated[Flag | None, Field(alias="memory.zswap.writeback")] = None
    """false: pages that zswap rejects stay in memory and are not written to the swap device."""
    memory_oom_group: Annotated[Flag | None, Field(alias="memory.oom.group")] = None
    """A kill takes all processes of the group."""

    memory_limit_in_bytes: Annotated[Limit | None, Field(alias="memory.limit_in_bytes")] = None
    """v1: hard limit."""
    memory_memsw_limit_in_bytes: Annotated[
        Limit | None, Field(alias="memory.memsw.limit_in_bytes")
    ] = None
    """v1: limit of memory and swap together."""
    memory_soft_limit_in_bytes: Annotated[
        Limit | None, Field(alias="memory.soft_limit_in_bytes")
    ] = None
    """v1: reclaimed down to it first when the node is short (classic LRU only)."""
    memory_swappiness: Annotated[
        Annotated[int, Field(ge=0, le=200)] | None, Field(alias="memory.swappiness")
    ] = None
    """v1: the group's own vm.swappiness."""
    memory_oom_control: Annotated[
        Annotated[OomControl, BeforeValidator(_oom_control)] | None,
        Field(alias="memory.oom_control"),
    ] = None
    """v1: 1 pauses instead of killing (oom_kill_disable); 0 kills. Left out: pauses, and the
    verdict says that this is assumed."""

    def written(self) -> dict[str, int | bool]:
        """Return the cgroup files that are set, by the kernel's names (sizes in bytes)."""
        found: dict[str, int | bool] = {}
        for name in CgroupFiles.model_fields:
            value = getattr(self, name)
            if isinstance(value, OomControl):
                found[file_name(name)] = value.oom_kill_disable
            elif value is not None:
                found[file_name(name)] = value
        return found


def file_name(field: str) -> str:
    """Return the cgroup file a field stands for: ``memory_swap_max`` is ``memory.swap.max``."""
    alias = CgroupFiles.model_fields[field].alias
    return alias if alias is not None else field


def _names(v1: bool) -> frozenset[str]:
    first_v1 = list(CgroupFiles.model_fields).index("memory_limit_in_bytes")
    fields = list(CgroupFiles.model_fields)
    return frozenset(map(file_name, fields[first_v1:] if v1 else fields[:first_v1]))


V1_FILES = _names(v1=True)
"""Keys that only a v1 node has."""
V2_FILES = _names(v1=False)
"""Keys that only a v2 node has."""

COUNTERPART = {
    "memory.max": "memory.limit_in_bytes",
    "memory.limit_in_bytes": "memory.max",
    "memory.high": "memory.soft_limit_in_bytes",
    "memory.soft_limit_in_bytes": "memory.high",
    "memory.swap.max": "memory.memsw.limit_in_bytes",
    "memory.memsw.limit_in_bytes": "memory.swap.max",
    "memory.swappiness": "node.sysctl.vm.swappiness",
}
"""The nearest key of the other version. memsw counts memory and swap together; swap.max
counts swap alone. memory.high throttles, soft_limit does not."""


class Group(CgroupFiles, ManagedOOM):
    """A control group between the root and the containers."""

    slab_reclaimable: Bytes | None = None
    """Reclaimable slab (dentries, inodes) charged to the group at t0 of a warm start; beside
    ``node.system.slab_reclaimable``, which nobody is charged for."""


class Cgroup(Model):
    """The node's control groups."""

    version: CgroupVersion = "v2"
    groups: dict[str, Group] = Field(default_factory=dict)
    """Keyed by path below the root: ``kubepods.slice`` or ``kubepods.slice/burstable``."""


__all__ = [
    "COUNTERPART",
    "V1_FILES",
    "V2_FILES",
    "Cgroup",
    "CgroupFiles",
    "CgroupVersion",
    "Group",
    "OomControl",
    "file_name",
]
