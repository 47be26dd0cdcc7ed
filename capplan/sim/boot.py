"""What the first turn of a run sets up, and what t = 0 ends with."""

from __future__ import annotations

from errno import ENOMEM

from capplan.mm._jit import rare
from capplan.mm.buddy import alloc_block
from capplan.mm.captured import finish
from capplan.mm.events import record
from capplan.mm.hugetlb import hugetlb_boot, nr_huge_pages
from capplan.mm.lru_gen_lists import lru_gen_init_lruvec
from capplan.mm.lru_gen_memcg import lru_gen_online_memcg
from capplan.mm.memcg import charge_forced
from capplan.mm.page_alloc import alloc_kernel_pages
from capplan.mm.pcp import PCP_RECLAIMABLE, pcp_put, pcp_put_other
from capplan.mm.state import (
    KIND_WRITE_FAILED,
    MT_MOVABLE,
    PCP_CPUS,
    ST_KERNEL,
    ST_SLAB_RECLAIMABLE,
    WRITE_HUGEPAGES,
)
from capplan.mm.swapfile import drain_slots_cache

__all__ = ["boot", "placed"]


@rare
def _fill_per_cpu_lists(k, fr, z):
    """Pages that per-cpu lists hold at t = 0, evenly on all CPUs.

    After what the node holds was placed, which took some of them. Half lie on lists that user
    memory does not take from: of what 48 runs of recorded kernels held when they began, 0.48
    (mean; 0.27 to 0.75) was still held when tasks had grown on all CPUs. Where `high` tunes
    itself, what is above its low bound came there by a row of frees of user memory.
    """
    cpus = min(k.nr_cpus, PCP_CPUS)
    left = k.zone[z].pcp_boot - k.zone[z].pcp_count.sum()
    other = min(k.zone[z].pcp_boot // 2, k.zone[z].pcp_high_min * cpus)
    cpu = 0
    while left >= k.granule_pages and not k.zone[z].counters_only:
        i = alloc_block(k, fr, z, k.g, MT_MOVABLE)
        if i < 0:
            return
        if other >= k.granule_pages:
            pcp_put_other(k, fr, z, cpu, i)
            other -= k.granule_pages
        else:
            pcp_put(k, fr, z, cpu, i)
        left -= k.granule_pages
        cpu = (cpu + 1) % cpus


@rare
def placed(k, fr, pt):
    """All that is in memory at t = 0 has been placed.

    Where more was to be placed than fits, reclaim took of it: what a group held on the way
    is no peak of the run.
    """
    k.booted = 2
    drain_slots_cache(k, pt)  # free swap is what was said
    for c in range(k.nr_memcgs):
        usage = k.memcg[c].memory.usage
        k.memcg[c].memory.peak = usage
        k.memcg[c].usage_min = usage
        k.memcg[c].usage_max = usage
    for z in range(k.nr_zones):
        _fill_per_cpu_lists(k, fr, z)
    if k.captured == 1:
        finish(k, fr)


@rare
def _place_slab(k, fr, c):
    """Dentries and inodes that group c was charged for before the run."""
    stat = k.memcg[c].stat
    got = alloc_kernel_pages(k, fr, stat[ST_SLAB_RECLAIMABLE], PCP_RECLAIMABLE)
    stat[ST_SLAB_RECLAIMABLE] = got
    stat[ST_KERNEL] += got
    k.nr_slab_reclaimable += got
    k.nr_slab_memcg += got
    charge_forced(k, c, got)


@rare
def boot(k, fr, pt):
    """What the first call sets up: huge pages, slab, the generations of the multi-gen LRU."""
    k.booted = 1
    hugetlb_boot(k, fr, pt)
    got = nr_huge_pages(k)
    if got < k.nr_hugepages:
        record(k, KIND_WRITE_FAILED, -1, 0, ENOMEM, WRITE_HUGEPAGES, k.nr_hugepages, got, 0, 0)
    k.nr_slab_reclaimable = alloc_kernel_pages(k, fr, k.nr_slab_reclaimable, PCP_RECLAIMABLE)
    k.nr_slab_pinned = min(k.nr_slab_pinned, k.nr_slab_reclaimable)
    for c in range(1, k.nr_memcgs):
        _place_slab(k, fr, c)
    if not k.lru_gen:
        return
    for c in range(k.nr_memcgs):
        for n in range(k.nr_nodes):
            lru_gen_init_lruvec(k, c, n)
            if k.memcg[c].online:
                lru_gen_online_memcg(k, c, n)
