"""Dirty pages: limits, position ratio, estimates, pauses, and the flusher's order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.mm import page_alloc, state, writeback
from capplan.mm import page_writeback as pw
from capplan.mm.state import INIT_BW, NEVER_NS, NS_PER_MS, NS_PER_S, PG_DIRTY, PTE_PRESENT

pytestmark = pytest.mark.small

THRESH, BACKGROUND = 199951, 99853  # of 1,000,000 dirtyable pages
FREERUN = 149902
PAGE_NS = 10_000.0  # the device writes 100,000 pages/s
FILES = 3
FILE_PAGES = 8000


def kernel(dirtyable: int = 1_000_000) -> Any:
    """One zone whose ``dirtyable`` pages are all free, one device, no groups."""
    k = state.new_kernel()[0]
    k.nr_nodes, k.nr_zones, k.nr_disks, k.nr_memcgs, k.hz = 1, 4, 1, 1, 1000
    k.zone[2].managed, k.zone[2].free = 2 * dirtyable, dirtyable - 1
    k.dirty_ratio, k.dirty_background_ratio = 20, 10
    k.dirty_expire_ns, k.dirty_writeback_ns = 30 * NS_PER_S, 5 * NS_PER_S
    k.disk[0].write_ns_per_page = PAGE_NS
    k.nr_tasks = 1
    return k


def with_dirty(k: Any, pages: int) -> Any:
    """``pages`` of the node are dirty; the device has its whole share of the limits."""
    k.nr_dirty = k.disk[0].nr_dirty = pages
    k.disk[0].completions = k.completions = 1e6
    return k


def with_files(k: Any, *dirty: int) -> tuple[Any, Any, Any]:
    """Files of single pages, of each the first ``dirty`` are dirty."""
    fr = state.new_frames(FILES * FILE_PAGES)
    pt = state.new_entries(FILES * FILE_PAGES)
    k.nr_mappings = len(dirty)
    for m, pages in enumerate(dirty):
        mapping = k.mapping[m]
        mapping.kind, mapping.first_pte, mapping.nr_ptes = (
            state.MAP_FILE,
            m * FILE_PAGES,
            FILE_PAGES,
        )
        mapping.dirty_pages, mapping.dirtied_ns = pages, 0 if pages else NEVER_NS
        k.nr_dirty += pages
        k.node[0].nr_dirty += pages
        k.disk[0].nr_dirty += pages
        rows = slice(m * FILE_PAGES, m * FILE_PAGES + pages)
        fr["flags"][rows], fr["nr_pages"][rows], fr["memcg"][rows] = PG_DIRTY, 1, 0
        fr["mapping"][rows], fr["zone"][rows] = m, 2
        pt["state"][rows], pt["frame"][rows] = PTE_PRESENT, range(rows.start, rows.stop)
    return k, fr, pt


def turns(k: Any, fr: Any, pt: Any, until_ns: int = NEVER_NS) -> list[tuple[float, list[int]]]:
    """Let the flusher run: (time [s], dirty pages of each file) after each of its turns."""
    seen = []
    while k.flusher_due_ns <= until_ns and k.flusher_due_ns < NEVER_NS and len(seen) < 400:
        k.now_ns = k.flusher_due_ns
        k.work_ns = 0.0
        writeback.flusher_run(k, fr, pt)
        dirty = [int(k.mapping[m].dirty_pages) for m in range(int(k.nr_mappings))]
        seen.append((k.now_ns / NS_PER_S, dirty))
    return seen


# --- limits ---------------------------------------------------------------------------------


def test_limits_of_a_million_pages() -> None:
    k = kernel()
    assert pw.dirty_limits(k, 1_000_000) == (THRESH, BACKGROUND)
    assert (THRESH + BACKGROUND) // 2 == FREERUN


def test_limits_in_bytes_override_the_ratios_and_round_up() -> None:
    k = kernel()
    k.dirty_bytes, k.dirty_background_bytes = 4096 * 100 + 1, 4096 * 10
    assert pw.dirty_limits(k, 1_000_000) == (101, 10)


def test_a_background_limit_above_the_other_is_halved() -> None:
    k = kernel()
    k.dirty_background_ratio = 30
    assert pw.dirty_limits(k, 1_000_000) == (THRESH, THRESH // 2)


def test_the_reserve_is_not_dirtyable_and_file_cache_is() -> None:
    k = kernel()
    k.total_reserve = 100_000
    k.zone[2].lru_pages[2], k.zone[2].lru_pages[3] = 30_000, 20_000
    assert page_alloc.global_dirtyable(k) == 950_000


def test_domain_of_a_group() -> None:
    """50,000 pages of file cache, 10,000 dirty, room for 20,000: 70,000, 13996 and 6989."""
    k = kernel()
    k.nr_memcgs = 2
    group = k.memcg[1]
    group.parent = 0
    group.stat[state.ST_FILE], group.stat[state.ST_FILE_DIRTY] = 50_000, 10_000
    group.memory.max, group.memory.usage = 120_000, 100_000
    available, dirty = pw.memcg_domain(k, 1)
    assert (available, dirty) == (70_000, 10_000)
    assert pw.dirty_limits(k, available) == (13996, 6989)


def test_headroom_is_the_nearest_limit_above() -> None:
    k = kernel()
    k.nr_memcgs = 3
    k.memcg[1].parent, k.memcg[2].parent = 0, 1
    k.memcg[1].memory.high, k.memcg[1].memory.usage = 1500, 1000
    k.memcg[2].memory.max, k.memcg[2].memory.usage = 9000, 1000
    assert pw.memcg_domain(k, 2)[0] == 500


@pytest.mark.parametrize(("dirty", "fits"), [(200_000, True), (200_001, False)])
def test_node_dirty_ok(dirty: int, fits: bool) -> None:
    """vm.dirty_ratio of a node's own dirtyable memory: 20 % of 1,000,000 pages."""
    k = kernel(1_000_001)
    k.node[0].nr_dirty = dirty
    assert bool(page_alloc.node_dirty_ok(k, 0)) is fits


