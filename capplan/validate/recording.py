"""``scenario.json`` of a recording becomes a :class:`~capplan.sim.scenario.Scenario`.

Nothing of the truth files is read here. What the recorder's processes are made of beside
their phases is a handful of constants, each with its origin.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capplan.sim.scenario import (
    LIMIT_FILES,
    PAGE_SIZE,
    UNLIMITED,
    Cgroup,
    Change,
    Mempolicy,
    Node,
    Op,
    Process,
    Scenario,
    Swap,
    Task,
    Zone,
    Zswap,
)
from capplan.sim.scenario import Mapping as Region
from capplan.validate.calibration import costs_of, entry_ns, file_disk, page_ns, swap_disk

PAGES_PER_MIB = 256
NS_PER_S = 1_000_000_000
SAMPLE_NS = 250_000_000  # the recorder's own period
FILE_DISK = "files"
SWAP_DISK = "swap"
THP_DEFRAG = "/sys/kernel/mm/transparent_hugepage/defrag"
SWAP_PRIORITY = -2  # mm/swapfile.c, _enable_swap_info: the first automatic priority

# A recorded process is a fork of the sampler. Seen in every recording of a process that
# maps nothing (tmpfs-under-max, v2-high-file-only; 6.1 and 6.12 alike):
OWN_ANON_PAGES = 20  # stack and data copied on write: stat.anon of a process that maps nothing
# ... and those that it copied before it joined its group, which are the root group's: AnonPages
# less all groups' stat.anon rises by 3 pages with the first process and by 5 with each
ROOT_ANON_PAGES = 5
# vmas, page-table levels above the leaves: stat.kernel of the same process, less xarray nodes
OWN_KERNEL_PAGES = 2

# What one sample costs the recorder. It reads the kernel's log last and stamps what it finds: from
# the sample's own time on, 5 ms with one group (median of 10 samples, 3 to 26), 9 ms with two (of
# 10, 5 to 32); with four 5 to 115 (8 samples, all while a victim exits).
# Here in pages that the same machine fills in that time (82 MiB/s).
SAMPLE_PAGES_BASE = 21
SAMPLE_PAGES_PER_GROUP = 84

# A recorded process copies the sampler's page tables (fork, one process after the other), gives
# back all but these of its pages, and begins its first phase then: its RSS is 6.66 MiB at its
# start, 1.07 MiB beside what it grew.
FORK_KEPT_PAGES = 273

# lzo1x on a page of `r` random bytes and then one repeated byte: the random bytes, those that
# its accelerating search (lib/lzo/lzo1x_compress.c: ip += 1 + ((ip - ii) >> 5)) skips over
# before it sees the repetition (half a stride to land in it, one to find it again), and the
# tokens. The last is what remains of 1101 bytes per page that memory.zswap.current shows.
LZO_TOKENS = 27
ZBUD_MAX_BYTES = PAGE_SIZE - 128  # mm/zbud.c, zbud_alloc: less ZHDR_SIZE_ALIGNED and a chunk

# What a booted kernel uses and names nowhere in meminfo (modules, vmalloc, tables of memory):
# seen in the recordings whose per-cpu lists are small (global-swap-leak 2547 pages,
# zswap-compressible 2644, both with at most 812 on the lists).
UNNAMED_KERNEL_PAGES = 2300
_MEMINFO_USERS = (
    "AnonPages", "Cached", "Buffers", "SReclaimable", "SUnreclaim", "KernelStack", "PageTables",
    "Percpu",
)  # fmt: skip


def load_scenario(folder: Path) -> Scenario:
    """The scenario of one recording.

    Parameters
    ----------
    folder : Path
        Holds ``scenario.json``.

    Raises
    ------
    OSError, ValueError, KeyError
        The file is missing, is no JSON, or lacks what a recording has.
    """
    return scenario_of(json.loads((folder / "scenario.json").read_text(encoding="utf-8")))


def scenario_of(raw: Mapping[str, Any]) -> Scenario:
    """Turn a recording's inputs into a scenario (pages, nanoseconds)."""
    zpool = raw["zswap"]["zpool"] if raw["zswap"] else "zsmalloc"
    mapped = {
        phase["file"]
        for entry in raw["processes"]
        for phase in entry["phases"]
        if phase["op"] == "map_file"
    }
    regions: list[Region] = [
        Region(
            name=name,
            kind="file",
            max_pages=mib * PAGES_PER_MIB,
            size_pages=mib * PAGES_PER_MIB,
            via="mmap" if name in mapped else "read",
            disk=FILE_DISK,
        )
        for name, mib in raw["files"].items()
    ]
    processes = []
    for entry in with_forks(raw["processes"]):
        process, own = process_of(entry, zpool)
        process = dataclasses.replace(process, start_ns=process.start_ns + _fork_ns(raw, entry))
        regions += own
        processes.append(process)
    return Scenario(
        name=raw["name"],
        node=node_of(raw),
        cgroup_version=raw["cgroup_version"],
        cgroups=tuple(cgroup_of(group) for group in raw["cgroups"]),
        mappings=tuple(regions),
        processes=tuple(processes),
        changes=tuple(change_of(change) for change in raw.get("changes", ())),
        duration_ns=_ns(raw["duration_s"]),
        sample_ns=SAMPLE_NS,
    )


