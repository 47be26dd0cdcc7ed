"""What a captured node holds, by control group: processes and charges as profiles.

Every group's own charge is shared out exactly, in pages: to the processes in it as far as they
map it, the rest to one process that stands for the group (``group``, which the OOM killer
spares). What no group is charged for is the root's. So AnonPages, the page cache, each group's
usage and the swap in use of a simulation's first moment are those of the host; a process's RSS
is its PSS scaled to what its group was charged for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from capplan.sources.cgroupfs import Group
from capplan.sources.draft import legal_name
from capplan.sources.procfs import Process
from capplan.spec.emit import Noted

__all__ = [
    "Held",
    "kernel_pages",
    "lru_lists",
    "profile_of",
    "read_again",
    "root_group",
    "set_slab",
    "share_out",
]

PAGE = 4096
THREAD_BYTES = 26 * 1024  # what a simulated thread is charged (capplan.sim.expand_container)
PTES_PER_TABLE = 512
SMALL = 1 << 20  # processes below it are one with their like [bytes]
SHOWN_PROCESSES = 300  # of a group, the largest apart
GROUP = "group"
# meminfo's kernel memory that groups are charged for and no shrinker takes
FIXED_KERNEL = ("SUnreclaim", "KernelStack", "PageTables", "Percpu")
KINDS = ("anon", "file", "shmem", "swap")
STATES = ("inactive", "active")  # the classic LRU's lists, oldest first
MIN_NR_GENS = 2


@dataclass
class Held:
    """What one group holds, in pages.

    Attributes
    ----------
    processes
        Name, the process it stands for, how many, and pages by kind.
    rest
        Charged to the group and mapped by none of its processes, by kind; ``kernel`` is what
        the usage holds beside anon and file.
    read_again
        Pages of page cache that came back after their eviction, and in how long [s].
    """

    processes: list[tuple[str, Process, int, dict[str, int]]] = field(default_factory=list)
    rest: dict[str, int] = field(default_factory=dict)
    read_again: tuple[int, float] = (0, 0.0)


def root_group(meminfo: dict[str, int], swap_used: int, groups: Iterable[Group]) -> Group:
    """The root: what the node holds and no group below is charged for. [bytes]

    Cached and Buffers are its page cache, as memory.stat's ``file`` counts them. SwapCached
    pages are in AnonPages or Shmem already.
    """
    node = {
        "anon": meminfo.get("AnonPages", 0) << 10,
        "file": (meminfo.get("Cached", 0) + meminfo.get("Buffers", 0)) << 10,
        "shmem": meminfo.get("Shmem", 0) << 10,
        "mapped": meminfo.get("Mapped", 0) << 10,
        "swap": swap_used,
    } | {
        f"{state}_{kind}": meminfo.get(f"{state.title()}({kind})", 0) << 10
        for state in STATES
        for kind in ("anon", "file")
    }
    below = list(groups)
    left = {
        name: max(value - sum(group.own.get(name, 0) for group in below), 0)
        for name, value in node.items()
    }
    # the root is charged nothing: its kernel memory is the node's
    return Group("", own=left | {"usage": left["anon"] + left["file"]})


def set_slab(groups: dict[str, Group], meminfo: dict[str, int], version: str) -> int:
    """Set each group's own reclaimable slab; return what no group is charged for. [pages]

    v1's memory.stat does not tell it: a group's kernel memory is taken to hold as large a share
    of reclaimable slab as the node's does.
    """
    reclaimable = meminfo.get("SReclaimable", 0) << 10
    if version == "v1":
        fixed = sum(meminfo.get(key, 0) for key in FIXED_KERNEL) << 10
        share = reclaimable / (reclaimable + fixed) if reclaimable else 0.0
        for group in groups.values():
            group.own["slab_reclaimable"] = int(kernel_pages(group) * share) * PAGE
    charged = sum(group.own.get("slab_reclaimable", 0) for group in groups.values())
    if charged > reclaimable:  # the files were read one after the other
        for group in groups.values():
            found = group.own.get("slab_reclaimable", 0) * reclaimable // charged
            group.own["slab_reclaimable"] = found
        charged = reclaimable
    return (reclaimable - charged) // PAGE


def share_out(group: Group, processes: list[Process]) -> Held:
    """Share a group's own charge between its processes and itself."""
    shmem = min(group.own.get("shmem", 0), group.own["file"])
    mapped = group.own.get("mapped", group.own["file"])
    mapped_shmem = min(sum(p.shmem for p in processes), shmem, mapped)
    charged = {
        "anon": group.own["anon"],
        "file": min(group.own["file"] - shmem, max(mapped - mapped_shmem, 0)),
        "shmem": mapped_shmem,
        "swap": group.own.get("swap", 0),
    }
    held = Held()
    factors = {kind: _factor(charged[kind], processes, kind) for kind in KINDS}
    for name, process, count in _named(processes):
        each = {kind: int(getattr(process, kind) * factors[kind]) // PAGE for kind in KINDS}
        held.processes.append((name, process, count, each))
    whole = charged | {"file": group.own["file"] - shmem, "shmem": shmem}
    for kind in KINDS:
        given = sum(count * each[kind] for _, _, count, each in held.processes)
        held.rest[kind] = max(whole[kind] // PAGE - given, 0)
    kernel = kernel_pages(group) - group.own.get("slab_reclaimable", 0) // PAGE
    held.rest["kernel"] = max(kernel - _own_kernel(held), 0)
    return held


def read_again(group: Group, processes: list[Process]) -> tuple[int, float]:
    """How much page cache a group read again after its eviction, and since when. [pages, s]

    The kernel counts since the group was made; nobody read before its oldest process, and what
    was read by those that are gone is counted too. Reads of what was still there are not counted:
    a lower bound of its use, on average over that time.
    """
    seconds = max((process.age_s for process in processes), default=0.0)
    return (group.own.get("refault_file", 0), seconds) if seconds > 0 else (0, 0.0)


def _factor(charged: int, processes: list[Process], kind: str) -> float:
    """What the processes' sizes are multiplied by, so that they add up to the charge at most."""
    mapped = sum(getattr(process, kind) for process in processes)
    return min(charged / mapped, 1.0) if mapped else 0.0


def kernel_pages(group: Group) -> int:
    """Pages of a group's usage that are neither anonymous nor cache: kernel memory, sockets,
    and the batches that its CPUs have charged beforehand.
    """
    return max(group.own["usage"] - group.own["anon"] - group.own["file"], 0) // PAGE


def _own_kernel(held: Held) -> int:
    """Pages that the simulated processes will be charged for stacks and page tables."""
    pages = 0
    for _, process, count, each in held.processes:
        tables = max(process.tables // PAGE, dense_tables(each))
        pages += count * (process.threads * THREAD_BYTES // PAGE + tables)
    return pages


def dense_tables(each: dict[str, int]) -> int:
    """Page tables that regions of these sizes need when they are densely filled. [pages]"""
    sizes = (each["anon"] + each["swap"], each["file"], each["shmem"])
    return sum(-(-pages // PTES_PER_TABLE) for pages in sizes)


def _named(processes: list[Process]) -> list[tuple[str, Process, int]]:
    """The processes with names of their own; small ones of a kind as one entry with a count."""
    order = sorted(processes, key=lambda p: -(p.rss + p.swap))
    large = [p for i, p in enumerate(order) if i < SHOWN_PROCESSES and p.rss + p.swap >= SMALL]
    small: dict[tuple[str, int, bool], list[Process]] = {}
    for process in order[len(large) :]:
        key = (process.name, process.oom_score_adj, process.root)
        small.setdefault(key, []).append(process)
    found: list[tuple[str, Process, int]] = []
    taken = {GROUP}
    for process in large:
        name = legal_name(f"{process.name}-{process.pid}", taken)
        taken.add(name)
        found.append((name, process, 1))
    for (comm, adj, root), alike in small.items():
        name = legal_name(f"{comm}-small", taken)
        taken.add(name)
        sizes = {
            kind: sum(getattr(p, kind) for p in alike) // len(alike)
            for kind in (*KINDS, "rss", "locked", "tables")
        }
        threads = max(sum(p.threads for p in alike) // len(alike), 1)
        one = Process(alike[0].pid, comm, threads, adj, root=root, **sizes)
        found.append((name, one, len(alike)))
    return found


def profile_of(name: str, held: Held, adj: int) -> dict[str, Any] | None:
    """A profile file of what a group holds; None where it holds nothing."""
    processes: dict[str, Any] = {}
    for key, process, count, each in held.processes:
        processes[key] = _process(process, count, each, adj)
    rest = _rest_regions(held.rest)
    pages, seconds = held.read_again
    if pages and "cache" in rest:
        note = f"at least: {pages} refaults in the {seconds:.0f} s of its oldest process"
        rate = f"{pages * PAGE / seconds:.0f}/s"
        rest["cache"]["access"] = Noted({"pattern": "uniform", "rate": rate}, note)
    if rest:
        processes[GROUP] = Noted(
            {"oom_score_adj": -1000, "regions": rest},
            above=("charged to the group and mapped by none of its processes",),
        )
    if not processes:
        return None
    return {"capplan": 1, "profile": legal_name(name), "processes": processes}


def _process(process: Process, count: int, each: dict[str, int], adj: int) -> Any:
    entry: dict[str, Any] = {}
    if process.oom_score_adj != adj:
        entry["oom_score_adj"] = process.oom_score_adj
    if count > 1:
        entry["count"] = count
    if process.threads > 1:
        entry["threads"] = process.threads
    if process.root:
        entry["root"] = True
    if process.tables // PAGE > dense_tables(each):
        entry["page_tables"] = _size(process.tables // PAGE)
    regions: dict[str, Any] = {}
    locked = min(process.locked // PAGE, each["anon"])
    if locked:
        regions["locked"] = {"kind": "anon", "size": _size(locked), "locked": True}
    anon = _with_swap("anon", each["anon"] - locked, each["swap"])
    if anon:
        regions["heap"] = anon
    if each["file"]:
        size = _size(each["file"])
        regions["files"] = {"kind": "file", "via": "mmap", "exec": True, "size": size}
    if each["shmem"]:
        regions["shm"] = {"kind": "shmem", "size": _size(each["shmem"])}
    if regions:
        entry["regions"] = regions
    note = f"RSS {process.rss >> 10} KiB"
    if process.referenced:
        note += f", {process.referenced >> 10} KiB of it touched since reclaim last looked"
    return Noted(entry, above=(note,))


def _rest_regions(rest: dict[str, int]) -> dict[str, Any]:
    regions: dict[str, Any] = {}
    anon = _with_swap("anon", rest["anon"], rest["swap"])
    if anon:
        regions["heap"] = anon
    if rest["file"]:
        regions["cache"] = {"kind": "file", "via": "read", "size": _size(rest["file"])}
    if rest["shmem"]:
        regions["tmpfs"] = {"kind": "shmem", "via": "read", "size": _size(rest["shmem"])}
    if rest["kernel"]:
        regions["kernel"] = {"kind": "kernel", "size": _size(rest["kernel"])}
    return regions


def _with_swap(kind: str, pages: int, swapped: int) -> dict[str, Any]:
    """A region that is partly in swap; {} where there is nothing of it."""
    if not swapped:
        return {"kind": kind, "size": _size(pages)} if pages else {}
    return {
        "kind": kind,
        "size": _size(pages + swapped),
        "resident": _size(pages),
        "swapped": _size(swapped),
    }


def lru_lists(
    groups: dict[str, Group], generations: dict[str, list[tuple[int, int, int]]]
) -> dict[str, Any]:
    """``cgroup.lru``: how old what each group holds is.

    Parameters
    ----------
    groups : dict
        By path, each with what is charged to it alone.
    generations : dict
        :func:`capplan.sources.procfs.parse_lru_gen`'s; empty where they cannot be read: then
        the inactive and active lists of memory.stat, and meminfo's for the root.
    """
    found: dict[str, Any] = {}
    for path, group in groups.items():
        parts = generations.get(f"/{path}", [])
        if len(parts) >= MIN_NR_GENS:
            lists = {
                "anon": [_size(anon) for _, anon, _ in parts],
                "file": [_size(file) for _, _, file in parts],
                "age": [f"{age}ms" for age, _, _ in parts],
            }
            held = any(anon or file for _, anon, file in parts)
        else:
            pages = {
                kind: [group.own.get(f"{state}_{kind}", 0) // PAGE for state in STATES]
                for kind in ("anon", "file")
            }
            lists = {kind: [_size(count) for count in counts] for kind, counts in pages.items()}
            held = any(any(counts) for counts in pages.values())
        if held:
            found[path or "/"] = lists
    return found


def _size(pages: int) -> str:
    """Pages as a size: ``1536`` pages are ``6Mi``."""
    kib = pages * (PAGE // 1024)
    return f"{kib // 1024}Mi" if kib and kib % 1024 == 0 else f"{kib}Ki"