# --- position ratio ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dirty", "ratio"), [(1500, 1.0), (1000, 2.0), (1750, 0.875), (2000, 0.0), (0, 2.0)]
)
def test_polynom(dirty: int, ratio: float) -> None:
    assert pw.pos_ratio_polynom(1500.0, float(dirty), 2000.0) == pytest.approx(ratio, abs=0.007)


def test_position_ratio_is_one_at_the_setpoint_and_nothing_at_the_limit() -> None:
    setpoint = (FREERUN + THRESH) // 2
    k = with_dirty(kernel(), setpoint)
    at = [pw.wb_position_ratio(k, 0, d, d, THRESH, BACKGROUND) for d in (FREERUN, setpoint, THRESH)]
    assert at[1] == pytest.approx(1.0, abs=1e-3)
    assert at[2] == 0.0
    # the device's own line: 8 s at 25600 pages/s wide, and the cubic one's 2
    span = 8 * INIT_BW
    assert at[0] == pytest.approx(2 * (setpoint + span - FREERUN) / span, rel=1e-3)


def test_a_device_far_over_its_share_is_slowed_to_a_quarter() -> None:
    setpoint = (FREERUN + THRESH) // 2
    k = with_dirty(kernel(), setpoint)
    k.disk[0].avg_write_bandwidth = 100.0
    fast = pw.wb_position_ratio(k, 0, setpoint, setpoint, THRESH, BACKGROUND)
    slow = pw.wb_position_ratio(k, 0, setpoint, 2 * setpoint, THRESH, BACKGROUND)
    assert slow == pytest.approx(fast / 4, rel=0.01)


@given(st.integers(0, THRESH), st.integers(0, THRESH))
def test_more_dirty_pages_never_let_writers_go_faster(a: int, b: int) -> None:
    k = with_dirty(kernel(), 0)
    low, high = (pw.wb_position_ratio(k, 0, d, d, THRESH, BACKGROUND) for d in sorted((a, b)))
    assert high <= low
    assert high >= 0.0


