"""A HotSpot JVM: how large its heap becomes, and what it has besides.

Sources, in OpenJDK's src/hotspot/share: runtime/arguments.cpp (set_heap_size), runtime/os.cpp
(is_server_class_machine), gc/shared/gc_globals.hpp (the flags' defaults), gc/shared/cardTable.cpp
(alignment), gc/g1/g1HeapRegion.cpp and g1ConcurrentMarkBitMap (G1's own structures).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from capplan.spec.common import Dist
from capplan.spec.runtime import Jvm
from capplan.spec.runtimes.common import Expansion, Facts, busy, region, rounded_up, scans
from capplan.spec.runtimes.jvm_flags import JvmFlags, parse_jvm
from capplan.units import format_bytes

__all__ = ["Heap", "collector_of", "expand_jvm", "heap_of", "metadata_of"]

MIB = 1 << 20
NS_PER_S = 1_000_000_000
ALIGNMENT = 2 * MIB  # CardTable::ct_max_alignment_constraint(): a page of 512-byte cards
# MaxHeapSize, OldSize and NewSize of gc_globals.hpp: ScaleForWordSize() makes 13/10 of them
DEFAULT_MAX_HEAP = 96 * MIB * 13 // 10
LEAST_INITIAL = (4 * MIB + 1 * MIB) * 13 // 10
SERVER_MEMORY, SERVER_CPUS = 1792 * MIB, 2  # 2 GiB less 256 MiB that may be "missing"
MAX_RAM, MIN_RAM, INITIAL_RAM = 25.0, 50.0, 1.5625  # percentages
CODE_CACHE = 240 * MIB  # ReservedCodeCacheSize with tiered compilation, 5 x 48 MiB
STACK = 1 * MIB  # ThreadStackSize on Linux, x86-64
MIN_HEAP_FREE = 40.0  # MinHeapFreeRatio
NEW_RATIO = 2  # the old generation is twice the young one (Serial, Parallel)
G1_LEAST_YOUNG = 0.05  # G1NewSizePercent
SINGLE_BITMAP = 20  # JDK-8210708: G1 marks with one bitmap instead of two


@dataclass(frozen=True)
class Heap:
    """Sizes of the heap in bytes, and how they came about."""

    initial: int
    most: int
    why: str


def collector_of(flags: JvmFlags, facts: Facts) -> str:
    """The collector: the one asked for, else G1 on a server-class machine and Serial on others.

    Worked example
    --------------
    4 CPUs and a limit of 1 GiB: Serial. 2 CPUs and 1792 MiB: G1.
    """
    cpus = int(flags.numbers.get("ActiveProcessorCount", facts.cpus))
    server = cpus >= SERVER_CPUS and facts.physical >= SERVER_MEMORY
    return flags.collector or ("G1" if server else "Serial")


def heap_of(flags: JvmFlags, facts: Facts) -> Heap:
    """The heap's initial and highest size (Arguments::set_heap_size()).

    Worked example
    --------------
    A limit of 1 GiB without flags: a quarter, 256 MiB; initially 1/64 of it, 16 MiB. Of 200 MiB
    half would be 100 MiB, less than the 124.8 MiB that MaxHeapSize starts from, so it is half:
    100 MiB. Of 400 MiB half is more, a quarter less: 124.8 MiB, aligned 126 MiB.
    """
    see = flags.switches.get("UseContainerSupport", True)
    memory = min(facts.physical if see else facts.memory, flags.sizes.get("MaxRAM", 128 << 30))
    of = f"{format_bytes(memory)} ({facts.called if see else 'the node, no container support'})"
    most = flags.sizes.get("MaxHeapSize")
    why = "-Xmx"
    if most is None:
        percent = flags.numbers.get("MaxRAMPercentage", MAX_RAM)
        least = flags.numbers.get("MinRAMPercentage", MIN_RAM)
        most, why = int(memory * percent / 100), f"MaxRAMPercentage {percent:g} % of {of}"
        if memory * least / 100 < DEFAULT_MAX_HEAP:
            most, why = int(memory * least / 100), f"MinRAMPercentage {least:g} % of {of}"
        elif most < DEFAULT_MAX_HEAP:
            most, why = DEFAULT_MAX_HEAP, f"the least, as {percent:g} % of {of} is below it"
        most = max(most, flags.sizes.get("InitialHeapSize", 0))
    initial = flags.sizes.get("InitialHeapSize")
    if initial is None:
        percent = flags.numbers.get("InitialRAMPercentage", INITIAL_RAM)
        initial = max(int(memory * percent / 100), LEAST_INITIAL)
    most = rounded_up(most, ALIGNMENT)
    return Heap(min(rounded_up(initial, ALIGNMENT), most), most, why)


def metadata_of(collector: str, heap: int, version: int) -> int:
    """What the collector itself needs for a heap of a size [bytes].

    A card of a byte for each 512 (Serial, Parallel, G1), a block offset of a byte for each 512
    (Serial, G1), and mark bitmaps: one bit for each 8 bytes (G1: 1/64, twice before JDK 20),
    Parallel's begin and end bits 1/32. Z keeps its live map and forwarding in the pages it
    collects. Remembered sets and task queues come on top and are not counted.

    Worked example
    --------------
    G1 with 1 GiB on JDK 21: 16 MiB + 2 MiB + 2 MiB = 20 MiB.
    """
    cards = heap // 512
    if collector == "G1":
        return heap // 64 * (1 if version >= SINGLE_BITMAP else 2) + 2 * cards
    if collector == "Parallel":
        return heap // 32 + cards
    return 2 * cards if collector == "Serial" else 0


def expand_jvm(jvm: Jvm, facts: Facts) -> Expansion:
    """Regions, scans and sums of a JVM."""
    flags = parse_jvm(shlex.split(jvm.flags))
    heap, collector = heap_of(flags, facts), collector_of(flags, facts)
    out = Expansion(threads=jvm.threads)
    named = f"{collector} collector" + ("" if flags.collector else " (by CPUs and memory)")
    out.notes.append(f"{named}, heap at most {format_bytes(heap.most)}: {heap.why}")
    live = _live(jvm, heap, out)
    capacity = _capacity(jvm, flags, heap, collector, live, out)
    _heap(jvm, heap, live, capacity, out)
    _rest(jvm, flags, heap, collector, capacity, out)
    every = jvm.mark_every or Dist[int](constant=_mark_every(jvm, collector, flags, live, capacity))
    if live > 0 and every.middle > 0:
        out.phases = scans("old", live, every, jvm.scan_rate)
        how = "" if jvm.mark_every else ", when promotion has filled the old generation"
        out.notes.append(f"all live data are marked each {every.middle / NS_PER_S:.3g} s{how}")
    out.note_access(jvm)
    return out


def _live(jvm: Jvm, heap: Heap, out: Expansion) -> int:
    if jvm.live <= heap.most:
        return int(jvm.live)
    message = (
        f"{format_bytes(jvm.live)} of live data are more than the highest heap of "
        f"{format_bytes(heap.most)} ({heap.why}): java.lang.OutOfMemoryError, which no limit of "
        "the container prevents"
    )
    out.warnings.append((message, f"-Xmx above {format_bytes(jvm.live)}"))
    return heap.most


def _capacity(
    jvm: Jvm, flags: JvmFlags, heap: Heap, collector: str, live: int, out: Expansion
) -> int:
    """Heap that is in use at its highest, once the program has run for long.

    Serial and G1 keep 40 % of the heap free after a full mark (MinHeapFreeRatio); Parallel's
    adaptive policy and Z take new memory before they collect harder, up to -Xmx.
    """
    if jvm.committed is not None:
        out.notes.append(f"heap in use: {format_bytes(jvm.committed)}, as measured")
        return min(max(jvm.committed, live), heap.most)
    free = flags.numbers.get("MinHeapFreeRatio", MIN_HEAP_FREE)
    if collector in ("Parallel", "Z") or free >= 100:
        out.notes.append(f"heap in use: all of it, as {collector} grows it before it works harder")
        return heap.most
    wanted = rounded_up(live / (1 - free / 100), ALIGNMENT)
    capacity = min(max(wanted, heap.initial), heap.most)
    out.notes.append(
        f"heap in use: {format_bytes(capacity)}, live data of {format_bytes(live)} with "
        f"{free:g} % free after a mark, within {format_bytes(heap.initial)} and "
        f"{format_bytes(heap.most)}"
    )
    return capacity


def _heap(jvm: Jvm, heap: Heap, live: int, capacity: int, out: Expansion) -> None:
    """Live data, and the rest of the heap, which allocation runs through in order."""
    rest = capacity - live
    access = busy(jvm.allocation_rate if jvm.access_rate is None else jvm.access_rate)
    if live > 0 or jvm.growth > 0:
        limit = heap.most - rest if jvm.growth > 0 else None
        out.regions["old"] = region(live, access, growth=jvm.growth, limit=limit)
    if rest > 0:
        out.regions["young"] = region(rest, busy(jvm.allocation_rate, "cyclic"))
    out.most += heap.most
    out.parts.append(f"heap {format_bytes(heap.most)}")


def _rest(
    jvm: Jvm, flags: JvmFlags, heap: Heap, collector: str, capacity: int, out: Expansion
) -> None:
    sizes = flags.sizes
    top = metadata_of(collector, heap.most, jvm.version)
    out.add("gc", metadata_of(collector, capacity, jvm.version), most=top)
    metaspace = min(jvm.metaspace, sizes.get("MaxMetaspaceSize", jvm.metaspace))
    out.add("metaspace", metaspace, busy(float(metaspace) / 10))
    code = min(jvm.code_cache, sizes.get("ReservedCodeCacheSize", CODE_CACHE))
    out.add("codecache", code, busy(float(code) / 2))
    stack = min(jvm.stack, sizes.get("ThreadStackSize", STACK))
    out.add("stacks", stack * jvm.threads)
    direct = min(jvm.direct, sizes.get("MaxDirectMemorySize", heap.most))
    out.add("direct", direct)
    out.add("native", jvm.native)
    unsaid = [n for n in ("metaspace", "code_cache", "stack") if n not in jvm.model_fields_set]
    if unsaid:
        shown = ", ".join(f"{n} {format_bytes(getattr(jvm, n))}" for n in unsaid)
        out.notes.append(f"{shown} (assumed; native memory tracking shows them)")


def _mark_every(jvm: Jvm, collector: str, flags: JvmFlags, live: int, capacity: int) -> int:
    """Time in which promotion fills what the old generation has beside the live data [ns]."""
    promotion = jvm.allocation_rate * jvm.promoted
    if promotion <= 0:
        return 0
    ratio = int(flags.numbers.get("NewRatio", NEW_RATIO))
    young = {"G1": G1_LEAST_YOUNG, "Z": 0.0}.get(collector, 1 / (ratio + 1)) * capacity
    room = max(capacity - live - young, G1_LEAST_YOUNG * capacity)
    return round(room / promotion * NS_PER_S)
