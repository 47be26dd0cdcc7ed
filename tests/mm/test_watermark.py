"""Watermarks: golden values of real kernels, worked numbers, and the test's monotony."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.mm import state, watermark, zone
from capplan.mm._jit import entry

pytestmark = pytest.mark.small

REF16 = (3840, 765952, 3311616, 0)
DMA, DMA32, NORMAL, MOVABLE = range(4)


def kernel(*nodes: tuple[int, int, int, int], movable_excluded: int = 1) -> Any:
    """A kernel with the managed pages of DMA, DMA32, Normal and Movable of each node."""
    k = state.new_kernel()[0]
    k.nr_nodes = len(nodes)
    k.watermark_scale_factor = 10
    k.watermark_boost_factor = 15000
    k.movable_excluded = movable_excluded
    for node, managed in enumerate(nodes):
        for t, pages in enumerate(managed):
            k.zone[node * 4 + t].managed = k.zone[node * 4 + t].present = pages
    zone.setup_per_zone_lowmem_reserve(k)
    return k


def marks(k: Any, z: int) -> tuple[int, ...]:
    return tuple(int(pages) for pages in k.zone[z].wmark)


# --- min_free_kbytes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gib", "kib"),
    # 1 GiB: 3860 with 96 MiB for the kernel's image, as the others; boots leave out 44 (mm/zone.py)
    [(1, 3969), (4, 7957), (8, 11370), (16, 16161), (64, 32446), (256, 64953), (1024, 129937)],
)
def test_calculate_min_free_kbytes_by_ram(gib: int, kib: int) -> None:
    managed = [0, 0, 0, 0]
    for size in zone.zones_from_ram(gib << 30):
        managed[size.type] = size.managed
    k = kernel((managed[0], managed[1], managed[2], managed[3]))
    assert watermark.calculate_min_free_kbytes(k) == kib


def test_calculate_min_free_kbytes_is_clamped() -> None:
    k = kernel((3840, 765952, 1 << 32, 0))
    assert watermark.calculate_min_free_kbytes(k) == 262144
    k.min_free_kbytes = 0
    assert watermark.calculate_min_free_kbytes(k, ceiling=65536) == 65536
    assert watermark.calculate_min_free_kbytes(kernel((0, 100, 0, 0))) == 128


def test_calculate_min_free_kbytes_leaves_a_larger_value_of_the_user() -> None:
    k = kernel(REF16)
    watermark.write_min_free_kbytes(k, 50000)
    assert watermark.calculate_min_free_kbytes(k) == 50000


@pytest.mark.parametrize(
    ("nodes", "kib"),
    [
        ([REF16], 67584),
        ([(3840, 765952, 0, 0)], 45056),
        ([REF16, (0, 0, 3311616, 0)], 90112),
    ],
)
def test_set_recommended_min_free_kbytes_by_zones(
    nodes: list[tuple[int, int, int, int]], kib: int
) -> None:
    k = kernel(*nodes)
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert int(k.min_free_kbytes) == kib


def test_set_recommended_min_free_kbytes_takes_at_most_a_twentieth() -> None:
    """1 GiB on 6.1, as recorded: 45056 KiB would be 11264 pages, less than a twentieth."""
    k = kernel((3840, 241525, 0, 0))
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert int(k.min_free_kbytes) == 45056
    small = kernel((3840, 150000, 0, 0))
    watermark.calculate_min_free_kbytes(small)
    watermark.setup_per_zone_wmarks(small)
    lowmem = watermark.nr_free_buffer_pages(small)
    assert watermark.set_recommended_min_free_kbytes(small) == lowmem // 20 * 4


def test_init_per_zone_wmark_min_without_thp_or_below_512_mib_is_the_square_root() -> None:
    k = kernel(REF16)
    watermark.init_per_zone_wmark_min(k, thp=False)
    assert int(k.min_free_kbytes) == 16161
    small = kernel((3840, 120000, 0, 0))
    watermark.init_per_zone_wmark_min(small, thp=True)
    assert int(small.min_free_kbytes) == 2815


def test_write_min_free_kbytes_wins_over_khugepaged() -> None:
    k = kernel(REF16)
    watermark.init_per_zone_wmark_min(k, thp=True)
    watermark.write_min_free_kbytes(k, 4096)
    assert int(k.min_free_kbytes) == 4096
    assert sum(marks(k, z)[0] for z in (DMA, DMA32, NORMAL)) in range(1022, 1025)


# --- marks --------------------------------------------------------------------------------


def test_setup_per_zone_wmarks_16_gib() -> None:
    k = kernel(REF16)
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert marks(k, DMA)[:3] == (15, 18, 21)
    assert marks(k, DMA32)[:3] == (3170, 3962, 4754)
    assert marks(k, NORMAL) == (13709, 17136, 20563, 23990)


def test_setup_per_zone_wmarks_as_on_a_live_6_18() -> None:
    k = kernel((3840, 772917, 1015808, 0))
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert marks(k, DMA) == (36, 45, 54, 63)
    assert marks(k, DMA32) == (7285, 9106, 10927, 12748)
    assert marks(k, NORMAL) == (9574, 11967, 14360, 16753)
    assert marks(k, MOVABLE) == (32, 32, 32, 32)


def test_setup_per_zone_wmarks_after_memory_grew_on_a_live_6_18() -> None:
    k = kernel((3840, 772917, 1671168, 0))
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert marks(k, DMA)[:3] == (26, 32, 38)
    assert marks(k, DMA32)[1:3] == (6667, 8000)
    assert marks(k, NORMAL)[1:3] == (14417, 17300)
    assert int(k.total_reserve) == 35668
    assert watermark.si_mem_available(k, 4761394, 931912, 71116) == 5686458


def test_setup_per_zone_wmarks_as_recorded_on_6_1() -> None:
    """A 1 GiB node; its DMA protection of 931 tells DMA32's managed pages at boot."""
    k = kernel((3840, 931 * 256, 0, 0), movable_excluded=0)
    watermark.write_min_free_kbytes(k, 45056)
    assert int(k.zone[DMA].reserve[MOVABLE]) == 931
    assert marks(k, DMA)[:3] == (178, 222, 266)
    assert marks(k, DMA32)[:3] == (11085, 13856, 16627)
    assert marks(k, MOVABLE) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("managed", "expected"), [(0, 32), (20000, 32), (100000, 97), (4000000, 128)]
)
def test_setup_per_zone_wmarks_movable_excluded(managed: int, expected: int) -> None:
    k = kernel((3840, 765952, 1000000, managed))
    alone = kernel((3840, 765952, 1000000, 0))
    for each in (k, alone):
        watermark.write_min_free_kbytes(each, 67584)
    assert marks(k, MOVABLE)[0] == expected
    assert marks(k, NORMAL) == marks(alone, NORMAL)


