"""The links of a cause: who grew, what was hit, what reclaim could and could not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from capplan.plan.eviction import direct_reclaim_pages
from capplan.plan.outcome_context import NS_PER_S, Context
from capplan.plan.outcome_series import PAGE_SIZE, Array
from capplan.spec.cgroup import ancestry
from capplan.units import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from capplan.sim.scenario import Cgroup, Zone

KIB = 1024
ZONE_ORDER = ("DMA", "DMA32", "Normal", "Movable")
GROWERS = 2  # named in a chain
RECENT_SAMPLES = 10  # who grew in these, or in the last tenth of the time, was growing
JUMP_SHARE = 0.9  # of a limit: usage below it just before the limit was met is a jump
NOTABLE_SHARE = 0.2  # of the largest grower's growth: worth naming too


def clock(t: float) -> str:
    """A run time for people."""
    return format_duration(t * NS_PER_S)


class Growth(NamedTuple):
    """How a container came to its size at some moment."""

    container: str
    recent: float  # bytes in the recent past: who was growing when it happened
    begin: float
    low: float
    top: float
    rate: float
    what: str

    @property
    def text(self) -> str:
        """A sentence."""
        return (
            f"{self.container} grew from {format_bytes(self.low)} at {clock(self.begin)} to "
            f"{format_bytes(self.top)} of {self.what} ({format_rate(self.rate)})"
        )


def growers(context: Context, t: float, domain: str, *, cache: bool = False) -> list[Growth]:
    """Who in the domain grew before ``t``, the fastest of late first."""
    found = [
        growth
        for container in context.containers_in(domain)
        if (growth := _growth(context, container, t, cache=cache)) is not None
    ]
    found.sort(key=lambda g: (-g.recent, -(g.top - g.low), g.container))
    if not found:
        return []
    first = found[0]
    if first.recent > 0:
        rest = [g for g in found[1:] if g.recent >= NOTABLE_SHARE * first.recent]
    else:
        rest = [g for g in found[1:] if g.top - g.low >= NOTABLE_SHARE * (first.top - first.low)]
    return [first, *rest][:GROWERS]


def _growth(context: Context, container: str, t: float, *, cache: bool) -> Growth | None:
    found = []
    for values, what in _kinds_of_memory(context, container, t, cache=cache):
        rise = context.series.rise(values, t)
        if rise is not None:
            begin, low, top, rate = rise
            recent = top - context.series.at(values, _recent(context, t))
            found.append(Growth(container, max(recent, 0.0), begin, low, top, rate, what))
    return max(found, key=lambda g: g.top - g.low, default=None)


def _kinds_of_memory(
    context: Context, container: str, t: float, *, cache: bool
) -> list[tuple[Array | None, str]]:
    """What a container's growth is read from: its own cgroup, or its processes' RSS."""
    path = context.container_cgroup[container]
    if context.sharing[path] > 1:
        rows = context.totals[container]
        rss = context.series.total(*(f"process.{row.process}.rss_pages" for row in rows))
        return [(None if rss is None else rss * PAGE_SIZE, "resident memory")]
    group = context.group(path)
    lasting = context.series.before(group.lasting, t)
    if not lasting:
        return [(group.usage, "memory")]
    # a twentieth: less is not worth a word
    shared = context.series.before(group.shmem, t) >= 0.05 * lasting
    what = "anonymous and shared memory" if shared else "anonymous memory"
    if context.series.before(group.swap, t) >= 0.05 * lasting:
        what += ", in memory and in swap"
    kinds = [(group.lasting, what)]
    return [*kinds, (group.cache, "page cache")] if cache else kinds


def _recent(context: Context, t: float) -> float:
    return t - max(RECENT_SAMPLES * context.sample_s, 0.1 * t)


def grew(context: Context, t: float, domain: str, *, cache: bool = False) -> list[str]:
    """The first link: who grew, at what rate."""
    texts = [g.text for g in growers(context, t, domain, cache=cache)]
    return ["; ".join(texts)] if texts else []


# --- a cgroup's limit --------------------------------------------------------------------


def limit_hit(context: Context, t: float, domain: str, key: str) -> list[str]:
    """The second link: which limit, and since when its group stood at it."""
    limit = context.limit(domain, key, t)
    if limit is None:
        return []
    group = context.group(domain)
    usage = group.usage
    text = f"{context.called(domain)} reached its {key} of {format_bytes(limit)}"
    if usage is not None:
        # charges come in batches of 64 pages (MEMCG_CHARGE_BATCH): within one it stands at it
        at_limit = np.nan_to_num(usage) >= context.limit_series(domain, key) - 64 * PAGE_SIZE
        since = context.series.onset(at_limit, t)
        if since is not None and since < t:
            text += f" at {clock(since)}"
        else:
            text += _jumped(context, usage, limit, t)
    return [text + _lowered(context, t, domain, key)]


def _jumped(context: Context, usage: Array, limit: int, t: float) -> str:
    """Growth that fell between two samples: a chain that ends far below the limit is a riddle."""
    last = int(np.searchsorted(context.series.t, t, side="left")) - 1
    if last < 0 or not usage[last] < JUMP_SHARE * limit:
        return ""
    span = format_duration((t - float(context.series.t[last])) * NS_PER_S)
    return f" within {span}: the sample before shows {format_bytes(float(usage[last]))}"


def _lowered(context: Context, t: float, domain: str, key: str) -> str:
    last = [
        c for c in context.scenario.changes
        if c.cgroup == domain and c.key == key and c.at_ns / NS_PER_S <= t
    ]  # fmt: skip
    return f" (set at {clock(last[-1].at_ns / NS_PER_S)})" if last else ""


def reclaim_in_group(context: Context, t: float, domain: str) -> list[str]:
    """The third link: what reclaim could and could not take from this cgroup."""
    group, before = context.group(domain), context.series.before
    anon, shmem = before(group.anon, t), before(group.shmem, t)
    parts = []
    if anon or shmem:
        held = f"{format_bytes(anon)} anonymous"
        held += f" and {format_bytes(shmem)} shared" if shmem >= 0.01 * max(anon, 1.0) else ""
        parts.append(f"of {held} memory it could take {_no_swap(context, t, domain)}")
    if group.cache is not None:
        parts.append(f"page cache left: {format_bytes(before(group.cache, t))}")
    locked = before(group.file("stat.unevictable"), t)
    if locked:
        parts.append(f"{format_bytes(locked)} locked")
    return ["reclaim: " + "; ".join(parts)] if parts else []


def _no_swap(context: Context, t: float, domain: str) -> str:
    """Why anonymous memory could not go out, or how much could."""
    if not context.swap_total:
        return "none (the node has no swap)"
    free = context.series.get("meminfo_kb.SwapFree")
    left = context.series.before(free, t) * KIB if free is not None else context.swap_total
    if left < context.swap_total * 0.01:
        return f"no more (swap is full: {format_bytes(context.swap_total)})"
    for path in ancestry(domain):
        group = context.cgroups.get(path)
        why = None if group is None else _swap_limit(context, group, t)
        if why:
            return f"{why[0]} ({why[1]})"
    swap = context.series.before(context.group(domain).swap, t)
    there = f"{format_bytes(swap)} of it is in swap already" if swap else "nothing of it is in swap"
    return f"too little in time ({there}, {format_bytes(left)} of swap is free)"


def _swap_limit(context: Context, group: Cgroup, t: float) -> tuple[str, str] | None:
    """How much swap took (in words) and the setting that allowed no more."""
    if context.v1:
        if group.memsw_max >= 0:
            limit = format_bytes(group.memsw_max * PAGE_SIZE)
            return "no more", f"memory.memsw.limit_in_bytes {limit} counts swap too"
        return ("none", "memory.swappiness is 0") if group.swappiness == 0 else None
    if group.swap_max == 0:
        return "none", "memory.swap.max is 0"
    swap = context.series.before(context.group(group.path).swap, t)
    if group.swap_max > 0 and swap >= 0.99 * group.swap_max * PAGE_SIZE:
        return "no more", f"memory.swap.max {format_bytes(group.swap_max * PAGE_SIZE)} is used up"
    return None


# --- the node ----------------------------------------------------------------------------


def marks_hit(context: Context, t: float) -> list[str]:
    """The second link of a node-wide incident: when free memory fell to which threshold."""
    free = _free(context)
    if free is None:
        return []
    effects = (("low", "kswapd is woken"), ("min", "tasks reclaim for themselves"))
    links = []
    for (name, effect), threshold in zip(effects, thresholds(context)):
        with np.errstate(invalid="ignore"):
            since = context.series.onset(np.asarray(free <= threshold), t)
        if since is not None:
            size = format_bytes(threshold * PAGE_SIZE)
            links.append(f"at or under the {name} marks ({size}) from {clock(since)}: {effect}")
    here = format_bytes(context.series.before(free, t) * PAGE_SIZE)
    return [", ".join([f"the node's free memory fell to {here}", *links])]


def _free(context: Context) -> Array | None:
    """The node's free memory, the bins' lowest where they were kept [pages]."""
    zones = [context.series.get(f"zone.{z}.free|min", f"zone.{z}.free") for z in context.run.wmarks]
    known = [z for z in zones if z is not None]
    if known and len(known) == len(zones):
        return np.asarray(np.sum(known, axis=0))
    free = context.series.get("meminfo_kb.MemFree")
    return None if free is None else free * KIB / PAGE_SIZE


def thresholds(context: Context) -> tuple[int, int]:
    """Free pages at which kswapd is woken and tasks reclaim: every zone refuses.

    The sum over zones of min(managed, mark + lowmem_reserve), for user memory (which may
    come from the highest zone): mm/page_alloc.c, get_page_from_freelist().
    """
    zones = [
        (zone.managed, context.run.wmarks.get(context.zone_name(zone), (0, 0, 0)),
         _reserve(context, zone))
        for zone in context.scenario.node.zones
    ]  # fmt: skip
    low = direct_reclaim_pages((managed, marks[1], reserve) for managed, marks, reserve in zones)
    return low, direct_reclaim_pages(
        (managed, marks[0], reserve) for managed, marks, reserve in zones
    )


def _reserve(context: Context, zone: Zone) -> int:
    """lowmem_reserve against the highest zone; vm.lowmem_reserve_ratio is 256 by default."""
    if zone.protection:
        return max(zone.protection)
    order = [*ZONE_ORDER]
    above = sum(
        z.managed
        for z in context.scenario.node.zones
        if z.node == zone.node and order.index(z.name) > order.index(zone.name)
    )
    return above // 256


def reclaim_in_node(context: Context, t: float) -> list[str]:
    """The third link of a node-wide incident: what was left to take."""

    def kib(*names: str) -> float:
        return (
            sum(context.series.before(context.series.get(f"meminfo_kb.{n}"), t) for n in names)
            * KIB
        )

    anon = kib("Active(anon)", "Inactive(anon)")
    parts = [f"page cache left: {format_bytes(kib('Active(file)', 'Inactive(file)'))}"]
    if not context.swap_total:
        parts.append(f"{format_bytes(anon)} anonymous memory has nowhere to go (no swap)")
    else:
        free = kib("SwapFree")
        parts.append(
            f"free swap: {format_bytes(free)} of {format_bytes(context.swap_total)}, "
            f"{format_bytes(anon)} anonymous memory still resident"
        )
    if kib("Unevictable"):
        parts.append(f"{format_bytes(kib('Unevictable'))} unevictable")
    slab = kib("SReclaimable")
    if slab:
        parts.append(f"{format_bytes(slab)} reclaimable slab")
    protected = _protected(context, t)
    if protected:
        parts.append(f"{format_bytes(protected)} protected by memory.min or memory.low")
    return ["reclaim: " + "; ".join(parts)]


def _protected(context: Context, t: float) -> float:
    """Memory under protection, the outermost protected cgroups counted once."""
    total, seen = 0.0, set[str]()
    for path in sorted(context.cgroups, key=lambda p: p.count("/")):
        group = context.cgroups[path]
        guard = max(group.memory_min, group.memory_low) * PAGE_SIZE
        if guard and not seen.intersection(ancestry(path)):
            seen.add(path)
            total += min(guard, context.series.before(context.group(path).usage, t))
    return total
