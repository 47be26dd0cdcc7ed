"""A Node.js program: V8's generations, sized from the memory that libuv finds.

Sources: node's src/api/environment.cc (SetIsolateCreateParamsForNode), libuv's src/unix/linux.c
(uv_get_constrained_memory), V8's src/heap/heap.cc (HeapSizeFromPhysicalMemory,
YoungGenerationSizeFromOldGenerationSize) and heap-controller.cc (the growing factor).
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

from capplan.spec.common import Dist
from capplan.spec.runtime import NodeJs
from capplan.spec.runtimes.common import Expansion, Facts, busy, region, rounded_up, scans
from capplan.spec.runtimes.nodejs_flags import parse_nodejs
from capplan.units import format_bytes

__all__ = ["Generations", "expand_nodejs", "generations", "growing_factor"]

MIB, GIB = 1 << 20, 1 << 30
NS_PER_S = 1_000_000_000
PAGE = 256 << 10  # V8's pages, by which spaces grow
# on 64 bits without pointer compression, as Node.js is built: kHeapLimitMultiplier is 2
PHYSICAL_TO_OLD = 2  # kPhysicalMemoryToOldGenerationRatio 4, times the multiplier
MIN_OLD, MAX_OLD = 256 * MIB, 2 * GIB  # V8HeapTrait::kMinSize, kMaxSize
HUGE_MEMORY = 16 * GIB - 512 * MIB  # from there the old generation may have 4 GiB
SEMI_RATIO, SEMI_RATIO_LOW, LOW_MEMORY = 128, 256, 256 * MIB
MIN_SEMI, MAX_SEMI = 1 * MIB, 16 * MIB
CGROUP2_SINCE = 20  # libuv 1.45 reads cgroup v2
TARGET_UTILIZATION = 0.97  # kTargetMutatorUtilization
MIN_GROWING, SMALL_GROWING, MAX_SMALL_GROWING, HIGH_GROWING = 1.1, 1.3, 2.0, 4.0


class Generations(NamedTuple):
    """Highest sizes [bytes]."""

    old: int
    semi: int  # one of the two halves of the young generation
    why: str


def generations(flags: dict[str, int], version: int, facts: Facts) -> Generations:
    """The highest size of V8's old generation and of a semi-space.

    Worked example
    --------------
    A limit of 1 GiB (v2, version 22): half of it, 512 MiB; semi-spaces of a 128th, 4 MiB.
    Version 18 does not read cgroup v2: on a node of 64 GiB 4 GiB and 16 MiB, whatever the limit.
    """
    seen, of = facts.memory, "the node's memory"
    if facts.version == "v1" or version >= CGROUP2_SINCE:
        limits = [m for m in (facts.limit, facts.high) if m is not None]
        if limits and min(limits) < seen:
            seen, of = min(limits), "the limit"
    elif facts.limit is not None:
        of += f", as version {version} does not read cgroup v2"
    top = MAX_OLD * (2 if seen >= HUGE_MEMORY else 1)
    old = rounded_up(max(min(seen // 4 * PHYSICAL_TO_OLD, top), MIN_OLD), PAGE)
    ratio = SEMI_RATIO_LOW if old <= LOW_MEMORY else SEMI_RATIO
    semi = rounded_up(min(max(old // ratio, MIN_SEMI), MAX_SEMI), PAGE)
    why = f"half of {format_bytes(seen)} ({of}), within 256 MiB and {format_bytes(top)}"
    if "max-old-space-size" in flags:
        old, why = flags["max-old-space-size"], "--max-old-space-size"
    return Generations(old, flags.get("max-semi-space-size", semi), why)


def growing_factor(gc_speed: float, mutator_speed: float, most: int) -> float:
    """By what the heap may have grown at the next full collection.

    ``R (1 - u) / (R (1 - u) - u)``, R the collector's speed by the program's and u 0.97: the
    factor at which the program has 97 % of the time. From 1.1 up to 1.3 .. 2 by the highest heap
    (256 MiB .. 2 GiB), 4 from there on.

    Worked example
    --------------
    R = 100: 3 / (3 - 0.97) = 1.48. R = 20: it would never reach 97 %, so the highest factor.
    """
    highest = HIGH_GROWING
    if most < MAX_OLD:
        share = (max(most, MIN_OLD) - MIN_OLD) / (MAX_OLD - MIN_OLD)
        highest = SMALL_GROWING + (MAX_SMALL_GROWING - SMALL_GROWING) * share
    if gc_speed <= 0 or mutator_speed <= 0:
        return highest
    a = gc_speed / mutator_speed * (1 - TARGET_UTILIZATION)
    b = a - TARGET_UTILIZATION
    return max(a / b if a < b * highest else highest, MIN_GROWING)


def expand_nodejs(node: NodeJs, facts: Facts) -> Expansion:
    """Regions, scans and sums of a Node.js program."""
    sizes = generations(parse_nodejs(shlex.split(node.flags)), node.version, facts)
    out = Expansion(threads=node.threads)
    live = min(int(node.live), sizes.old)
    if node.live > sizes.old:
        message = (
            f"{format_bytes(node.live)} of live data are more than the old space of "
            f"{format_bytes(sizes.old)} ({sizes.why}): V8 aborts with 'JavaScript heap out of "
            "memory', which no limit of the container prevents"
        )
        out.warnings.append((message, f"--max-old-space-size above {node.live // MIB}"))
    promotion = node.allocation_rate * node.promoted
    factor = growing_factor(node.scan_rate, promotion, sizes.old)
    # Heap::BoundAllocationLimit: with the young generation, and at most half way to the highest
    young = 2 * sizes.semi
    used = max(min(int(live * factor) + young, (live + sizes.old) // 2), live)
    out.notes.append(
        f"old space at most {format_bytes(sizes.old)}: {sizes.why}; semi-spaces of "
        f"{format_bytes(sizes.semi)}"
    )
    out.notes.append(
        f"old space in use: {format_bytes(used)}, live data of {format_bytes(live)} grown by "
        f"{factor:.3g} before they are collected"
    )
    access = busy(node.allocation_rate if node.access_rate is None else node.access_rate)
    limit = sizes.old - (used - live) if node.growth > 0 else None
    out.regions["live"] = region(live, access, growth=node.growth, limit=limit)
    if used > live:
        out.regions["allocated"] = region(used - live, busy(promotion, "cyclic"))
    out.most += sizes.old
    out.parts.append(f"old space {format_bytes(sizes.old)}")
    # 3: two semi-spaces and the new large objects (YoungGenerationSizeFromSemiSpaceSize)
    out.add("young", young, busy(node.allocation_rate, "cyclic"), most=3 * sizes.semi)
    out.add("external", node.external)
    out.add("base", node.base)
    if promotion > 0 and live > 0:
        every = round((used - live) / promotion * NS_PER_S)
        out.phases = scans("live", live, Dist[int](constant=every), node.scan_rate)
        out.notes.append(f"all live data are marked each {every / NS_PER_S:.3g} s")
    out.note_access(node)
    return out
