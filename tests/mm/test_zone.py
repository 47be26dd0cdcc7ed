"""Zones: sizes from RAM, the lowmem reserve, the zonelist."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.mm import state, zone
from capplan.mm._jit import entry

pytestmark = pytest.mark.small

GIB = 1 << 30
DMA, DMA32, NORMAL, MOVABLE = range(4)


def kernel(*nodes: tuple[int, int, int, int]) -> Any:
    """A kernel with the managed pages of DMA, DMA32, Normal and Movable of each node."""
    k = state.new_kernel()[0]
    k.nr_nodes = len(nodes)
    for node, managed in enumerate(nodes):
        for t, pages in enumerate(managed):
            k.zone[node * 4 + t].managed = k.zone[node * 4 + t].present = pages
    return k


def reserves(k: Any, node: int = 0) -> list[list[int]]:
    return [[int(pages) for pages in k.zone[node * 4 + t].reserve] for t in range(4)]


def test_zones_from_ram_16_gib() -> None:
    dma, dma32, normal = zone.zones_from_ram(16 * GIB)
    assert (dma.name, dma.spanned, dma.present, dma.managed) == ("DMA", 4095, 3998, 3840)
    assert (dma32.name, dma32.present, dma32.managed) == ("DMA32", 782336, 765952)
    assert dma32.spanned == 1048576 - 4096  # up to 4 GiB, with the hole
    assert (normal.name, normal.present, normal.managed) == ("Normal", 3407872, 3311616)
    assert dma.managed + dma32.managed + normal.managed == 4081408


def test_zones_from_ram_below_the_hole_has_no_normal_and_no_swiotlb() -> None:
    dma, dma32 = zone.zones_from_ram(1 * GIB)
    assert dma.type == DMA
    # memmap 4096, hashes 384, image 11264
    assert (dma32.spanned, dma32.present, dma32.managed) == (258048, 258048, 258048 - 15744)


@pytest.mark.parametrize(
    ("mib", "managed"),  # as 6.1.0-56-amd64 and 6.12 booted: tests/recordings, boot.zones
    [(1024, 245936), (1024, 247696), (512, 117104), (512, 118864), (256, 52688), (256, 54448)],
)
def test_zones_from_ram_are_near_a_small_machine_that_booted(mib: int, managed: int) -> None:
    assert sum(z.managed for z in zone.zones_from_ram(mib << 20)) == pytest.approx(
        managed, abs=7 << 8
    )


def test_zones_from_ram_without_swiotlb() -> None:
    assert zone.zones_from_ram(16 * GIB, swiotlb=False)[1].managed == 782336


def test_zones_from_ram_with_another_hole() -> None:
    _, dma32, normal = zone.zones_from_ram(16 * GIB, low_top_bytes=2 * GIB)
    assert dma32.present == 2 * GIB // 4096 - 4096
    assert normal.present == 14 * GIB // 4096


def test_zones_from_ram_little_above_the_hole_takes_the_rest_from_dma32() -> None:
    _, dma32, normal = zone.zones_from_ram(3 * GIB + 4096 * 100)
    assert (normal.present, normal.managed) == (100, 0)
    # memmap 12290, hashes 1152, image 24576 less 100, and swiotlb 16384
    assert dma32.managed == 782336 - (12290 + 1152 + 24576 - 100) - 16384


def test_zones_from_ram_two_nodes() -> None:
    zones = zone.zones_from_ram(16 * GIB, numa_bytes=[8 * GIB, 8 * GIB])
    assert [(z.node, z.name) for z in zones] == [
        (0, "DMA"),
        (0, "DMA32"),
        (0, "Normal"),
        (1, "Normal"),
    ]
    assert zones[3].present == 2097152
    assert zones[3].managed == 2097152 - 32768  # its own memmap
    assert sum(z.managed for z in zones) == 4081408


def test_zones_from_ram_nodes_that_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="adds up to 5368709120 bytes, not 4294967296"):
        zone.zones_from_ram(4 * GIB, numa_bytes=[4 * GIB, GIB])


@pytest.mark.parametrize("mib", [1, 50])
def test_zones_from_ram_too_little(mib: int) -> None:
    with pytest.raises(
        ValueError, match=r"bytes of RAM are too little: booting takes \d+ of -?\d+ pages"
    ):
        zone.zones_from_ram(mib << 20)


@given(st.integers(200 << 20, 4 << 40))
def test_zones_from_ram_managed_fits_in_present_in_spanned(ram: int) -> None:
    zones = zone.zones_from_ram(ram)
    assert all(0 <= z.managed <= z.present <= z.spanned for z in zones)
    assert all(z.managed > 0 for z in zones[:2])
    # all RAM is in a zone, but page 0 and the hole below 1 MiB, and parts of a page
    assert ram // 4096 - 4096 <= sum(z.present for z in zones[1:]) + 1 <= ram // 4096 - 4095


def test_setup_per_zone_lowmem_reserve_16_gib() -> None:
    k = kernel((3840, 765952, 3311616, 0))
    zone.setup_per_zone_lowmem_reserve(k)
    assert reserves(k) == [
        [0, 2992, 15928, 15928],
        [0, 0, 12936, 12936],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_setup_per_zone_lowmem_reserve_as_on_a_live_6_18() -> None:
    k = kernel((3840, 772917, 1015808, 0))
    zone.setup_per_zone_lowmem_reserve(k)
    assert reserves(k)[:2] == [[0, 3019, 6987, 6987], [0, 0, 3968, 3968]]


def test_setup_per_zone_lowmem_reserve_looks_at_one_node_only() -> None:
    k = kernel((3840, 765952, 1000000, 0), (0, 0, 2000000, 500000))
    zone.setup_per_zone_lowmem_reserve(k)
    assert reserves(k)[1] == [0, 0, 3906, 3906]
    assert reserves(k, 1) == [[0] * 4, [0] * 4, [0, 0, 0, 15625], [0] * 4]


def test_setup_per_zone_lowmem_reserve_ratio_zero_is_no_reserve() -> None:
    k = kernel((3840, 765952, 3311616, 0))
    zone.setup_per_zone_lowmem_reserve(k)
    zone.setup_per_zone_lowmem_reserve(k, (0, 128, 32, 0))
    assert reserves(k)[:2] == [[0] * 4, [0, 0, 25872, 25872]]


@entry
def walk(k: Any, node: int, hz: int, out: Any) -> int:
    n = 0
    z = zone.next_zone(k, -1, node, hz)
    while z >= 0:
        out[n] = z
        n += 1
        z = zone.next_zone(k, z, node, hz)
    return n


@pytest.mark.parametrize(
    ("nodes", "node", "hz", "expected"),
    [
        ([(1, 1, 1, 0)], 0, MOVABLE, [2, 1, 0]),
        ([(1, 1, 1, 1)], 0, MOVABLE, [3, 2, 1, 0]),
        ([(1, 1, 1, 1)], 0, DMA32, [1, 0]),
        ([(1, 1, 1, 0), (0, 0, 1, 0)], 0, MOVABLE, [2, 1, 0, 6]),
        ([(1, 1, 1, 0), (0, 0, 1, 0)], 1, MOVABLE, [6, 2, 1, 0]),
        ([(1, 1, 0, 0), (0, 0, 1, 1), (0, 0, 1, 0)], 1, NORMAL, [6, 1, 0, 10]),
        ([(0, 0, 0, 0)], 0, MOVABLE, []),
    ],
)
def test_next_zone_walks_own_node_first_and_down(
    nodes: list[tuple[int, int, int, int]], node: int, hz: int, expected: list[int]
) -> None:
    k = kernel(*nodes)
    out = np.full(16, -1, np.int64)
    assert out[: walk(k, node, hz, out)].tolist() == expected
    assert list(zone.zonelist(k, node, hz)) == expected
