"""A snapshot of a Linux host as a node file whose simulation starts from that very state.

Needs no privileges; with them smaps_rollup (PSS) and pagetypeinfo can be read too. ``root``
reads a copied tree (``proc``, ``sys``) instead of this host.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from capplan.errors import InputError, Problem
from capplan.sources.capture_groups import (
    lru_lists,
    profile_of,
    read_again,
    root_group,
    set_slab,
    share_out,
)
from capplan.sources.capture_machine import machine
from capplan.sources.cgroupfs import Group, Tree, find_tree, group_paths, own, read_group
from capplan.sources.draft import Draft, doubt, legal_name
from capplan.sources.procfs import Host, Process, parse_lru_gen, parse_meminfo, parse_swaps
from capplan.spec.emit import Noted

__all__ = ["capture"]

PAGE = 4096
MAX_PROCESSES = 20_000
ROOT = "root"
MEMTOTAL_SLACK = 0.01  # pages of zones that are left out (Device), balloons


def capture(root: str | Path = "/") -> Draft:
    """Read a host.

    Parameters
    ----------
    root : str or Path, default "/"
        Folder with ``proc`` and ``sys`` of the host.

    Returns
    -------
    Draft
        Zones, sysctls, swap and groups as they are; each group's processes and charges as a
        profile. Nothing in it accesses memory: a snapshot does not show how often pages are
        used (``capplan record`` estimates it).

    Raises
    ------
    InputError
        There is no /proc/zoneinfo and /proc/meminfo to be read.
    """
    host = Host(root)
    problems: list[Problem] = []
    processes = _processes(host)
    meminfo = parse_meminfo(host.read("proc/meminfo"))
    tree = find_tree(host)
    groups = _groups(host, tree, problems)
    node = machine(host, _page_scale(host), problems)
    if not node["zones"] or "MemTotal" not in meminfo:
        message = "no zones or no MemTotal: this is no Linux host's /proc"
        raise InputError(f"{host.path('proc')}: {message}")
    itself = host.process(os.getpid()) if host.live else None
    if itself is not None:
        _leave_out(itself, meminfo, groups.get(_path_of(itself, tree, groups)), node["zones"])
    swap_used = sum(area.used for area in parse_swaps(host.read("proc/swaps", 1 << 16))) << 10
    top = [group for group in groups.values() if "/" not in group.path]
    version = tree.version if tree is not None else "v2"
    node["system"] = _system(set_slab(groups, meminfo, version))
    groups = {"": root_group(meminfo, swap_used, _subtrees(top, groups))} | groups
    problems += _doubts(host, meminfo, node["zones"], processes)
    draft = Draft({"capplan": 1}, header=_header(host, meminfo), problems=problems)
    _fill(draft, node, tree, groups, _by_group(processes, tree, groups))
    shown = host.read("sys/kernel/debug/lru_gen") if node["lru_gen"].value else ""
    generations = parse_lru_gen(shown)
    lists = lru_lists(groups, generations)
    if lists:
        origin = "/sys/kernel/debug/lru_gen" if generations else "memory.stat (inactive, active)"
        draft.node["cgroup"]["lru"] = Noted(lists, f"oldest first, of {origin}")
    return draft


def _doubts(
    host: Host, meminfo: dict[str, int], zones: list[Any], processes: list[Process]
) -> list[Problem]:
    """What does not add up, or could not be seen."""
    found = []
    blind = sum(not process.exact for process in processes)
    if blind:
        shown = f"smaps_rollup of {blind} of {len(processes)} processes cannot be read"
        expected = "root; their RSS stands for their PSS"
        found.append(doubt(host.path("proc"), 0, shown, expected))
    managed = sum(zone["managed"] for zone in zones) * PAGE // 1024
    if abs(managed - meminfo["MemTotal"]) > MEMTOTAL_SLACK * meminfo["MemTotal"]:
        shown = f"MemTotal is {meminfo['MemTotal']} kB, the zones manage {managed} kB"
        expected = "the same; the zones are what the allocator has, so they are taken"
        found.append(doubt(host.path("proc/meminfo"), 0, shown, expected))
    return found


def _processes(host: Host) -> list[Process]:
    own_pid = os.getpid() if host.live else -1
    found = []
    for process in host.processes():
        if process.pid != own_pid:
            found.append(process)
        if len(found) >= MAX_PROCESSES:
            break
    return found


def _leave_out(
    process: Process, meminfo: dict[str, int], group: Group | None, zones: list[Any]
) -> None:
    """Take off what the capture itself holds, for that is gone when it ends.

    Its pages go to the per-cpu lists of the largest zone, as those of a process that exits
    (free_unref_page_list()); the page cache that it read stays.
    """
    anon, tables = (size // PAGE * PAGE for size in (process.anon, process.tables))
    if group is not None:
        anon = min(anon, group.own["anon"])
        group.own["anon"] -= anon
        group.own["usage"] = max(group.own["usage"] - anon - tables, group.own["anon"])
    meminfo["AnonPages"] = max(meminfo.get("AnonPages", 0) - (anon >> 10), 0)
    largest = max(zones, key=lambda zone: int(zone["managed"]))
    largest["pcp"] = largest.get("pcp", 0) + (anon + tables) // PAGE


def _page_scale(host: Host) -> int:
    """The host's page size over 4096, as its first process shows it."""
    for pid in host.pids()[:1]:
        smaps = parse_meminfo(host.read(f"proc/{pid}/smaps", 1 << 12))
        if smaps.get("KernelPageSize", 0) > 4:
            return smaps["KernelPageSize"] // 4
    return os.sysconf("SC_PAGESIZE") // PAGE if host.live else 1


