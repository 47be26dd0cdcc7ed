"""Files of the memory controller, v1 and v2, as keys of groups and containers.

Both versions' keys are accepted by the model, so that a v2 key on a v1 node gets an error
that says what to write instead (:mod:`capplan.spec.check`) and not an unknown-key error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from capplan.spec.agents import ManagedOOM
from capplan.spec.common import Bytes, Duration, Limit, Model, problem

CgroupVersion = Literal["v1", "v2"]


def ancestry(path: str) -> list[str]:
    """``a/b/c`` as ``[a/b/c, a/b, a]``: a cgroup and its ancestors below the root."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]


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


def parse_mems(value: Any) -> Any:
    """A list of nodes as the kernel writes it: ``0-1,3`` (bitmap_parselist)."""
    if isinstance(value, list | tuple):
        return tuple(value)
    found: list[int] = []
    for part in str(value).split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last or first)
        if not all(end.isdecimal() and int(end) < MAX_NODE for end in ends) or (dash and not last):
            raise problem("mems", f"'{value}' is not a list of NUMA nodes", "0, or 0-1,3")
        found += range(int(ends[0]), int(ends[1]) + 1)
    return tuple(dict.fromkeys(found))


MAX_NODE = 1024  # NODES_SHIFT is at most 10
Mems = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=MAX_NODE)], ...],
    Field(min_length=1),
    BeforeValidator(parse_mems),
]
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

    cpuset_mems: Annotated[Mems | None, Field(alias="cpuset.mems")] = None
    """NUMA nodes that its memory may come from, such as ``0`` or ``0-1,3``. Left out: all. When
    they are full, the OOM killer chooses among those who may use one of them."""

    def written(self) -> dict[str, int | bool]:
        """Return the cgroup files that are set, by the kernel's names (sizes in bytes)."""
        found: dict[str, int | bool] = {}
        for name in CgroupFiles.model_fields:
            if name == "cpuset_mems":
                continue  # no file of the memory controller
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


MEMORY_FILES = tuple(file_name(name) for name in CgroupFiles.model_fields if name != "cpuset_mems")
"""Files of the memory controller of both versions, v2's first."""


def _names(v1: bool) -> frozenset[str]:
    first_v1 = MEMORY_FILES.index("memory.limit_in_bytes")
    return frozenset(MEMORY_FILES[first_v1:] if v1 else MEMORY_FILES[:first_v1])


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


Parts = Annotated[tuple[Bytes, ...], Field(min_length=2, max_length=4)]  # MAX_NR_GENS


class LruLists(Model):
    """What a group's own LRU lists held, the oldest pages first."""

    anon: Parts
    """Of the inactive and the active list; with ``age``, of each generation of multi-gen LRU."""
    file: Parts
    age: tuple[Duration, ...] = ()
    """How long ago each generation was begun."""

    @model_validator(mode="after")
    def _alike(self) -> LruLists:
        if len(self.anon) != len(self.file) or (self.age and len(self.age) != len(self.anon)):
            raise problem("file", "anon, file and age differ in length", "one value for each list")
        if not self.age and len(self.anon) != 2:
            raise problem("anon", "generations have an age", "two values, or age beside them")
        return self


class Cgroup(Model):
    """The node's control groups."""

    version: CgroupVersion = "v2"
    groups: dict[str, Group] = Field(default_factory=dict)
    """Keyed by path below the root: ``kubepods.slice`` or ``kubepods.slice/burstable``."""
    lru: dict[str, LruLists] = Field(default_factory=dict)
    """How old what was captured is, by group (``/`` is the root): where its pages start on the
    lists. Left out: where the kernel puts pages that are new. Of a captured warm start only."""


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