def test_share_follows_completions_and_fades() -> None:
    k = kernel()
    k.nr_disks = 2
    k.disk[0].completions, k.disk[1].completions, k.completions = 300.0, 100.0, 400.0
    assert pw.wb_calc_thresh(k, 0, 1000) == 750
    k.now_ns = 3 * NS_PER_S
    assert pw.wb_calc_thresh(k, 1, 1000) == 250  # all halve alike
    assert k.disk[0].completions == 150.0
    k.now_ns = 600 * NS_PER_S
    assert pw.wb_calc_thresh(k, 0, 1000) == 0


# --- estimates --------------------------------------------------------------------------------


def test_bandwidth_after_a_long_interval_is_what_was_written() -> None:
    k = kernel()
    k.now_ns = 10 * NS_PER_S
    k.disk[0].written = 50_000
    pw.update_bandwidth(k, 0, -1.0, 0, 0)
    assert k.disk[0].avg_write_bandwidth == 5000.0
    assert k.disk[0].bw_stamp_ns == k.now_ns


def test_bandwidth_is_weighed_over_four_seconds() -> None:
    """200 ms at 50,000 pages/s beside 25600: (50000 * 200 + 25600 * 3896) / 4096 = 26791."""
    k = kernel()
    k.now_ns = 200 * NS_PER_MS
    k.disk[0].written = 10_000
    pw.update_bandwidth(k, 0, -1.0, 0, 0)
    assert k.disk[0].write_bandwidth == pytest.approx(26791.4, abs=0.1)
    assert k.disk[0].avg_write_bandwidth == INIT_BW  # follows with the next


def test_bandwidth_is_not_renewed_within_200_ms() -> None:
    k = kernel()
    k.now_ns = 199 * NS_PER_MS
    k.disk[0].written = 10_000
    pw.update_bandwidth(k, 0, -1.0, 0, 0)
    assert k.disk[0].bw_stamp_ns == 0


def test_idle_time_does_not_count() -> None:
    k = kernel()
    k.now_ns = 60 * NS_PER_S
    pw.bandwidth_estimate_start(k, 0)
    assert k.disk[0].bw_stamp_ns == k.now_ns
    pw.update_bandwidth(k, 0, -1.0, 0, 0)
    assert k.disk[0].avg_write_bandwidth == INIT_BW


# --- pauses -----------------------------------------------------------------------------------


def test_a_writer_below_freerun_is_not_paused_and_looks_again_later() -> None:
    k = with_dirty(kernel(), FREERUN)
    assert pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 32) == 0.0
    assert k.task[0].nr_dirtied_pause == 128  # 2^(log2(199951 - 149902) / 2)


def test_a_writer_is_not_looked_at_before_its_pages_are_through() -> None:
    k = with_dirty(kernel(), THRESH)
    assert pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 31) == 0.0
    assert pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 1) > 0.0


def test_pause_is_what_the_rate_limit_leaves_over() -> None:
    """At the setpoint a writer gets 25600 pages/s: 2560 pages take 100 ms, 40 were its own."""
    setpoint = (FREERUN + THRESH) // 2
    k = with_dirty(kernel(), setpoint)
    k.now_ns = k.task[0].dirty_paused_ns = 100 * NS_PER_S
    k.disk[0].bw_stamp_ns = k.now_ns
    k.completions_ns = k.now_ns
    k.work_ns = 40.0 * NS_PER_MS
    pause = pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 2560)
    assert pause == pytest.approx(60 * NS_PER_MS, rel=0.01)


def test_a_short_pause_is_saved_up() -> None:
    setpoint = (FREERUN + THRESH) // 2
    k = with_dirty(kernel(), setpoint)
    k.now_ns = k.task[0].dirty_paused_ns = 100 * NS_PER_S
    k.disk[0].bw_stamp_ns = k.completions_ns = k.now_ns
    assert pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 64) == 0.0
    owed = k.task[0].dirty_paused_ns - k.now_ns
    assert owed == pytest.approx(64 / INIT_BW * NS_PER_S, rel=0.01)


