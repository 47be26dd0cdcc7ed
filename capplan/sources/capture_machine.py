"""The machine of a captured host: zones, sysctls, swap, zswap, LRU, disks as ``node`` keys."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import Any

from capplan.errors import Problem
from capplan.sources.draft import doubt
from capplan.sources.procfs import (
    Host,
    ZoneInfo,
    number,
    parse_buddyinfo,
    parse_pagetypeinfo,
    parse_swaps,
    parse_zoneinfo,
)
from capplan.spec.emit import Noted
from capplan.units import format_k8s

__all__ = ["machine", "zone_of"]

ZONES = ("DMA", "DMA32", "Normal", "Movable")
FREE_TYPES = ("Unmovable", "Movable", "Reclaimable")
HZ = (100, 250, 300, 1000)
COMPRESSORS = ("lzo", "lzo-rle", "lz4", "lz4hc", "zstd", "deflate", "842")
SYSCTLS = (
    "min_free_kbytes", "watermark_scale_factor", "watermark_boost_factor", "lowmem_reserve_ratio",
    "swappiness", "page-cluster", "vfs_cache_pressure", "dirty_ratio", "dirty_background_ratio",
    "dirty_bytes", "dirty_background_bytes", "dirty_expire_centisecs", "dirty_writeback_centisecs",
    "panic_on_oom", "oom_kill_allocating_task", "overcommit_memory", "overcommit_ratio",
    "zone_reclaim_mode", "min_unmapped_ratio", "min_slab_ratio", "percpu_pagelist_high_fraction",
    "extfrag_threshold", "compaction_proactiveness",
)  # fmt: skip
MAX_CONFIG = 1 << 20  # an unpacked kernel config: 0.3 MiB


def machine(host: Host, page_scale: int, problems: list[Problem]) -> dict[str, Any]:
    """The ``node`` of a host, without what its system holds.

    Parameters
    ----------
    host : Host
    page_scale : int
        The host's page size over 4096: sizes in pages are multiplied by it.
    problems : list of Problem
        Appended to: what could not be read.
    """
    release = host.read("proc/sys/kernel/osrelease", 256).strip()
    release = release if re.match(r"\d+\.\d+", release) else "6.12"
    node: dict[str, Any] = {"zones": zones(host, page_scale, problems), "cpus": cpus(host)}
    node["kernel"] = Noted(release, "uname -r")
    hz = _hz(host, release)
    if hz is not None:
        node["hz"] = hz
    node["sysctl"] = _sysctls(host)
    swap = _swaps(host)
    if swap:
        node["swap"] = swap
    zswap = _zswap(host)
    if zswap:
        node["zswap"] = zswap
    thp = re.search(r"\[(always|madvise|never)\]", host.read("sys/kernel/mm/transparent_hugepage/"
                                                             "enabled", 256))  # fmt: skip
    node["thp"] = Noted(thp[1] if thp else "never", "/sys/kernel/mm/transparent_hugepage/enabled")
    node |= _lru_gen(host)
    disks = _disks(host)
    if disks:
        node["disks"] = disks
    return node


def cpus(host: Host) -> int:
    """CPUs that are on."""
    lines = host.read("proc/stat", 1 << 20).splitlines()
    return max(sum(bool(re.match(r"cpu\d+ ", line)) for line in lines), 1)


def zones(host: Host, page_scale: int, problems: list[Problem]) -> list[Any]:
    """Populated zones with their marks and free blocks."""
    blocks = parse_buddyinfo(host.read("proc/buddyinfo"))
    types = parse_pagetypeinfo(host.read("proc/pagetypeinfo"))
    found: list[Any] = []
    for zone in parse_zoneinfo(host.read("proc/zoneinfo")):
        if not zone.marks.get("managed", zone.marks.get("present", 0)):
            continue
        if zone.zone not in ZONES:
            shown = f"zone {zone.zone} of node {zone.node} is not modelled: left out"
            problems.append(doubt(host.path("proc/zoneinfo"), 0, shown))
            continue
        key = (zone.node, zone.zone)
        found.append(zone_of(zone, blocks.get(key), types.get(key), page_scale))
    return found


def zone_of(
    zone: ZoneInfo,
    blocks: tuple[int, ...] | None,
    types: dict[str, tuple[int, ...]] | None,
    page_scale: int = 1,
) -> dict[str, Any]:
    """One entry of ``node.zones``."""
    marks = {name: value * page_scale for name, value in zone.marks.items()}
    marks.setdefault("managed", marks.get("present", 0))  # not told apart before 3.8
    entry: dict[str, Any] = {"zone": zone.zone}
    if zone.node:
        entry["node"] = zone.node
    for name in ("spanned", "present", "managed", "free"):
        if name in marks:
            entry[name] = marks[name]
    if zone.pcp:
        entry["pcp"] = zone.pcp * page_scale
    if all(name in marks for name in ("min", "low", "high")):
        # zoneinfo prints min, low and high with the boost in them from 5.0 on
        # (min_wmark_pages()); the model adds it itself
        boost = marks.get("boost", 0)
        entry |= {name: marks[name] - boost for name in ("min", "low", "high")}
        if boost:
            entry["boost"] = boost
    if zone.protection:
        entry["protection"] = [value * page_scale for value in zone.protection[:4]]
    if types and page_scale == 1 and all(kind in types for kind in FREE_TYPES):
        known = {kind: list(types[kind][:11]) for kind in FREE_TYPES}
        if any(types.get("HighAtomic", ())):
            known["HighAtomic"] = list(types["HighAtomic"][:11])
        entry["pagetypeinfo"] = Noted(known, "free blocks of order 0..10")
    elif blocks and page_scale == 1:
        entry["buddyinfo"] = Noted(list(blocks[:11]), "free blocks of order 0..10")
    return entry


def _sysctls(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in SYSCTLS:
        values = [number(part) for part in host.read(f"proc/sys/vm/{name}", 256).split()]
        if values and None not in values:
            found[f"vm.{name}"] = values if name == "lowmem_reserve_ratio" else values[0]
    return found


def _hz(host: Host, release: str) -> int | None:
    """CONFIG_HZ, where the kernel's configuration can be read."""
    text = host.read(f"boot/config-{release}", MAX_CONFIG)
    if not text:
        try:
            with open(host.path("proc/config.gz"), "rb") as packed, gzip.open(packed) as file:
                text = file.read(MAX_CONFIG).decode("ascii", "replace")
        except (OSError, EOFError, zlib.error):
            return None
    match = re.search(r"^CONFIG_HZ=(\d+)$", text, re.MULTILINE)
    return int(match[1]) if match and int(match[1]) in HZ else None


