"""The memory controller's tree of control groups: v1, v2, and hybrid (v1 memory beside a v2 tree).

Only the standard library, like :mod:`capplan.sources.procfs`. A group that vanishes while it
is read is left out.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from capplan.sources.procfs import Host, number, parse_pairs

__all__ = ["Group", "Tree", "find_tree", "group_paths", "own", "read_group"]

MAX_GROUPS = 1000  # the engine's table has 1024 (capplan/mm/constants.py, MAX_MEMCGS)
MAX_DEPTH = 32
UNLIMITED = -1
V1_UNLIMITED = 1 << 62  # v1 prints PAGE_COUNTER_MAX: 2**63 - 4096, less on 32 bits
LIMITS = {
    "v1": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"),
    "v2": (
        "memory.max", "memory.high", "memory.low", "memory.min", "memory.swap.max",
        "memory.swap.high", "memory.zswap.max",
    ),
}  # fmt: skip
DEFAULTS = {"memory.low": 0, "memory.min": 0}
USAGE = {"v1": "memory.usage_in_bytes", "v2": "memory.current"}
_KEYS = {  # what is counted -> memory.stat's key, v1 and v2
    "anon": ("rss", "anon"),
    "file": ("cache", "file"),
    "shmem": ("shmem", "shmem"),
    "mapped": ("mapped_file", "file_mapped"),
    "swap": ("swap", ""),
    "slab_reclaimable": ("", "slab_reclaimable"),
    "active_file": ("active_file", "active_file"),
    "inactive_file": ("inactive_file", "inactive_file"),
    "active_anon": ("active_anon", "active_anon"),
    "inactive_anon": ("inactive_anon", "inactive_anon"),
    "zswapped": ("", "zswapped"),
    "refault_file": ("workingset_refault_file", "workingset_refault_file"),  # pages
}


@dataclass(frozen=True)
class Tree:
    """Where the memory controller is.

    Attributes
    ----------
    version : str
        ``v1`` or ``v2``.
    top : str
        Folder of the root group.
    hybrid : bool
        A v2 tree without the memory controller is mounted too.
    """

    version: str
    top: str
    hybrid: bool = False


@dataclass
class Group:
    """One group; sizes in bytes.

    Attributes
    ----------
    path
        Below the root group, which is "".
    usage
        Charged to it and all below it.
    own
        By what is counted (anon, file, shmem, ...): charged to it alone once
        :func:`own` has taken off what is below.
    limits
        Limit files that differ from the kernel's default.
    """

    path: str
    usage: int = 0
    own: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    stat: dict[str, int] = field(default_factory=dict)
    hierarchical: bool = True  # stat holds what is below too


def find_tree(host: Host) -> Tree | None:
    """Find the memory controller's hierarchy; None where it is not mounted."""
    v1 = v2 = ""
    for line in host.read("proc/mounts", 1 << 20).splitlines():
        parts = line.split()
        if len(parts) < 4:
            continue
        where = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), parts[1])
        if parts[2] == "cgroup2":
            v2 = v2 or where
        elif parts[2] == "cgroup" and "memory" in parts[3].split(","):
            v1 = v1 or where
    if not v1 and host.exists("sys/fs/cgroup/memory/memory.stat"):
        v1 = "/sys/fs/cgroup/memory"
    if not v2 and host.exists("sys/fs/cgroup/cgroup.controllers"):
        v2 = "/sys/fs/cgroup"
    if v1 and host.exists(f"{v1}/memory.stat"):
        return Tree("v1", v1, hybrid=bool(v2))
    if v2 and host.exists(f"{v2}/cgroup.controllers"):
        return Tree("v2", v2)
    return None


def group_paths(host: Host, tree: Tree, limit: int = MAX_GROUPS) -> list[str]:
    """Paths of all groups below the root, parents before children, at most ``limit``."""
    found: list[str] = []
    queue = [""]
    while queue and len(found) < limit:
        path = queue.pop(0)
        below = f"{path}/" if path else ""
        try:
            with os.scandir(host.path(f"{tree.top}/{path}")) as entries:
                names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:
            continue
        for name in names:
            if below.count("/") < MAX_DEPTH and name.isprintable():
                found.append(below + name)
                queue.append(below + name)
    return found[:limit]


def read_group(host: Host, tree: Tree, path: str) -> Group | None:
    """Read one group; None if it is gone or has no memory controller."""
    folder = f"{tree.top}/{path}".rstrip("/")
    stat = parse_pairs(host.read(f"{folder}/memory.stat", 1 << 16))
    usage = host.number(f"{folder}/{USAGE[tree.version]}")
    if not stat or (usage is None and path):
        return None
    v2 = tree.version == "v2"
    group = Group(path, usage or 0, stat=stat, hierarchical=v2)
    group.own = {name: stat.get(keys[v2], 0) for name, keys in _KEYS.items()}
    if v2:
        group.own["swap"] = host.number(f"{folder}/memory.swap.current") or 0
    group.limits = _limits(host, tree, folder) if path else {}
    return group


def _limits(host: Host, tree: Tree, folder: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in LIMITS[tree.version]:
        text = host.read(f"{folder}/{name}", 64).strip()
        value = UNLIMITED if text == "max" else number(text)
        if value is None or value >= V1_UNLIMITED:
            continue
        if value != DEFAULTS.get(name, UNLIMITED):
            found[name] = value
    if tree.version == "v1":
        control = parse_pairs(host.read(f"{folder}/memory.oom_control", 256))
        found["memory.oom_control"] = control.get("oom_kill_disable", 0)
        swappiness = host.number(f"{folder}/memory.swappiness")
        if swappiness is not None:
            found["memory.swappiness"] = swappiness
    else:
        if host.number(f"{folder}/memory.oom.group"):
            found["memory.oom.group"] = 1
        if host.number(f"{folder}/memory.zswap.writeback") == 0:
            found["memory.zswap.writeback"] = 0
    return found


def own(groups: dict[str, Group]) -> None:
    """Take what is charged below off each group, and set ``own["usage"]``.

    memory.stat of v2 and the usage of both versions count what is below; v1's plain keys do
    not. Files are read one after the other, so a difference may be negative: it counts as 0.
    """
    below: dict[str, dict[str, int]] = {}
    whole = {path: dict(group.own, usage=group.usage) for path, group in groups.items()}
    for path in groups:
        if path:
            parent = path.rpartition("/")[0]
            sums = below.setdefault(parent, {})
            for name, value in whole[path].items():
                sums[name] = sums.get(name, 0) + value
    for path, group in groups.items():
        sums = below.get(path, {})
        group.own["usage"] = max(group.usage - sums.get("usage", 0), 0)
        if group.hierarchical:
            for name in group.own.keys() - {"usage"}:
                group.own[name] = max(group.own[name] - sums.get(name, 0), 0)
