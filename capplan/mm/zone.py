"""Zones: their sizes, the lowmem reserve, and the order in which they are tried.

Algorithm::

    sizes      RAM below 4 GiB is DMA + DMA32, the rest is Normal; managed = present - boot's share
    reserve    reserve[i][j] = sum(managed of i+1..j) // ratio[i]      for j > i, else 0
    zonelist   own node first, then the others; in each node from the highest zone down

A zone's index in ``k.zone`` is ``node * ZONES_PER_NODE + type``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import (
    PAGE_SIZE,
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_NAMES,
    ZONE_NORMAL,
    ZONES_PER_NODE,
)

__all__ = [
    "DEFAULT_LOWMEM_RESERVE_RATIO",
    "ZoneSize",
    "next_zone",
    "setup_per_zone_lowmem_reserve",
    "zonelist",
    "zones_from_ram",
]

# mm/page_alloc.c, sysctl_lowmem_reserve_ratio: DMA, DMA32, Normal, Movable.
DEFAULT_LOWMEM_RESERVE_RATIO = (256, 256, 32, 0)

GIB = 1 << 30

# arch/x86/mm/init.c, zone_sizes_init: DMA ends at 16 MiB; page 0 is never used, and the hole
# from 640 KiB (639 KiB usable) to 1 MiB leaves 158 + 3840 pages. The first 1 MiB is always
# reserved (since 5.13), so 3840 are managed.
DMA_SPANNED, DMA_PRESENT, DMA_MANAGED = 4095, 3998, 3840
DMA_END = 4096
DMA32_END = 1048576
STRUCT_PAGE_BYTES = 64
# What boot takes besides the memmap: estimates of the reference (section 1.2), not kernel
# constants, but for swiotlb's 64 MiB (IO_TLB_DEFAULT_SIZE).
KERNEL_IMAGE_PAGES = 24576
# Measured: Debian's 6.1 and 6.12 keep 38 to 48 MiB on machines of 256 MiB to 1 GiB (the boot
# zones of tests/recordings); where all RAM is below the hole, 96 MiB would be a fifth of it.
KERNEL_IMAGE_PAGES_SMALL = 11264
SWIOTLB_PAGES = 16384


@dataclass(frozen=True)
class ZoneSize:
    """One populated zone [pages]."""

    node: int
    type: int  # ZONE_DMA .. ZONE_MOVABLE
    spanned: int
    present: int
    managed: int

    @property
    def name(self) -> str:
        """The zone's name in /proc/zoneinfo."""
        return ZONE_NAMES[self.type]


def zones_from_ram(
    ram_bytes: int,
    low_top_bytes: int = 3 * GIB,
    swiotlb: bool = True,
    numa_bytes: Sequence[int] | None = None,
) -> tuple[ZoneSize, ...]:
    """Zones of an x86-64 machine, from its RAM.

    Parameters
    ----------
    ram_bytes : int
        Installed RAM. [bytes]
    low_top_bytes : int, default 3 GiB
        Where the PCI hole below 4 GiB begins; RAM above it is moved to 4 GiB. [bytes]
    swiotlb : bool, default True
        64 MiB of bounce buffers below 4 GiB, taken when RAM extends above it.
    numa_bytes : sequence of int, optional
        RAM of each node, node 0 first; their sum is `ram_bytes`. Default: one node. [bytes]

    Returns
    -------
    tuple of ZoneSize
        Populated zones, by node and type.

    Raises
    ------
    ValueError
        If the RAM cannot hold what boot takes, or the nodes do not add up.

    Kernel
    ------
    arch/x86/mm/init.c, zone_sizes_init(); mm/mm_init.c, free_area_init().

    Departs from the kernel
    -----------------------
    The shares of boot (memmap, hash tables, image) are estimates; a captured node brings its
    own managed counts.

    Worked example
    --------------
    16 GiB, hole at 3 GiB: DMA 3998 present, 3840 managed; DMA32 782336 and 765952;
    Normal 3407872 and 3311616; together 4081408 managed pages.
    """
    shares = tuple(numa_bytes) if numa_bytes else (ram_bytes,)
    if sum(shares) != ram_bytes:
        msg = f"the nodes' RAM adds up to {sum(shares)} bytes, not {ram_bytes}"
        raise ValueError(msg)
    low = min(shares[0], low_top_bytes)
    high_pages = (shares[0] - low) // PAGE_SIZE
    low_pages = low // PAGE_SIZE - DMA_END
    above = high_pages > 0 or len(shares) > 1
    # memblock gives from the top: Normal pays as far as it goes, DMA32 the rest
    hashes = ram_bytes // 1024 // PAGE_SIZE + ram_bytes // 2048 // PAGE_SIZE
    taken = (
        _memmap_pages(shares[0])
        + hashes
        + (KERNEL_IMAGE_PAGES if above else KERNEL_IMAGE_PAGES_SMALL)
    )
    high_taken = min(taken, high_pages)
    low_taken = taken - high_taken + (SWIOTLB_PAGES if swiotlb and above else 0)
    if low_taken >= low_pages:
        msg = f"{ram_bytes} bytes of RAM are too little: booting takes {low_taken} of {low_pages} "
        msg += "pages"
        raise ValueError(msg)
    spanned = DMA32_END - DMA_END if above else low_pages
    zones = [
        ZoneSize(0, ZONE_DMA, DMA_SPANNED, DMA_PRESENT, DMA_MANAGED),
        ZoneSize(0, ZONE_DMA32, spanned, low_pages, low_pages - low_taken),
    ]
    if high_pages > 0:
        zones.append(ZoneSize(0, ZONE_NORMAL, high_pages, high_pages, high_pages - high_taken))
    for node, share in enumerate(shares[1:], start=1):
        pages = share // PAGE_SIZE
        zones.append(ZoneSize(node, ZONE_NORMAL, pages, pages, pages - _memmap_pages(share)))
    return tuple(zones)


