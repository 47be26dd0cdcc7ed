"""How many pages of each list a group gives to be scanned (mm/vmscan.c, get_scan_count()).

which lists: anonymous ones only with swap; by swappiness and the costs of late
how many:    list size, less what protection leaves out, shifted by the priority
in turns:    32 pages of each list; with large granules most turns take none
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import (
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    SWAP_CLUSTER_MAX,
)
from capplan.mm.swap_map import mem_cgroup_nr_swap_pages

__all__ = ["get_scan_count", "list_is_scanned", "protected_scan", "skip_turns"]

SCAN_EQUAL, SCAN_FRACT, SCAN_ANON, SCAN_FILE = 0, 1, 2, 3


@jit
def _scan_balance(k, c):
    """Which lists to scan: EQUAL, FRACT, ANON or FILE (get_scan_count, first half)."""
    sc = k.sc
    if not sc.may_swap or mem_cgroup_nr_swap_pages(k, c) <= 0:
        return SCAN_FILE
    swappiness = k.memcg[c].swappiness if k.cgroup_v1 and c > 0 else k.swappiness
    if swappiness != sc.swappiness:
        sc.swappiness = swappiness
        sc.anon_part = -1
    if sc.target > 0 and swappiness == 0:
        return SCAN_FILE
    if sc.priority == 0 and swappiness:
        return SCAN_EQUAL
    if sc.file_is_tiny:
        return SCAN_ANON
    if sc.cache_trim_mode:
        return SCAN_FILE
    return SCAN_FRACT


@jit
def protected_scan(k, c, size):
    """Pages of a list that protection leaves to be scanned (get_scan_count). [pages]"""
    sc = k.sc
    counter = k.memcg[c].memory
    low = counter.elow
    floor = counter.emin
    if c == sc.target or (floor == 0 and low == 0):
        return size
    protection = floor
    if not sc.memcg_low_reclaim and low > floor:
        protection = low
        sc.memcg_low_skipped = 1
    usage = max(counter.usage, protection)
    return max(size - size * protection // (usage + 1), SWAP_CLUSTER_MAX)


@jit
def _calculate_pressure(sc):
    """What the two kinds of lists get of the scan, by swappiness and costs (get_scan_count)."""
    total = sc.anon_cost + sc.file_cost
    anon_cost = total + sc.anon_cost
    file_cost = total + sc.file_cost
    both = anon_cost + file_cost
    sc.anon_part = sc.swappiness * (both + 1) // (anon_cost + 1)
    sc.file_part = (200 - sc.swappiness) * (both + 1) // (file_cost + 1)


@jit
def get_scan_count(k, c, n):
    """Pages to scan of each list of group c at this priority, into sc.nr (get_scan_count)."""
    sc = k.sc
    balance = _scan_balance(k, c)
    if balance == SCAN_FRACT and sc.anon_part < 0:  # once a pass: its costs stay as they are
        _calculate_pressure(sc)
    ap, fp = sc.anon_part, sc.file_part
    lruvec = k.memcg[c].lruvec[n]
    for lru in range(4):
        size = lruvec.pages[lru]
        is_file = lru >= LRU_INACTIVE_FILE
        scan = protected_scan(k, c, size) >> sc.priority
        if scan == 0 and not k.memcg[c].online:
            scan = min(size, SWAP_CLUSTER_MAX)
        if balance == SCAN_FRACT and scan:
            scan = scan * (fp if is_file else ap) // (ap + fp)
        elif (balance == SCAN_FILE) != is_file and balance != SCAN_EQUAL:
            scan = 0
        sc.nr[lru] = scan
        sc.target_scan[lru] = scan


@jit
def _fruitless_turns(k, fr, c, n):
    """Turns that come before one in which some list's credit covers the granule at its tail."""
    nr = k.sc.nr
    lruvec = k.memcg[c].lruvec[n]
    most = max(nr[LRU_INACTIVE_ANON], nr[LRU_INACTIVE_FILE], nr[LRU_ACTIVE_FILE])
    turns = (most + SWAP_CLUSTER_MAX - 1) // SWAP_CLUSTER_MAX
    for lru in range(4):
        if nr[lru] == 0 or lruvec.tail[lru] < 0 or not list_is_scanned(k.sc, lru):
            continue
        missing = fr[lruvec.tail[lru]].nr_pages - lruvec.credit[lru]
        if missing <= min(nr[lru], SWAP_CLUSTER_MAX):
            return 0
        if missing <= nr[lru]:
            turns = min(turns, max(missing - 1, 0) // SWAP_CLUSTER_MAX)
    return turns


@jit
def skip_turns(k, fr, c, n):
    """Give the lists the credit of all turns that can take nothing, at once.

    A granule of 512 pages is met in one turn of sixteen; the others do nothing else.
    """
    turns = _fruitless_turns(k, fr, c, n)
    if turns == 0:
        return
    sc = k.sc
    lruvec = k.memcg[c].lruvec[n]
    for lru in range(4):
        part = min(sc.nr[lru], turns * SWAP_CLUSTER_MAX)
        sc.nr[lru] -= part
        if not list_is_scanned(sc, lru):
            if part:
                sc.skipped_deactivate = 1
        elif lruvec.tail[lru] < 0:
            lruvec.credit[lru] = 0 if part else lruvec.credit[lru]
        else:
            lruvec.credit[lru] += part


@jit
def list_is_scanned(sc, lru):
    """Whether this pass takes pages from a list: from an active one, if it may deactivate."""
    if lru == LRU_ACTIVE_ANON:
        return sc.deactivate_anon != 0
    return lru != LRU_ACTIVE_FILE or sc.deactivate_file != 0
