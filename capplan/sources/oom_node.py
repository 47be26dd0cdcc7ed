"""An OOM report becomes a node file: the node, or the group, as it was at the kill.

What the report does not show is assumed and said: the CPUs, the node around a group whose limit
was hit, the swap behind it. The process that asked for memory goes on growing, so that a
simulation meets the same OOM and a changed setting can be seen to prevent it.
"""

from __future__ import annotations

from typing import Any

from capplan.errors import Problem
from capplan.release import features, resolve
from capplan.sources.capture_groups import PAGE, profile_of, share_out
from capplan.sources.cgroupfs import Group
from capplan.sources.draft import Draft, doubt, legal_name
from capplan.sources.oom_model import Counter, Report, Zone
from capplan.sources.procfs import Process
from capplan.spec.emit import Noted

__all__ = ["draft_of", "group_path", "is_v1", "release_of"]

ZONES = ("DMA", "DMA32", "Normal", "Movable")
UNLIMITED_KB = 1 << 50  # counters print PAGE_COUNTER_MAX in KiB: 2**53 - 4, less on 32 bits
ROOM = 4  # the node around a group: so many times its limit
MIN_NODE = 4 << 30
GROW_MORE = 64 << 20  # grown beyond all that could have been reclaimed [bytes]
GROW_RATE = "32Mi/s"
PROFILE = "profiles/{}.yaml"


def release_of(report: Report) -> str:
    """The kernel, else a release of those that print as it does."""
    if report.kernel:
        return report.kernel
    if "oom_adj" in report.columns:
        return "2.6.32-431.el6.x86_64"
    if "rss_anon" in report.columns:
        return "6.8"
    # page tables in the kill line came in 5.4
    victim = report.victim
    return "5.0" if victim is None or victim.pgtables_kb is None else "5.4"


def is_v1(report: Report) -> bool:
    """Whether the report is of cgroup v1."""
    if "memory+swap" in report.counters or "cache" in report.stat:
        return True
    if "anon" in report.stat or "swap" in report.counters:
        return False
    # systemd made v2 the default about when distributions shipped 5.10
    return resolve(release_of(report)).version < (5, 10)


def group_path(report: Report) -> str:
    """Path of the group whose limit was hit."""
    return (report.memcg or "/group").strip("/") or "group"


def draft_of(report: Report, file: str) -> Draft:
    """The node file of one report.

    Parameters
    ----------
    report : Report
    file : str
        The log's name, for comments and messages.

    Raises
    ------
    ValueError
        The report has no task table: nothing could be simulated.
    """
    if not report.tasks:
        raise ValueError("the report has no task table")
    problems = [
        doubt(file, number, f"not understood: {text[:80]!r}") for number, text in report.unknown
    ]
    draft = Draft({"capplan": 1}, header=_header(report, file), problems=problems)
    if report.is_memcg:
        _of_group(draft, report)
    else:
        _of_node(draft, report, file)
    return draft


def _header(report: Report, file: str) -> tuple[str, ...]:
    victim = report.victim
    killed = f"killed {victim.name} ({victim.pid})" if victim else "nobody was killed"
    where = f"group {report.memcg}" if report.is_memcg else "the node"
    return (
        f"The OOM report at line {report.line} of {file}: {where} was out of memory, {killed}.",
        "",
        f"  capplan explain {file}                  why that process",
        "  capplan simulate node.yaml              the same OOM, simulated",
        "  capplan simulate node.yaml --set ...    what would have prevented it",
    )