def test_at_the_limit_a_writer_is_blocked_until_pages_are_written() -> None:
    k = with_dirty(kernel(), THRESH)
    assert pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 32) == pw.MAX_PAUSE_NS
    assert k.task[0].dirty_blocked == 1
    assert pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 0) == pw.MAX_PAUSE_NS
    with_dirty(k, FREERUN)
    assert pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 0) == 0.0
    assert k.task[0].dirty_blocked == 0


def test_the_background_limit_wakes_the_flusher() -> None:
    k = with_dirty(kernel(), BACKGROUND)
    pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 32)
    assert k.flusher_due_ns == NEVER_NS
    with_dirty(k, BACKGROUND + 1)
    pw.balance_dirty_pages_ratelimited(k, 0, 0, 0, 256)
    assert k.flusher_due_ns == k.now_ns


# --- the flusher ------------------------------------------------------------------------------


def test_old_data_goes_after_thirty_seconds() -> None:
    k, fr, pt = with_files(kernel(), 100)
    k.disk[0].completions = k.completions = 1e300  # it has its share: no background work
    k.flusher_due_ns = 5 * NS_PER_S
    seen = turns(k, fr, pt)
    assert [round(t) for t, dirty in seen if dirty == [100]] == [5, 10, 15, 20, 25]
    assert seen[5] == (30.0, [0])


def test_a_device_without_a_share_is_written_at_the_first_wake() -> None:
    k, fr, pt = with_files(kernel(), 100)
    k.flusher_due_ns = 5 * NS_PER_S
    assert turns(k, fr, pt)[0] == (5.0, [0])


def test_the_oldest_file_goes_first_and_files_take_turns() -> None:
    """Chunks of 3072 pages (a bandwidth of 5000 pages/s, half a second, whole 4 MiB)."""
    k, fr, pt = with_files(kernel(), 5000, 7000)
    k.mapping[0].dirtied_ns = 2 * NS_PER_S
    k.mapping[1].dirtied_ns = NS_PER_S
    k.disk[0].avg_write_bandwidth = 5000.0
    k.disk[0].completions = k.completions = 1e300
    k.disk[0].bw_stamp_ns = 40 * NS_PER_S
    k.flusher_due_ns = 40 * NS_PER_S
    seen = [dirty for _, dirty in turns(k, fr, pt)]
    chunk = 3072
    assert seen[0] == [5000, 7000 - 1024]
    assert [5000, 7000 - chunk] in seen
    assert seen.index([5000, 7000 - chunk]) < seen.index([5000 - chunk, 7000 - chunk])
    assert min(b for a, b in seen if a == 5000) == 7000 - chunk


def test_one_round_writes_no_more_than_was_dirty_when_it_began() -> None:
    k, fr, pt = with_files(kernel(), 2000, 2000)
    k.mapping[1].dirtied_ns = 29 * NS_PER_S  # not old yet when the first round begins
    k.disk[0].completions = k.completions = 1e300
    k.flusher_due_ns = 31 * NS_PER_S
    seen = turns(k, fr, pt, 36 * NS_PER_S)
    assert seen[-1][1] == [0, 2000]
    assert k.flusher_left >= 2000


def test_pages_leave_no_faster_than_the_device_writes() -> None:
    k, fr, pt = with_files(kernel(), 5000)
    k.flusher_due_ns = 31 * NS_PER_S
    times = [t for t, _ in turns(k, fr, pt)][:5]
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert steps[:4] == pytest.approx([1024 * PAGE_NS / NS_PER_S] * 4, rel=1e-6)


def test_reclaim_has_young_pages_written_too() -> None:
    k, fr, pt = with_files(kernel(), 500)
    k.mapping[0].dirtied_ns = k.now_ns
    writeback.nudge_flusher(k, fr, pt)
    assert int(k.mapping[0].dirty_pages) == 0
    assert k.work_ns == 0.0


def test_an_idle_flusher_sleeps_for_good() -> None:
    k, fr, pt = with_files(kernel(), 0)
    k.flusher_due_ns = 0
    assert len(turns(k, fr, pt)) == 1
    assert k.flusher_due_ns == NEVER_NS
