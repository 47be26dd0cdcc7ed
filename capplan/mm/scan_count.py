"""How many pages of each list a group gives to be scanned (mm/vmscan.c, get_scan_count()).

which lists: anonymous ones only with swap; by swappiness and the costs of late
how many:    list size, less what protection leaves out, shifted by the priority
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import LRU_INACTIVE_FILE, SWAP_CLUSTER_MAX
from capplan.mm.swap import mem_cgroup_nr_swap_pages

__all__ = ["get_scan_count", "protected_scan"]

SCAN_EQUAL, SCAN_FRACT, SCAN_ANON, SCAN_FILE = 0, 1, 2, 3


@jit
def _scan_balance(k, c):
    """Which lists to scan: EQUAL, FRACT, ANON or FILE (get_scan_count, first half)."""
    sc = k.sc
    if not sc.may_swap or mem_cgroup_nr_swap_pages(k, c) <= 0:
        return SCAN_FILE
    swappiness = k.memcg[c].swappiness if k.cgroup_v1 and c > 0 else k.swappiness
    sc.swappiness = swappiness
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
def get_scan_count(k, c, n):
    """Pages to scan of each list of group c at this priority, into sc.nr (get_scan_count)."""
    sc = k.sc
    balance = _scan_balance(k, c)
    total = sc.anon_cost + sc.file_cost
    anon_cost = total + sc.anon_cost
    file_cost = total + sc.file_cost
    both = anon_cost + file_cost
    ap = sc.swappiness * (both + 1) // (anon_cost + 1)
    fp = (200 - sc.swappiness) * (both + 1) // (file_cost + 1)
    lruvec = k.memcg[c].lruvec[n]
    for lru in range(4):
        size = lruvec.pages[lru]
        is_file = lru >= LRU_INACTIVE_FILE
        scan = protected_scan(k, c, size) >> sc.priority
        if scan == 0 and not k.memcg[c].online:
            scan = min(size, SWAP_CLUSTER_MAX)
        if balance == SCAN_FRACT:
            scan = scan * (fp if is_file else ap) // (ap + fp)
        elif (balance == SCAN_FILE) != is_file and balance != SCAN_EQUAL:
            scan = 0
        sc.nr[lru] = scan
        sc.target_scan[lru] = scan