def test_setup_per_zone_wmarks_movable_not_excluded_shares() -> None:
    k = kernel((3840, 765952, 1000000, 1000000), movable_excluded=0)
    watermark.write_min_free_kbytes(k, 67584)
    assert marks(k, MOVABLE) == marks(k, NORMAL)


@pytest.mark.parametrize(
    ("managed", "minimum", "factor", "low", "high"),
    [
        # Kubernetes' swap-tuning post: zoneinfo of an 8 GB node, two settings
        (1265603, 10504, 10, 13130, 15756),
        (1274542, 82109, 2000, 337017, 591925),
        # before the scale factor: 4.4.0
        (1000000, 4002, 0, 5002, 6003),
    ],
)
def test_zone_marks_of_real_nodes(
    managed: int, minimum: int, factor: int, low: int, high: int
) -> None:
    assert watermark.zone_marks(managed, minimum, factor)[:3] == (minimum, low, high)


def test_calculate_totalreserve_pages_16_gib() -> None:
    k = kernel(REF16)
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert int(k.total_reserve) == 3840 + 17690 + 20563 == 42093


def test_calculate_totalreserve_pages_per_node() -> None:
    k = kernel(REF16, (0, 0, 3311616, 0))
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert int(k.node[1].totalreserve) == marks(k, 6)[2]
    assert int(k.total_reserve) == int(k.node[0].totalreserve) + int(k.node[1].totalreserve)