def _chosen(text: str) -> str:
    """The word in brackets of a list of choices, or the only word."""
    match = re.search(r"\[([^\]]+)\]", text)
    return match[1] if match else text.strip()


def _swaps(host: Host) -> list[Any]:
    areas: list[Any] = []
    for area in parse_swaps(host.read("proc/swaps", 1 << 16)):
        name = area.name.rpartition("/")[2]
        entry: dict[str, Any] = {"size": f"{area.size}Ki"}
        if name.startswith("zram"):
            entry["device"] = "zram"
            compressor = _chosen(host.read(f"sys/block/{name}/comp_algorithm", 256))
            if compressor in COMPRESSORS:
                entry["compressor"] = compressor
            stat = host.read(f"sys/block/{name}/mm_stat", 256).split()
            limit = number(stat[3]) if len(stat) > 3 else None
            if limit:
                entry["mem_limit"] = format_k8s(limit)
        else:
            entry["device"] = _class(host, name) if area.kind == "partition" else _first(host)
        if area.priority >= -1:
            entry["priority"] = area.priority
        areas.append(Noted(entry, f"{area.name}, {area.used} KiB used"))
    return areas


def _zswap(host: Host) -> dict[str, Any]:
    folder = "sys/module/zswap/parameters"
    values = {name: host.read(f"{folder}/{name}", 64).strip() for name in host.names(folder)}
    if "enabled" not in values:
        return {}
    found: dict[str, Any] = {"enabled": values["enabled"] in ("Y", "1")}
    for name in ("max_pool_percent", "accept_threshold_percent"):
        percent = number(values.get(name, ""))
        if percent is not None and 1 <= percent <= 100:
            found[name] = percent
    for name, known in (("compressor", COMPRESSORS), ("zpool", ("zsmalloc", "zbud", "z3fold"))):
        if values.get(name) in known:
            found[name] = values[name]
    if values.get("shrinker_enabled") in ("Y", "1"):
        found["shrinker_enabled"] = True
    return found


def _lru_gen(host: Host) -> dict[str, Any]:
    text = host.read("sys/kernel/mm/lru_gen/enabled", 64).strip()
    try:
        enabled = bool(int(text, 16) & 1)
    except ValueError:
        return {"lru_gen": Noted(False, "no /sys/kernel/mm/lru_gen: built without")}
    found: dict[str, Any] = {"lru_gen": Noted(enabled, f"/sys/kernel/mm/lru_gen/enabled {text}")}
    ttl = host.number("sys/kernel/mm/lru_gen/min_ttl_ms")
    return found | ({"lru_gen_min_ttl_ms": ttl} if ttl else {})


def _disks(host: Host) -> dict[str, Any]:
    """Disks with a size, by the class that their name and rotational flag tell."""
    found: dict[str, Any] = {}
    for name in host.names("sys/block"):
        if re.match(r"(loop|ram|zram|sr|fd|dm-|md)", name) or not re.fullmatch(r"[\w.-]+", name):
            continue
        if host.number(f"sys/block/{name}/size"):
            found[name] = Noted(_class(host, name), "by its name and rotational flag; set speeds")
    return dict(list(found.items())[:4])


def _first(host: Host) -> str:
    disks = _disks(host)
    return str(next(iter(disks.values())).value) if disks else "ssd"


def _class(host: Host, name: str) -> str:
    """Class of a block device or partition."""
    if name.startswith("nvme"):
        return "nvme"
    base = re.sub(r"p?\d+$", "", name)
    for block in (name, base):
        turns = host.number(f"sys/block/{block}/queue/rotational")
        if turns is not None:
            return "hdd" if turns else "ssd"
    return "ssd"