def with_forks(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The processes; a forked one has ``inherits``: its parent, and the MiB that this had grown."""
    named = {entry["name"]: dict(entry) for entry in entries}
    for parent in entries:
        grown = 0.0
        for phase in parent["phases"]:
            if phase["op"] == "anon":
                grown += phase["mib"]
            elif phase["op"] == "free_anon":
                grown = max(grown - phase["mib"], 0.0)
            elif phase["op"] == "fork":
                named[phase["child"]]["inherits"] = (parent["name"], grown)
    return list(named.values())


def change_of(raw: Mapping[str, Any]) -> Change:
    """Something that the recorder wrote while the run went on."""
    key = raw.get("sysctl") or raw["file"]
    value = raw["value"]
    in_bytes = key in LIMIT_FILES or key == "memory.reclaim"
    return Change(
        at_ns=_ns(raw["at_s"]),
        cgroup=raw.get("cgroup", ""),
        key=key,
        value=_limit(value) if in_bytes else int(value),
    )


def node_of(raw: Mapping[str, Any]) -> Node:
    """The machine as it was just before t = 0."""
    boot = raw["boot"]
    meminfo = {key: kb // 4 for key, kb in boot["meminfo_kb"].items()}
    zones = tuple(zone_of(zone, boot, marks_written(raw)) for zone in boot["zones"])
    anon, shmem = meminfo["AnonPages"], meminfo["Shmem"]
    file = max(meminfo["Cached"] - shmem, 0) + meminfo.get("Buffers", 0)
    slab = meminfo["SReclaimable"]
    used = sum(zone.managed - (zone.free or 0) for zone in zones)
    if any("pcp" not in zone for zone in boot["zones"]):
        zones = _with_per_cpu_lists(zones, used, meminfo)
    zram = zram_of(raw)
    swap_pages = meminfo.get("SwapTotal", 0) - (zram.size_pages if zram else 0)
    calibration = raw["calibration"]
    disks = [file_disk(FILE_DISK, calibration)]
    swaps: tuple[Swap, ...] = (zram,) if zram else ()
    if swap_pages > 0:
        disks.append(swap_disk(SWAP_DISK, calibration, raw.get("disk")))
        swaps += (Swap(SWAP_DISK, swap_pages, SWAP_PRIORITY - len(swaps)),)
    return Node(
        zones=zones,
        cpus=raw["cpus"],
        release=boot["kernel"],
        sysctl={"vm.swappiness": boot["swappiness"]} | raw["sysctl"],
        min_free_kbytes_in_force=boot["min_free_kbytes"],
        lru_gen=bool(int(boot["lru_gen_enabled"], 16) & 1),
        thp=bool(boot["thp_for_process_memory"]),
        thp_compact=raw.get("write", {}).get(THP_DEFRAG) == "always",
        disks=tuple(disks),
        swaps=swaps,
        zswap=_zswap_of(raw["zswap"]),
        kernel_pages=used - anon - shmem - file - slab - sum(zone.pcp_pages for zone in zones),
        slab_reclaimable_pages=slab,
        slab_pinned_pages=slab,  # the guest had dropped its caches: what is left is in use
        daemon_anon_pages=anon,
        daemon_file_pages=file,
        daemon_shmem_pages=shmem,
        daemon_locked_pages=min(anon, meminfo["Mlocked"]),
        # the recorder's program, whose file is on the tmpfs that the machine booted from
        daemon_locked_shmem_pages=min(shmem, max(meminfo["Mlocked"] - anon, 0)),
        costs=costs_of(calibration, raw["cpus"]) | {"sample_ns": sample_cost_ns(raw)},
    )


def sample_cost_ns(raw: Mapping[str, Any]) -> float:
    """CPU time of one sample of the recorder, where the calibration has none. [ns]"""
    measured = raw["calibration"].get("sample_ns")
    if measured is not None:
        return float(measured)
    pages = SAMPLE_PAGES_BASE + SAMPLE_PAGES_PER_GROUP * len(raw["cgroups"])
    return pages * page_ns(raw["calibration"]["fault_and_fill_mib_s"])


def _fork_ns(raw: Mapping[str, Any], process: Mapping[str, Any]) -> int:
    """From the time that a process is to start at to its first phase. [ns]

    Those that start at the same time are forked in the order of the list.
    """
    if "inherits" in process:
        return 0  # the fork of another process
    starting = [p["name"] for p in raw["processes"] if p["start_s"] == process["start_s"]]
    sampler = int(raw["boot"]["meminfo_kb"]["AnonPages"]) // 4
    copied = (1 + starting.index(process["name"])) * sampler
    entries = copied + max(sampler - FORK_KEPT_PAGES, 0)
    return round(entries * entry_ns(raw["calibration"]))


def _with_per_cpu_lists(
    zones: tuple[Zone, ...], used: int, meminfo: Mapping[str, int]
) -> tuple[Zone, ...]:
    """Give the largest zone the pages that its per-cpu lists held when it was looked at.

    What is used and stands nowhere in meminfo is the kernel's fixed part or on those lists.
    """
    known = sum(meminfo.get(name, 0) for name in _MEMINFO_USERS)
    hidden = max(used - known - UNNAMED_KERNEL_PAGES, 0)
    largest = max(zones, key=lambda zone: zone.managed)
    low = largest.wmark[1] if largest.wmark else largest.managed // 200
    return tuple(
        dataclasses.replace(zone, pcp_pages=min(hidden, low)) if zone is largest else zone
        for zone in zones
    )


def marks_written(raw: Mapping[str, Any]) -> bool:
    """Whether the marks were set anew after boot, with the managed pages that zones show.

    Otherwise they date from boot, when fewer pages were managed, and are taken as captured.
    """
    return bool({"vm.min_free_kbytes", "vm.watermark_scale_factor"} & set(raw["sysctl"]))


def zone_of(zone: Mapping[str, Any], boot: Mapping[str, Any], computed: bool) -> Zone:
    """One zone of ``boot``; ``computed`` leaves its marks to the model."""
    counts = boot["buddyinfo"]
    order = counts.get(f"N{zone['node']}.{zone['zone']}", counts.get(zone["zone"]))
    return Zone(
        node=zone["node"],
        name=zone["zone"],
        spanned=zone["spanned"],
        present=zone["present"],
        managed=zone["managed"],
        free=zone["free"],
        wmark=None if computed else (zone["min"], zone["low"], zone["high"]),
        boost=zone["boost"],
        protection=tuple(zone["protection"]),
        buddyinfo=tuple(order) if order else None,
        pcp_pages=zone.get("pcp", 0),
    )


def zram_of(raw: Mapping[str, Any]) -> Swap | None:
    """The swap device in compressed memory, if there is one; it comes before a disk."""
    zram = raw.get("zram")
    if not zram:
        return None
    return Swap(
        disk="",
        size_pages=zram["disksize_mib"] * PAGES_PER_MIB - 1,  # less the header
        priority=SWAP_PRIORITY,
        zram=True,
        zram_limit_pages=(zram.get("mem_limit_mib") or 0) * PAGES_PER_MIB,
    )


def _zswap_of(raw: Mapping[str, Any] | None) -> Zswap | None:
    if raw is None:
        return None
    return Zswap(
        enabled=str(raw["enabled"]).upper() in ("Y", "1", "TRUE"),
        max_pool_percent=int(raw["max_pool_percent"]),
        accept_threshold_percent=int(raw.get("accept_threshold_percent", 90)),
        compressor=raw["compressor"],
        zpool=raw["zpool"],
        shrinker_enabled=str(raw.get("shrinker_enabled", "N")).upper() in ("Y", "1"),
    )


def cgroup_of(raw: Mapping[str, Any]) -> Cgroup:
    """One control group; what was not written has the kernel's default.

    Raises
    ------
    ValueError
        A file was written that the model does not know.
    """
    fields: dict[str, Any] = {"path": raw["name"]}
    for key, value in raw.items():
        if key == "name":
            continue
        if key in LIMIT_FILES:
            fields[LIMIT_FILES[key]] = _limit(value)
        elif key == "memory.oom.group":
            fields["oom_group"] = int(value) != 0
        elif key == "memory.oom_control":
            fields["oom_kill_disable"] = int(value) != 0
        elif key == "memory.swappiness":
            fields["swappiness"] = int(value)
        elif key == "memory.zswap.writeback":
            fields["zswap_writeback"] = int(value) != 0
        else:
            raise ValueError(f"{raw['name']}: cgroup file '{key}' is not modelled")
    return Cgroup(**fields)


def _limit(value: str) -> int:
    """Pages of a limit as written: bytes, or "max" (v2) and -1 (v1) for none."""
    text = str(value).strip()
    return UNLIMITED if text in ("max", "-1") else int(text) // PAGE_SIZE


def _own_regions(name: str) -> tuple[Region, Region]:
    """The pages that a process copies on write: in its group, and before it joined that."""
    kept = Region("", "anon", 0, length_mean=PAGE_SIZE, incompressible=1.0)
    return (
        dataclasses.replace(kept, name=f"{name}.own", max_pages=OWN_ANON_PAGES),
        dataclasses.replace(kept, name=f"{name}.before", max_pages=ROOT_ANON_PAGES, owner=""),
    )


def process_of(raw: Mapping[str, Any], zpool: str) -> tuple[Process, list[Region]]:
    """A recorded process and the regions that are its own."""
    name = raw["name"]
    own, before = _own_regions(name)
    heap = _heap_of(raw, zpool)
    regions = [own, before, *([heap] if heap else [])]
    attached = [region.name for region in regions]
    copies = 0
    if "inherits" in raw:
        parent, mib = raw["inherits"]
        copies = round(mib * PAGES_PER_MIB)
        attached.insert(2, f"{parent}.heap")
    ops = [Op("grow", region.name, region.max_pages) for region in (before, own)]
    for index, phase in enumerate(raw["phases"]):
        target = heap.name if heap else ""
        if phase["op"] in ("write_file", "write_tmpfs"):
            region = _written(f"{name}.{index}", phase)
            regions.append(region)
            target = region.name
        elif "file" in phase:
            target = phase["file"]
        if target and target not in attached:
            attached.append(target)
        if phase["op"] == "fork":
            ops.append(Op("fork", proc=phase["child"]))
            continue
        if copies and phase["op"] == "touch_anon":
            ops += _copy_ops(phase, f"{parent}.heap", target, copies)
            copies = 0
            continue
        ops.append(op_of(phase, target))
    process = Process(
        name=name,
        cgroup=raw["cgroup"],
        container=name,
        start_ns=_ns(raw["start_s"]),
        oom_score_adj=raw["oom_score_adj"],
        mappings=tuple(attached),
        tasks=(Task(tuple(ops), exit_at_end=True),),
        kernel_pages=OWN_KERNEL_PAGES,
        parent=raw["inherits"][0] if "inherits" in raw else "",
        by_fork="inherits" in raw,
        mempolicy=Mempolicy.of(**raw["numa"]) if "numa" in raw else None,
    )
    return process, regions


def _copy_ops(phase: Mapping[str, Any], shared: str, own: str, pages: int) -> list[Op]:
    """A forked child's first writes: each page is copied once, then it is the child's own."""
    rate = float(phase["rate_mib_s"] * PAGES_PER_MIB)
    copied = min(pages, int(rate * phase["seconds"]))
    left_ns = _ns(phase["seconds"] - copied / rate)
    ops = [Op("store", shared, copied, rate, pattern="cyclic")]
    return [*ops, Op("touch", own, rate=rate, ns=left_ns)] if left_ns > 0 else ops


def op_of(phase: Mapping[str, Any], target: str) -> Op:
    """One phase as an operation on ``target``.

    Raises
    ------
    ValueError
        The phase is of a kind that recordings do not have.
    """
    kind = phase["op"]
    pages = round(phase.get("mib", 0) * PAGES_PER_MIB)
    rate = float(phase.get("rate_mib_s", 0) * PAGES_PER_MIB)
    ns = _ns(phase.get("seconds", 0))
    if kind == "anon":
        return Op("grow", target, pages, rate)
    if kind == "dentries":
        return Op("slab", pages=pages, rate=rate)
    if kind == "touch_anon":
        return Op("touch", target, rate=rate, ns=ns, pattern="cyclic")
    if kind == "touch_anon_random":
        return Op("touch", target, rate=rate, ns=ns, pattern="uniform")
    if kind in ("write_file", "write_tmpfs"):
        return Op("write", target, pages, rate)
    if kind == "hold":
        return Op("hold", ns=ns)
    reads = {
        "read_file": "read", "map_file": "read", "loop_read_file": "read_loop",
        "random_read_file": "read_rand",
    }  # fmt: skip
    if kind in reads:
        return Op(reads[kind], target, pages, rate, ns)
    other = {"free_anon": "free", "mlock": "mlock", "punch": "punch"}
    if kind in other:
        return Op(other[kind], target, pages)
    raise ValueError(f"phase '{kind}' is not known")


def _heap_of(raw: Mapping[str, Any], zpool: str) -> Region | None:
    """All anonymous memory of a process, one region that its ``anon`` phases grow.

    A forked child's first writes grow it too: by the copies of its parent's pages.
    """
    name = raw["name"]
    grown = [phase for phase in raw["phases"] if phase["op"] == "anon"]
    parent, inherited = raw.get("inherits", ("", 0.0))
    if not grown and not inherited:
        return None
    mib = sum(phase["mib"] for phase in grown)
    stored = [(phase["mib"], stored_bytes(phase.get("compressible_pct", 0))) for phase in grown]
    largest = PAGE_SIZE if zpool == "zsmalloc" else ZBUD_MAX_BYTES
    refused = sum(share for share, length in stored if length > largest)
    same = sum(share for share, length in stored if length == 0)
    kept = [(share, length) for share, length in stored if 0 < length <= largest]
    weight = sum(share for share, _ in kept)
    mean = sum(share * length for share, length in kept) / weight if weight else float(PAGE_SIZE)
    return Region(
        name=f"{name}.heap",
        kind="anon",
        max_pages=round((mib + inherited) * PAGES_PER_MIB),
        thp=bool(raw.get("thp", False)),
        length_mean=mean,
        same_filled=same / mib if mib else 0.0,
        incompressible=refused / mib if mib else 1.0,
        cow_of=f"{parent}.heap" if inherited else None,
    )


def stored_bytes(compressible_pct: float) -> int:
    """Bytes that lzo makes of a recorded page; 0 for one that holds a single word.

    Parameters
    ----------
    compressible_pct : float
        Share of the page that holds one repeated byte; the rest is random. [%]

    Returns
    -------
    int
        Stored length; above 4096 where nothing repeats. [bytes]

    Worked example
    --------------
    75 %: 1024 random bytes, a stride of 33, tokens 27: 1024 + 50 + 27 = 1101, which is what
    memory.zswap.current shows per page in both zswap recordings.
    """
    if compressible_pct >= 100:
        return 0
    random = round(PAGE_SIZE * (100 - compressible_pct) / 100)
    stride = 1 + random // 32
    return random + (3 * stride + 1) // 2 + LZO_TOKENS


def _written(name: str, phase: Mapping[str, Any]) -> Region:
    pages = round(phase["mib"] * PAGES_PER_MIB)
    if phase["op"] == "write_tmpfs":
        # written with write(2), never mapped: a charge that fails is the caller's ENOMEM
        length = float(PAGE_SIZE)
        return Region(name, "shmem", pages, via="read", length_mean=length, incompressible=1.0)
    return Region(name, "file", pages, via="read", disk=FILE_DISK)


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