def _groups(host: Host, tree: Tree | None, problems: list[Problem]) -> dict[str, Group]:
    """All groups below the root with what they alone hold."""
    if tree is None:
        problems.append(doubt(host.path("sys/fs/cgroup"), 0, "no memory controller is mounted"))
        return {}
    found: dict[str, Group] = {}
    for path in group_paths(host, tree):
        group = read_group(host, tree, path)
        parent = path.rpartition("/")[0]
        if group is not None and (not parent or parent in found):
            found[path] = group
    own(found)
    return found


def _subtrees(top: list[Group], groups: dict[str, Group]) -> list[Group]:
    """One entry for each group below the root, with all that is charged below it."""
    sums = []
    for group in top:
        inside = [g for g in groups.values() if f"{g.path}/".startswith(f"{group.path}/")]
        names = {name for g in inside for name in g.own}
        sums.append(Group(group.path, own={n: sum(g.own.get(n, 0) for g in inside) for n in names}))
    return sums


def _by_group(
    processes: list[Process], tree: Tree | None, groups: dict[str, Group]
) -> dict[str, list[Process]]:
    """The processes of each group that was read; others are in the nearest above."""
    found: dict[str, list[Process]] = {}
    for process in processes:
        found.setdefault(_path_of(process, tree, groups), []).append(process)
    return found


def _path_of(process: Process, tree: Tree | None, groups: dict[str, Group]) -> str:
    key = "memory" if tree is not None and tree.version == "v1" else ""
    path = process.cgroups.get(key, "/").strip("/")
    while path and path not in groups:
        path = path.rpartition("/")[0]
    return path


def _system(slab_pages: int) -> Any:
    kib = slab_pages * PAGE // 1024
    return Noted(
        {
            "slab_reclaimable": Noted(f"{kib}Ki", "SReclaimable, less what groups are charged for"),
            "kernel": Noted(0, "not used: what is left of the zones is the kernel's"),
            "daemons": Noted({"memory": 0, "file": 0}, "every process is in a container"),
        }
    )


def _header(host: Host, meminfo: dict[str, int]) -> tuple[str, ...]:
    shown = "this host" if host.live else host.root
    total, free = meminfo["MemTotal"], meminfo.get("MemFree", 0)
    return (
        f"Captured from {shown}: MemTotal {total} kB, MemFree {free} kB.",
        "",
        "  capplan simulate node.yaml",
        "  capplan simulate node.yaml --set vm.min_free_kbytes=131072",
        "",
        "Zones, limits and what is in memory are as they were. How memory is accessed cannot be",
        "seen in a snapshot, but for page cache that was read again after its eviction: regions",
        "are idle until an access is written (access: {pattern: uniform, rate: 20Mi/s}); capplan",
        "record measures it.",
    )


def _fill(
    draft: Draft,
    node: dict[str, Any],
    tree: Tree | None,
    groups: dict[str, Group],
    processes: dict[str, list[Process]],
) -> None:
    """Write the groups and one container for each that holds something."""
    containers: dict[str, Any] = {}
    wanted: set[str] = set()
    for path, group in groups.items():
        members = processes.get(path, [])
        adj = _usual_adj(members)
        base = path.rpartition("/")[2] if path else ROOT
        name = legal_name(base, containers)
        held = share_out(group, members)
        held.read_again = read_again(group, members)
        profile = profile_of(name, held, adj)
        if profile is not None:
            file = f"profiles/{name}.yaml"
            draft.profiles[file] = profile
            entry: dict[str, Any] = {"profile": file, "cgroup": path or "/"}
            containers[name] = entry | ({"oom_score_adj": adj} if adj else {})
        if profile is not None or group.limits:
            wanted |= {path[: i if i >= 0 else None] for i in _cuts(path)}
    swappiness = node["sysctl"].get("vm.swappiness")
    declared = {
        path: _limits(group, swappiness)
        for path, group in groups.items()
        if path in wanted and path
    }
    version = tree.version if tree is not None else "v2"
    said = "v1 memory beside a v2 tree (hybrid)" if tree is not None and tree.hybrid else ""
    draft.node["node"] = node
    draft.node["cgroup"] = {"version": Noted(version, said), "groups": declared}
    draft.node["containers"] = containers
    draft.node["run"] = {"duration": "10min", "start": Noted("warm", "from the captured state")}


def _cuts(path: str) -> list[int]:
    """Where a path may be cut to give its ancestors; -1 is itself."""
    return [-1, *(i for i, char in enumerate(path) if char == "/")]


def _usual_adj(processes: list[Process]) -> int:
    values = [process.oom_score_adj for process in processes]
    return max(set(values), key=values.count) if values else 0


def _limits(group: Group, swappiness: int | None) -> dict[str, Any]:
    """A group's limit files; a v1 group's own swappiness only where it differs."""
    found: dict[str, Any] = {}
    slab = group.own.get("slab_reclaimable", 0) // PAGE
    if slab:
        found["slab_reclaimable"] = f"{slab * PAGE // 1024}Ki"
    for name, value in group.limits.items():
        if name == "memory.swappiness" and value == swappiness:
            continue
        found[name] = "max" if value < 0 else value
    return found