def _scale(report: Report) -> int:
    """4096-byte pages in one of the report's."""
    return max(report.page_kb // 4, 1)


# --- processes ---------------------------------------------------------------------------


def _processes(report: Report) -> list[Process]:
    """The task table; threads of one process stand once. [bytes]"""
    unit = report.page_kb << 10
    found: dict[int, Process] = {}
    spared = features(release_of(report)).root_bonus > 0
    docker = "docker" in (report.memcg or "")  # its root has no CAP_SYS_ADMIN
    for task in report.tasks:
        split = task.rss_anon is not None
        found[task.pid] = Process(
            pid=task.pid,
            name=task.name,
            oom_score_adj=max(min(task.adj, 1000), -1000),
            rss=task.rss * unit,
            anon=(task.rss_anon or 0) * unit if split else task.rss * unit,
            file=(task.rss_file or 0) * unit,
            shmem=(task.rss_shmem or 0) * unit,
            swap=(task.swapents or 0) * unit,
            tables=task.tables(report.page_kb) * unit,
            root=spared and task.uid == 0 and not docker,
            exact=split,
        )
    return list(found.values())


def _growing(report: Report, names: dict[int, str]) -> str | None:
    """Key of the process that goes on growing: who asked for memory, else the largest."""
    asked = [t for t in report.tasks if t.name == report.trigger and t.pid in names and t.rss]
    if not asked:
        asked = [t for t in report.tasks if t.pid in names and t.adj > -1000]
    return names[max(asked, key=lambda t: t.rss).pid] if asked else None


def _profile(report: Report, group: Group, room: int) -> dict[str, Any]:
    """The profile of all processes of the report; the one that asked goes on growing."""
    processes = _processes(report)
    held = share_out(group, processes)
    profile = profile_of("tasks", held, 0)
    assert profile is not None  # there is a task table
    names = {process.pid: key for key, process, count, _ in held.processes if count == 1}
    key = _growing(report, names)
    if key is not None:
        noted = profile["processes"][key]
        entry = noted.value
        regions = entry.setdefault("regions", {})
        regions.setdefault("heap", {"kind": "anon", "size": 0})
        by = (room + GROW_MORE) // PAGE * (PAGE // 1024)
        grow = {"grow": {"region": "heap", "by": f"{by}Ki", "rate": GROW_RATE}}
        entry["phases"] = Noted(
            [{"hold": "1s"}, grow],
            above=("it asked for memory when there was none; that it goes on is assumed: more",
                   "than all that could have been freed"),
        )  # fmt: skip
    return profile


# --- the whole node ----------------------------------------------------------------------


def _of_node(draft: Draft, report: Report, file: str) -> None:
    zones = [_zone(zone, report, draft.problems, file) for zone in report.zones if _size_kb(zone)]
    total = sum(zone["managed"] for zone in zones) * PAGE
    node: dict[str, Any] = {}
    if zones:
        node["zones"] = zones
    else:
        pages = (report.totalram_pages or 0) * _scale(report)
        held = sum(task.rss for task in report.tasks) * (report.page_kb << 10)
        total = pages * PAGE or max(2 * held, MIN_NODE)
        node["memory"] = Noted(f"{total >> 10}Ki", "of the report" if pages else "assumed")
        message = "the report shows no zones: they are computed, and what was free is not known"
        draft.problems.append(doubt(file, report.line, message))
    node |= _machine(report)
    swap_kb = report.swap_total_kb or 0
    if swap_kb:
        node["swap"] = [Noted({"device": "ssd", "size": f"{swap_kb}Ki"}, "device assumed")]
    group, room = _node_holds(report)
    slab = report.meminfo.get("slab_reclaimable", 0) * report.page_kb
    system: dict[str, Any] = {"slab_reclaimable": f"{slab}Ki"}
    if zones:
        system["kernel"] = Noted(0, "not used: what is left of the zones is the kernel's")
    system["daemons"] = {"memory": 0, "file": 0}
    node["system"] = system
    free = sum(zone.get("free", 0) for zone in zones) * PAGE
    draft.profiles[PROFILE.format("tasks")] = _profile(report, group, room + free + (slab << 10))
    draft.node["node"] = node
    draft.node["cgroup"] = {"version": "v1" if is_v1(report) else "v2"}
    draft.node["containers"] = {"tasks": {"profile": PROFILE.format("tasks"), "cgroup": "/"}}
    draft.node["run"] = _run(room + free + (slab << 10))


def _size_kb(zone: Zone) -> int:
    return zone.present_kb if zone.managed_kb is None else zone.managed_kb


def _zone(zone: Zone, report: Report, problems: list[Problem], file: str) -> dict[str, Any]:
    """One entry of ``node.zones`` in pages of 4096 bytes."""
    name = zone.zone
    if name not in ZONES:
        shown = f"zone {name} is taken as Movable: user memory only"
        problems.append(doubt(file, report.line, shown))
        name = "Movable"
    managed = max(_size_kb(zone) // 4, 1)
    boost = (zone.boost_kb or 0) // 4
    entry: dict[str, Any] = {"zone": name}
    if zone.node:
        entry["node"] = zone.node
    if zone.present_kb:
        entry["present"] = max(zone.present_kb // 4, managed)
    entry |= {"managed": managed, "free": min(zone.free_kb // 4, managed)}
    if zone.free_pcp_kb:
        entry["pcp"] = zone.free_pcp_kb // 4
    entry |= {
        "min": max(zone.min_kb // 4 - boost, 0),
        "low": max(zone.low_kb // 4 - boost, 0),
        "high": max(zone.high_kb // 4 - boost, 0),
    }
    if boost:
        entry["boost"] = boost
    if zone.lowmem_reserve:
        entry["protection"] = [pages * _scale(report) for pages in zone.lowmem_reserve[:4]]
    if zone.buddy and _scale(report) == 1 and max(zone.buddy) <= 10:
        entry["buddyinfo"] = [zone.buddy.get(order, 0) for order in range(11)]
    return entry


def _machine(report: Report) -> dict[str, Any]:
    release = release_of(report)
    note = "" if report.kernel else "not in the report: one that prints as it does"
    return {"cpus": Noted(4, "not in the report: assumed"), "kernel": Noted(release, note)}


def _node_holds(report: Report) -> tuple[Group, int]:
    """What Mem-Info says the node held, and what of it could have been freed. [bytes]"""
    unit = report.page_kb << 10
    info = {name: pages * unit for name, pages in report.meminfo.items()}
    rss = sum(process.anon for process in _processes(report))
    anon = sum(info.get(f"{kind}_anon", 0) for kind in ("active", "inactive", "isolated"))
    file = sum(info.get(f"{kind}_file", 0) for kind in ("active", "inactive", "isolated"))
    shmem = info.get("shmem", 0)
    swap = max((report.swap_total_kb or 0) - (report.swap_free_kb or 0), 0) << 10
    own = {
        # shmem is on the anonymous lists; mlocked memory is unevictable
        "anon": max(anon + info.get("unevictable", 0) - shmem, 0) if anon else rss,
        "file": file + shmem,
        "shmem": shmem,
        "mapped": info.get("mapped", 0),
        "swap": swap,
    }
    return Group("", own=own | {"usage": own["anon"] + own["file"]}), file + (
        (report.swap_free_kb or 0) << 10
    )


# --- a group -----------------------------------------------------------------------------


def _of_group(draft: Draft, report: Report) -> None:
    path = group_path(report)
    v1 = is_v1(report)
    memory = report.counters.get("memory")
    if memory is None:
        held = sum(task.rss for task in report.tasks) * report.page_kb
        memory = Counter(held, held)
        message = "the report shows no limit: what the tasks held is taken"
        draft.problems.append(doubt("the report", report.line, message))
    if memory.limit_kb >= UNLIMITED_KB:
        message = "the group had no limit: what it used is taken for one"
        draft.problems.append(doubt("the report", report.line, message))
        memory = Counter(memory.usage_kb, memory.usage_kb, memory.failcnt)
    limit = memory.limit_kb
    swapped = _swapped_kb(report, memory)
    node: dict[str, Any] = {}
    node |= {
        "memory": Noted(f"{max(limit * ROOM, MIN_NODE >> 10)}Ki", "not in the report: assumed")
    }
    node |= _machine(report)
    if swapped:
        # had there been room in it, the group's memory would have gone there
        entry = {"device": "ssd", "size": f"{swapped}Ki"}
        node["swap"] = [Noted(entry, "full, as it must have been; device assumed")]
    group = _group_holds(report, memory, swapped)
    room = max(group.own["file"] - group.own["shmem"], 0) + max(limit - memory.usage_kb, 0) * 1024
    draft.profiles[PROFILE.format("tasks")] = _profile(report, group, room)
    groups: dict[str, Any] = {}
    parts = path.split("/")
    for depth in range(1, len(parts)):
        groups["/".join(parts[:depth])] = {}
    groups[path] = _group_limits(report, memory, v1)
    draft.node["node"] = node
    draft.node["cgroup"] = {"version": "v1" if v1 else "v2", "groups": groups}
    container = {"profile": PROFILE.format("tasks"), "cgroup": path}
    draft.node["containers"] = {legal_name(parts[-1]): container}
    draft.node["run"] = _run(room)


def _swapped_kb(report: Report, memory: Counter) -> int:
    """Swap that the group used. [KiB]"""
    if "swap" in report.counters:
        return report.counters["swap"].usage_kb
    if "memory+swap" in report.counters:
        return max(report.counters["memory+swap"].usage_kb - memory.usage_kb, 0)
    return sum(task.swapents or 0 for task in report.tasks) * report.page_kb


def _group_holds(report: Report, memory: Counter, swapped_kb: int) -> Group:
    usage = memory.usage_kb << 10
    stat = report.stat
    shmem = stat.get("shmem", 0)
    known = "anon" in stat or "rss" in stat
    anon = stat.get("anon", stat.get("rss", 0))
    if not known:  # the statistics are cut off
        anon = min(sum(process.anon for process in _processes(report)), usage)
    anon = min(anon, usage)
    file = min(stat.get("file", stat.get("cache", 0)), usage - anon)
    own = {"anon": anon, "file": file, "shmem": min(shmem, file), "usage": usage}
    own["mapped"] = stat.get("file_mapped", stat.get("mapped_file", 0))
    return Group(group_path(report), own=own | {"swap": swapped_kb << 10})


def _group_limits(report: Report, memory: Counter, v1: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = {"memory": "memory.limit_in_bytes", "memory+swap": "memory.memsw.limit_in_bytes"}
    if not v1:
        names = {"memory": "memory.max", "swap": "memory.swap.max"}
    for name, key in names.items():
        counter = memory if name == "memory" else report.counters.get(name)
        if counter is not None and counter.limit_kb < UNLIMITED_KB:
            found[key] = f"{counter.limit_kb}Ki"
    memsw = report.counters.get("memory+swap")
    if memsw is not None and memsw.limit_kb < memory.limit_kb:
        del found["memory.memsw.limit_in_bytes"]
    if v1:
        found["memory.oom_control"] = Noted(0, "it killed")
    elif report.oom_group:
        found["memory.oom.group"] = 1
    return found


def _run(room: int) -> dict[str, Any]:
    seconds = 10 + (room + GROW_MORE) // (32 << 20)
    return {"duration": f"{max(seconds, 30)}s", "start": Noted("warm", "as it was at the kill")}