def _memmap_pages(ram_bytes: int) -> int:
    """Pages of a node's memmap: one 64-byte struct page per page."""
    return -(-(ram_bytes // PAGE_SIZE) * STRUCT_PAGE_BYTES // PAGE_SIZE)


def setup_per_zone_lowmem_reserve(
    k: Any, ratios: Sequence[int] = DEFAULT_LOWMEM_RESERVE_RATIO
) -> None:
    """Set what each zone keeps from requests that could use a higher zone.

    Parameters
    ----------
    k : kernel_t
        ``zone[].managed`` is read, ``zone[].reserve`` written. [pages]
    ratios : sequence of int
        vm.lowmem_reserve_ratio for DMA, DMA32, Normal, Movable; below 1 means no reserve.

    Kernel
    ------
    mm/page_alloc.c, setup_per_zone_lowmem_reserve().

    Worked example
    --------------
    Managed 3840, 765952, 3311616, 0: DMA keeps (0, 2992, 15928, 15928), DMA32
    (0, 0, 12936, 12936), Normal nothing.
    """
    for node in range(int(k.nr_nodes)):
        zones = [k.zone[node * ZONES_PER_NODE + t] for t in range(ZONES_PER_NODE)]
        managed = [int(zone.managed) for zone in zones]
        for i, zone in enumerate(zones):
            clear = ratios[i] < 1 or managed[i] == 0
            above = 0
            zone.reserve[: i + 1] = 0
            for j in range(i + 1, ZONES_PER_NODE):
                above += managed[j]
                zone.reserve[j] = 0 if clear else above // ratios[i]


@jit
def next_zone(k: Any, z: int, node: int, hz: int) -> int:
    """Zone after `z` in the zonelist of `node` for requests up to zone type `hz`.

    Start with ``z = -1``; -1 is the end. Empty zones are left out::

        z = next_zone(k, -1, node, hz)
        while z >= 0:
            ...
            z = next_zone(k, z, node, hz)

    Kernel
    ------
    mm/page_alloc.c, build_zonelists(), build_zonerefs_node().

    Departs from the kernel
    -----------------------
    All other nodes are equally far away: they follow in ascending order.
    """
    if z < 0:
        n = node
        t = hz + 1
    else:
        n = z // ZONES_PER_NODE
        t = z % ZONES_PER_NODE
    while True:
        t -= 1
        if t < 0:
            n = 0 if n == node else n + 1
            if n == node:
                n += 1
            if n >= k.nr_nodes:
                return -1
            t = hz
        if k.zone[n * ZONES_PER_NODE + t].managed > 0:
            return n * ZONES_PER_NODE + t


def zonelist(k: Any, node: int, hz: int) -> tuple[int, ...]:
    """The zones :func:`next_zone` walks, as a tuple (plain Python: set-up and reports)."""
    nodes = [node, *(n for n in range(int(k.nr_nodes)) if n != node)]
    return tuple(
        n * ZONES_PER_NODE + t
        for n in nodes
        for t in range(hz, -1, -1)
        if k.zone[n * ZONES_PER_NODE + t].managed > 0
    )