def test_set_zone_wmarks_keeps_what_was_captured() -> None:
    k = kernel(REF16)
    watermark.set_zone_wmarks(k, NORMAL, 100, 200, 300, boost=512)
    assert marks(k, NORMAL) == (100, 200, 300, 400)
    assert int(k.zone[NORMAL].boost) == 512


def test_si_mem_available_is_never_negative() -> None:
    k = kernel(REF16)
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert watermark.si_mem_available(k, 100, 0, 0) == 0


def test_node_thresholds_16_gib() -> None:
    k = kernel(REF16)
    watermark.init_per_zone_wmark_min(k, thp=True)
    found = watermark.node_thresholds(k)
    assert (found.wake_kswapd, found.direct_reclaim) == (37874, 33655)
    assert found.kswapd_stops == ((DMA, 15949), (DMA32, 17690), (NORMAL, 20563))


# --- the test -----------------------------------------------------------------------------


@entry
def ok(k: Any, z: int, order: int, mark: int, hz: int, flags: int) -> bool:
    return watermark.zone_watermark_ok(k, z, order, mark, hz, flags)


@entry
def fast(k: Any, z: int, order: int, wmark: int, hz: int, flags: int) -> bool:
    return watermark.zone_watermark_fast(k, z, order, wmark, hz, flags)


@entry
def boost(k: Any, z: int) -> bool:
    return watermark.boost_watermark(k, z)


ATOMIC = watermark.ALLOC_MIN_RESERVE | watermark.ALLOC_NON_BLOCK


def least_free(k: Any, mark: int, flags: int, hz: int = MOVABLE, order: int = 0) -> int:
    """Smallest number of free pages with which the test passes."""
    low, high = -1, 1 << 24
    while high - low > 1:
        k.zone[NORMAL].free = middle = (low + high) // 2
        if ok(k, NORMAL, order, mark, hz, flags):
            high = middle
        else:
            low = middle
    return high


@pytest.mark.parametrize(
    ("flags", "bound"),
    [
        (0, 16896),
        (watermark.ALLOC_NON_BLOCK, 16896),
        (watermark.ALLOC_MIN_RESERVE, 8448),
        (ATOMIC, 6336),
        (watermark.ALLOC_OOM, 8448),
        (watermark.ALLOC_OOM | ATOMIC, 3168),
    ],
)
def test_zone_watermark_ok_wants_more_than_the_bound(flags: int, bound: int) -> None:
    assert least_free(kernel(REF16), 16896, flags) == bound + 1


def test_zone_watermark_ok_without_watermarks_passes_always() -> None:
    k = kernel(REF16)
    k.zone[NORMAL].free = 0
    assert ok(k, NORMAL, 0, 16896, MOVABLE, watermark.ALLOC_NO_WATERMARKS)


def test_zone_watermark_ok_adds_the_reserve_of_the_requests_highest_zone() -> None:
    k = kernel((3840, 765952, 3311616, 0))
    k.zone[NORMAL].reserve[MOVABLE] = 500
    assert least_free(k, 1000, 0, hz=NORMAL) == 1001
    assert least_free(k, 1000, 0, hz=MOVABLE) == 1501


def test_zone_watermark_ok_leaves_free_highatomic_pages_to_reserves() -> None:
    k = kernel(REF16)
    k.zone[NORMAL].nr_free_highatomic, k.zone[NORMAL].nr_reserved_highatomic = 300, 512
    assert least_free(k, 1000, 0) == 1513
    k.highatomic_counts_free = 1
    assert least_free(k, 1000, 0) == 1301
    assert least_free(k, 1000, watermark.ALLOC_NON_BLOCK) == 1001


