"""Whose address space khugepaged is in the middle of, and when it lets go (mm/khugepaged.c).

khugepaged goes round the processes that use huge pages, 8 blocks of 2 MiB in each of its wakes,
which are 10 s apart. It keeps a reference to the mm that it stopped in; when that process ends, its
page directory is freed only at the next wake.

Departs from the kernel: it collapses nothing. Where it stands is worked out when a process ends,
from the processes that there are then; the kernel's cursor went round those of each wake.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import HPAGE_PMD_NR, MAP_ANON, NS_PER_S, PROC_LIVE

__all__ = ["khugepaged_enter", "khugepaged_exit"]

SCAN_SLEEP_NS = 10 * NS_PER_S  # khugepaged_scan_sleep_millisecs
SCAN_BLOCKS = 8  # khugepaged_pages_to_scan is HPAGE_PMD_NR * 8


@jit
def _blocks(k: Any, p: int) -> int:
    """Blocks of 2 MiB of process p that khugepaged looks at."""
    blocks = 0
    v = k.proc[p].first_vma
    while v >= 0:
        mapping = k.mapping[k.vma[v].mapping]
        if mapping.thp and mapping.kind == MAP_ANON:
            blocks += mapping.max_pages // HPAGE_PMD_NR
        v = k.vma[v].next
    return blocks


@jit
def _blocks_of_others(k: Any, p: int) -> tuple[int, int]:
    """Blocks of the live processes before process p on the list, and after it."""
    before, after = 0, 0
    for other in range(k.nr_procs):
        if other != p and k.proc[other].state == PROC_LIVE:
            if k.proc[other].start_ns < k.proc[p].start_ns or (
                k.proc[other].start_ns == k.proc[p].start_ns and other < p
            ):
                before += _blocks(k, other)
            else:
                after += _blocks(k, other)
    return before, after


@jit
def khugepaged_enter(k: Any, p: int) -> None:
    """Process p starts: the first one with room for huge pages wakes khugepaged at once.

    Kernel
    ------
    mm/khugepaged.c, __khugepaged_enter().
    """
    if not k.thp_enabled or _blocks(k, p) == 0:
        return
    before, after = _blocks_of_others(k, p)
    if before + after == 0:
        k.khugepaged_ns = k.now_ns


@jit
def khugepaged_exit(k: Any, p: int) -> int:
    """When khugepaged has let go of the mm of process p, which has ended [ns].

    Kernel
    ------
    mm/khugepaged.c, __khugepaged_exit(), khugepaged_scan_mm_slot(), khugepaged_do_scan().
    """
    blocks = _blocks(k, p) if k.thp_enabled else 0
    if blocks == 0:
        return k.now_ns  # type: ignore[no-any-return]
    before, after = _blocks_of_others(k, p)
    sleeps = (k.now_ns - k.khugepaged_ns) // SCAN_SLEEP_NS
    stands = (sleeps + 1) * SCAN_BLOCKS % (before + blocks + after) - before
    if stands <= 0 or stands >= blocks:
        return k.now_ns  # type: ignore[no-any-return]
    return k.khugepaged_ns + (sleeps + 1) * SCAN_SLEEP_NS  # type: ignore[no-any-return]
