"""Swap writes gathered in requests, and pages that are written while off their list."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state
from capplan.mm.swap import (
    complete_io,
    isolate_begin,
    isolate_end,
    plug_add,
    plug_finish,
    plug_flush,
    start_writeback,
)

pytestmark = pytest.mark.small

WRITTEN = state.PG_SWAPBACKED | state.PG_RECLAIM


def machine(pages: int) -> tuple[Any, Any]:
    """A disk that writes a page in 1000 ns, and pages of no list on their way to it."""
    k = state.new_kernel()[0]
    k.nr_disks = 1
    k.nr_nodes = 1
    k.disk[0].queue_depth = 256
    k.disk[0].write_ns_per_page = 1000.0
    frames = state.new_frames(pages)
    frames["nr_pages"] = 1
    frames["flags"] = WRITTEN
    return k, frames


def plug(k: Any, frames: Any, which: int) -> None:
    """Put all frames into a plug, as plug_add() does."""
    for i in range(len(frames)):
        frames[i].flags |= state.PG_WRITEBACK
        frames[i].io_done_ns = state.NEVER_NS
        frames[i].io_next = i + 1 if i + 1 < len(frames) else -1
        k.nr_writeback += 1
    k.plug_head[which] = 0
    k.plug_tail[which] = len(frames) - 1
    k.plug_pages[which] = len(frames)


def test_plug_flush_ends_the_request_as_a_whole() -> None:
    k, frames = machine(5)
    plug(k, frames, 1)
    plug_flush(k, frames, 1)
    assert {int(frame.io_done_ns) for frame in frames} == {5000}
    assert (k.plug_head[1], k.plug_pages[1], k.disk[0].wb_pages) == (-1, 0, 5)
    complete_io(k, frames, 4999)
    assert k.nr_writeback == 5
    complete_io(k, frames, 5000)
    assert k.nr_writeback == 0


def test_plug_flush_of_an_empty_plug_sends_nothing() -> None:
    k, frames = machine(1)
    plug_flush(k, frames, 0)
    assert k.disk[0].write_busy_ns == 0


@pytest.mark.parametrize(("done_ns", "rotates"), [(10, False), (11, True)])
def test_isolate_end_a_write_that_ended_before_does_not_rotate(done_ns: int, rotates: bool) -> None:
    k, frames = machine(1)
    isolate_begin(k)
    start_writeback(k, frames, 0, 0, done_ns)
    k.isolated[0] = 0
    k.nr_isolated = 1
    k.work_ns = 10.0
    isolate_end(k, frames)
    assert bool(frames[0].flags & state.PG_RECLAIM) is rotates
    assert k.nr_isolated == 0


def requests(slots: list[int], most: int, depth: int) -> tuple[list[int], int]:
    """Pages of what is sent early, and what is left, when pages of these slots are written."""
    k, frames = machine(len(slots))
    k.disk[0].max_request_pages, k.disk[0].max_plug_requests = most, depth
    entries = state.new_entries(len(slots))
    sent = []
    for i, slot in enumerate(slots):
        entries[i].slot = slot
        frames[i].pte = i
        before = int(k.disk[0].wb_pages)
        plug_add(k, frames, entries, i, 0)
        if k.disk[0].wb_pages > before:
            sent.append(int(k.disk[0].wb_pages) - before)
    return sent, int(k.plug_pages[0])


@pytest.mark.parametrize(
    ("slots", "most", "depth", "sent", "left"),
    [
        (list(range(300)), 128, 32, [128, 128], 44),  # 128 KiB are enough (BLK_PLUG_FLUSH_SIZE)
        (list(range(300)), 31, 32, [], 300),  # 124 KiB are not
        (list(range(1000)), 31, 32, [992], 8),
        (list(range(400)), 31, 12, [372], 28),
        (list(range(0, 80, 2)), 128, 32, [32], 8),  # no two in a row: a request each
    ],
)
def test_plug_is_sent_when_full(
    slots: list[int], most: int, depth: int, sent: list[int], left: int
) -> None:
    assert requests(slots, most, depth) == (sent, left)


def test_plug_of_reclaim_inside_a_read_ahead_waits_for_its_end() -> None:
    k, frames = machine(5)
    plug(k, frames, 0)
    k.plug_outer = 1
    plug_finish(k, frames, 0)
    assert k.plug_pages[0] == 5
    k.plug_outer = 0
    plug_finish(k, frames, 0)
    assert k.plug_pages[0] == 0