def test_zone_watermark_ok_order_needs_a_block() -> None:
    k = kernel(REF16)
    k.zone[NORMAL].free = 100000
    assert not ok(k, NORMAL, 3, 1000, MOVABLE, 0)
    k.zone[NORMAL].nr_free[2, state.MT_MOVABLE] = 9
    assert not ok(k, NORMAL, 3, 1000, MOVABLE, 0)
    k.zone[NORMAL].nr_free[10, state.MT_HIGHATOMIC] = 1
    assert not ok(k, NORMAL, 3, 1000, MOVABLE, 0)
    assert ok(k, NORMAL, 3, 1000, MOVABLE, watermark.ALLOC_HIGHATOMIC)
    assert ok(k, NORMAL, 3, 1000, MOVABLE, watermark.ALLOC_OOM)
    k.zone[NORMAL].nr_free[3, state.MT_RECLAIMABLE] = 1
    assert ok(k, NORMAL, 3, 1000, MOVABLE, 0)
    assert least_free(k, 1000, 0, order=3) == 1001 + 7


@pytest.mark.parametrize(
    ("wmark", "flags", "order", "expected"),
    [
        (state.WMARK_MIN, watermark.ALLOC_MIN_RESERVE, 0, True),
        (state.WMARK_MIN, 0, 0, False),
        (state.WMARK_LOW, watermark.ALLOC_MIN_RESERVE, 0, False),
        (state.WMARK_MIN, watermark.ALLOC_MIN_RESERVE, 1, False),
    ],
)
def test_zone_watermark_fast_atomic_pages_ignore_the_boost_of_min(
    wmark: int, flags: int, order: int, expected: bool
) -> None:
    k = kernel(REF16)
    watermark.set_zone_wmarks(k, NORMAL, 1000, 2000, 3000, boost=5000)
    k.zone[NORMAL].free = 800
    k.zone[NORMAL].nr_free[1, state.MT_MOVABLE] = 400
    assert fast(k, NORMAL, order, wmark, MOVABLE, flags) is expected


def test_zone_watermark_fast_adds_the_boost() -> None:
    k = kernel(REF16)
    watermark.set_zone_wmarks(k, NORMAL, 1000, 2000, 3000, boost=500)
    k.zone[NORMAL].free = 2500
    assert not fast(k, NORMAL, 0, state.WMARK_LOW, MOVABLE, 0)
    k.zone[NORMAL].free = 2501
    assert fast(k, NORMAL, 0, state.WMARK_LOW, MOVABLE, 0)


@given(
    free=st.integers(-100, 5000),
    more=st.integers(0, 5000),
    mark=st.integers(0, 4000),
    less=st.integers(0, 4000),
    flags=st.integers(0, 15),
    order=st.integers(0, 3),
)
def test_zone_watermark_ok_more_free_or_a_lower_mark_never_fails(
    free: int, more: int, mark: int, less: int, flags: int, order: int
) -> None:
    k = kernel(REF16)
    k.zone[NORMAL].nr_free[5, state.MT_MOVABLE] = 1
    k.zone[NORMAL].free = free
    if ok(k, NORMAL, order, mark, MOVABLE, flags):
        k.zone[NORMAL].free = free + more
        assert ok(k, NORMAL, order, max(mark - less, 0), MOVABLE, flags)


# --- boost --------------------------------------------------------------------------------


def test_boost_watermark_grows_by_pageblocks_up_to_the_cap() -> None:
    k = kernel((3840, 772917, 1015808, 0))
    watermark.init_per_zone_wmark_min(k, thp=True)
    assert marks(k, NORMAL)[2] == 14360
    assert boost(k, NORMAL)
    assert int(k.zone[NORMAL].boost) == 512
    for _ in range(60):
        boost(k, NORMAL)
    assert int(k.zone[NORMAL].boost) == 21540


def test_boost_watermark_is_one_pageblock_at_least() -> None:
    k = kernel(REF16)
    watermark.set_zone_wmarks(k, NORMAL, 10, 12, 14)
    boost(k, NORMAL)
    boost(k, NORMAL)
    assert int(k.zone[NORMAL].boost) == 512


@pytest.mark.parametrize(
    ("factor", "managed", "high"), [(0, 100000, 300), (15000, 2047, 300), (15000, 100000, 0)]
)
def test_boost_watermark_is_off(factor: int, managed: int, high: int) -> None:
    k = kernel((0, 0, managed, 0))
    k.watermark_boost_factor = factor
    watermark.set_zone_wmarks(k, NORMAL, 0, 0, high)
    assert not boost(k, NORMAL)
    assert int(k.zone[NORMAL].boost) == 0
