"""The kernel's state: record types and their limits, documented once.

Four arguments carry everything through ``mm``:

``k``
    One ``kernel`` record (passed by pointer): counters, sysctls, features, costs, and the
    fixed tables ``k.zone``, ``k.node``, ``k.memcg``, ``k.proc``, ``k.task``, ``k.vma``,
    ``k.mapping``, ``k.swap``, ``k.disk``.
``fr``
    ``(F,)`` frame records, ``struct page``: one per aligned block of 2^g pages.
``pt``
    Entry records, one per granule of each mapping: the virtual side. From ``k.nr_entries`` on
    their bytes are cells: lists of missing granules, xarray nodes, the map of swap slots.
``pg``
    ``(P,)`` op records: what each task does, one after the other (only ``sim`` reads it).

Why so: numba copies and reference-counts every array argument of a call that is not
inlined; a record is one pointer.

Units: pages of 4096 bytes and nanoseconds, int64, unless a field says otherwise. -1 is
"none" in every link.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from capplan.mm.constants import *
from capplan.mm.record import attributes, filled, record

i8, i16, i32, i64, f64, u64 = np.int8, np.int16, np.int32, np.int64, np.float64, np.uint64

frame_t = record([
    ("next", i32), ("prev", i32),  # LRU list or free list
    ("io_next", i32), ("flags", i32),  # queue of pages under writeback; PG_*
    ("nr_pages", i32),  # pages in use of this block (1..2^g)
    ("memcg", i32), ("mapping", i32), ("pte", i32),  # owner; reverse map
    ("zone", i8), ("order", i8), ("migratetype", i8), ("lru", np.uint8),
    ("gen", i8), ("refs", i8), ("swap", i8), ("skip", i8),  # MGLRU generation + 1 (0: on no list), fd accesses, swap area; of a pageblock: PB_migrate_skip
    ("seen", f64), ("io_done_ns", i64),  # the mapping's progress when last looked at [pages]
    # what a scan of its list meets AHEAD pages later; 64 bytes: a visit waits for one cache line
    ("ahead", i32), ("line", i32),
])  # fmt: skip

entry_t = record([
    ("frame", i32),  # PTE_PRESENT
    ("memcg", i16), ("owner", i16),  # reclaim target that evicted it; memcg its swap slot is charged to
    ("state", i8), ("swap", i8),
    ("in_zswap", i8),  # 1: stored; 2: stored, and not yet looked at (referenced)
    ("evicted", i8),  # from which node, and whether PG_workingset (pack_shadow): node << 1 | flag
    ("nr_pages", i16), ("length", i16),  # bytes stored per page in zswap (0: same-filled)
    ("walk", i16), ("xa", i8), ("place", i32),  # of a page table's first entry: its Bloom filter (MGLRU), 0: none; place on the list of missing granules; XA_*
    ("shadow", i32), ("slot", i32),  # nonresident_age at eviction (classic), min_seq (MGLRU); place in the swap map
], cells=(i32, CELLS))  # fmt: skip  # 32 bytes: none lies across two cache lines

op_t = record([
    ("op", i32), ("vma", i32),
    ("pages", f64), ("rate", f64),  # rate in pages per second
    ("t_ns", i64), ("arg", i64),  # duration or absolute time, as the op says
])  # fmt: skip

lruvec_t = record([
    ("head", i32, (NR_LRU_LISTS,)), ("tail", i32, (NR_LRU_LISTS,)),
    ("latest", i32, (NR_LRU_LISTS, AHEAD)),  # added last: their ``ahead`` is not yet known
    ("pages", i64, (NR_LRU_LISTS,)),
    ("tree_pages", i64, (NR_LRU_LISTS,)),  # of all groups below too (classic LRU)
    ("credit", i64, (NR_LRU_LISTS,)),  # scan pages not yet spent (a granule is never rounded)
    ("anon_cost", i64), ("file_cost", i64), ("nonresident_age", i64),
    ("refaults_anon", i64), ("refaults_file", i64),  # snapshot of workingset_activate at the last reclaim
    ("activate_anon", i64), ("activate_file", i64),  # hierarchical, this node
    ("shadow_head", i32), ("shadow_tail", i32), ("shadow_nodes", i64), ("shadow_deferred", i64), ("flushed_pages", i64),  # list_lru of xarray nodes; LRU pages when they were last summed up
    ("congested", i8),
    # multi-gen LRU: struct lru_gen_folio
    ("max_seq", i64), ("min_seq", i64, (2,)),
    ("gen_head", i32, (MAX_NR_GENS, 2, ZONES_PER_NODE)),  # [gen][type][zone]
    ("gen_tail", i32, (MAX_NR_GENS, 2, ZONES_PER_NODE)),
    ("gen_pages", i64, (MAX_NR_GENS, 2, ZONES_PER_NODE)), ("gen_birth_ns", i64, (MAX_NR_GENS,)),
    ("avg_refaulted", i64, (2, MAX_NR_TIERS)), ("avg_total", i64, (2, MAX_NR_TIERS)),
    ("tier_protected", i64, (2, MAX_NR_TIERS)),
    ("tier_evicted", i64, (2, MAX_NR_TIERS)), ("tier_refaulted", i64, (2, MAX_NR_TIERS)),
    ("walked", i8), ("walk_ns", i64),  # its processes' page tables, the last time
    ("gen_credit", i64), ("memcg_seg", i8), ("memcg_bin", i8), ("memcg_gen", i8),
    ("memcg_next", i32), ("memcg_prev", i32),  # in the memcg LRU's bin
])  # fmt: skip

counter_t = record([
    ("usage", i64), ("max", i64), ("high", i64), ("min", i64), ("low", i64),
    ("peak", i64), ("failcnt", i64), ("emin", i64), ("elow", i64), ("min_usage", i64), ("low_usage", i64),
    ("children_min_usage", i64), ("children_low_usage", i64),
])  # fmt: skip

psi_t = record([
    ("nr_running", i32), ("nr_memstall", i32), ("nr_memstall_running", i32), ("nr_tasks", i32),
    ("last_ns", i64), ("some_ns", i64), ("full_ns", i64),
    ("avg_some", i64, (3,)), ("avg_full", i64, (3,)),  # FSHIFT 11 fixed point
    ("period_ns", i64), ("period_some_ns", i64), ("period_full_ns", i64),
])  # fmt: skip

memcg_t = record([
    ("parent", i32), ("subtree_end", i32),  # memcgs are numbered in pre-order: [c, subtree_end)
    ("depth", i32), ("online", i8), ("heir", i32),  # the dead groups under its parent; -1: it is not removed
    ("memory", counter_t), ("swap", counter_t), ("memsw", counter_t),
    ("zswap_bytes", i64), ("zswap_max", i64), ("zswap_writeback", i8), ("zswap_head", i32), ("zswap_tail", i32),  # what zswap has of it, oldest first
    ("mems_allowed", i64),  # cpuset.mems.effective, a bit per node
    ("swappiness", i32), ("oom_group", i8), ("oom_kill_disable", i8),
    ("soft_limit", i64), ("stock", i64),  # charged, not yet used (MEMCG_CHARGE_BATCH)
    ("stat", i64, (NR_MEMCG_STATS,)), ("events", i64, (NR_MEMCG_EVENTS,)), ("events_local", i64, (NR_MEMCG_EVENTS,)),
    ("usage_min", i64), ("usage_max", i64),  # within the recorder's bin
    ("pending", i64),  # growth that tasks are going to make in their current segment
    ("throttle_ns", i64), ("stall_ns", i64), ("pause_ns", i64),
    ("slab_once", i64),  # of the reclaimable slab: pages of objects without the referenced bit
    ("xa_nodes", i64), ("buffer_heads", i64), ("slab_deferred", i64), ("zswap_deferred", i64), ("zswap_disk_swapins", i64),
    ("no_victim_until_ns", i64), ("no_victims", i64),  # told until then; not told since
    ("working_set", i64),  # when cAdvisor sampled it last
    # its lists when it was captured, oldest first (capplan/mm/captured.py)
    ("seen_lists", i8), ("seen_pages", i64, (MAX_NR_GENS, 2)), ("seen_age_ns", i64, (MAX_NR_GENS,)),
    ("lruvec", lruvec_t, (MAX_NODES,)), ("psi", psi_t),
])  # fmt: skip

proc_t = record([
    ("memcg", i32), ("parent", i32), ("container", i32),
    ("oom_score_adj", i32), ("pid", i32),
    ("cap_sys_admin", i8), ("mpol_mode", i8), ("mpol_nodes", i64),  # root_bonus spares it; its memory policy, MPOL_*, and nodes
    ("state", i8),  # PROC_*
    ("victim", i8),  # marked by the OOM killer (TIF_MEMDIE)
    ("oom_skip", i8), ("oom_skip_ns", i64),  # MMF_OOM_SKIP, set from when on
    ("exit_code", i32),
    ("rss_anon", i64), ("rss_file", i64), ("rss_shmem", i64), ("swapents", i64),
    ("pgtables", i64), ("locked", i64), ("first_vma", i32),
    ("start_ns", i64), ("kill_ns", i64), ("exit_ns", i64), ("restarts", i32),
    ("restarting", i8), ("by_fork", i8), ("kernel_pages", i64), ("kernel_wanted", i64), ("tables_wanted", i64), ("first_task", i32), ("gather_head", i32),
    # the main process of its container, and how that starts again
    ("restart_policy", i8), ("asked_restart", i8), ("start_offset_ns", i64),
    ("backoff_ns", i64), ("backoff_set_ns", i64),
    ("restarts_by", i8), ("restart_sec_ns", i64),  # whose back-off; systemd's RestartSec=, StartLimit*= and its window
    ("start_limit_ns", i64), ("start_limit_burst", i64), ("start_window_ns", i64), ("start_window_nr", i64),
    ("exit_vma", i32), ("exit_index", i32), ("exit_cpu", i32), ("gathered", i64), ("flushing", i8), ("flush_paid", i8),  # unmap cursor; pages in the mmu_gather
])  # fmt: skip
PROC_UNBORN, PROC_LIVE, PROC_EXITING, PROC_DEAD = 0, 1, 2, 3
RESTART_NEVER, RESTART_ON_FAILURE, RESTART_ALWAYS = 0, 1, 2
BACKOFF_KUBELET, BACKOFF_DOCKER, BACKOFF_SYSTEMD = 0, 1, 2

task_t = record([
    ("proc", i32), ("state", i8), ("wait", i8),
    ("due_ns", i64), ("heap_pos", i32),
    ("pc", i64), ("pc_begin", i64), ("pc_end", i64),  # program counter and bounds in pg
    ("op_start_ns", i64), ("op_done", f64), ("op_cursor", i64), ("op_prev_target", f64),
    # an allocation or charge that could not finish at once goes on from here
    ("retries", i32), ("drained", i8), ("oom_memcg", i32), ("no_progress", i32),
    ("reserve", i8), ("stage", i8), ("over_high", i64),
    ("own_vma", i32), ("own_pattern", i8), ("own_rate", f64),  # accessed from birth on
    ("store_vma", i32), ("store_ns", i64),  # region it writes to at random, up to when that is played
    ("access_vma", i32), ("access_rate", f64), ("access_credit", f64), ("access_ns", i64),
    ("clock", i8), ("lazy", i8), ("access_pattern", i8), ("exit_at_end", i8),
    ("nominal_ns", i64), ("next_ns", i64), ("busy_ns", i64), ("backoff_ns", i64),  # busy: until its work and waits are over
    ("enomem_ns", i64), ("dirty_paused_ns", i64), ("nr_dirtied", i64), ("nr_dirtied_pause", i64), ("dirty_blocked", i8),
    ("pending", i64), ("next_on_mapping", i32),
    ("psi_running", i8), ("psi_memstall", i8), ("stall_begin_ns", i64), ("wait_memcg", i32), ("late_ns", i64), ("late_max_ns", i64),
    ("stall_ns", i64), ("throttle_ns", i64), ("pause_ns", i64), ("io_ns", i64),
    ("majfaults", i64), ("draws", i64), ("interrupt_ns", f64),  # taken from its CPU, to be paid at its next turn
    ("throttle_told", i8), ("throttle_end_ns", i64), ("reclaim_told_ns", i64), ("il_prev", i32), ("il_weight", i32),  # for the log; interleave: the last turn's node, pages left of it
])  # fmt: skip
TASK_UNBORN, TASK_READY, TASK_STALLED, TASK_SLEEPING = 0, 1, 2, 3
TASK_OOM_WAIT, TASK_DEAD, TASK_EXITING = 4, 5, 6

vma_t = record([
    ("proc", i32), ("mapping", i32), ("next", i32),  # next vma of the process
    ("next_on_mapping", i32),
    ("mapped_pages", i64),  # present in this process's page tables
    ("via_read", i8), ("locked", i8),
    ("copy", i32),  # after fork: the region of this process's own copies, -1: it shares all
    ("ra_index", i32), ("ra_win", i32), ("ra_hits", i32),  # swap_readahead_info: granule, pages, hits
])  # fmt: skip

mapping_t = record([
    ("kind", i8), ("via_read", i8), ("exec", i8), ("thp", i8), ("locked", i8),
    ("pattern", i8), ("node", i8), ("disk", i8),
    ("first_pte", i32), ("nr_ptes", i32),
    ("used", i32),  # granules touched so far, from the first on
    ("max_pages", i64),  # the largest extent it can have
    ("size_pages", i64),  # extent touched or readable so far
    ("resident_pages", i64), ("swapped_pages", i64), ("nonresident", i32),  # granules that fault when touched
    ("owner", i32),  # memcg of the first toucher, -1: whoever faults
    ("first_vma", i32), ("cow_parent", i32),
    ("forks", i32), ("copied", i32),  # children that share it; of copies: granules shared no more
    ("rate", f64),  # sum of the accesses of tasks that are not stalled [pages/s]
    ("progress", f64), ("progress_ns", i64),  # accesses so far [pages]
    ("length_mean", f64), ("length_sd", f64), ("same_filled", f64), ("incompressible", f64),
    ("zipf_s", f64), ("readahead", i8), ("deleted", i8),
    ("first_task", i32),  # tasks that access it: woken when it loses its first page
    ("dirty_pages", i64), ("wb_cursor", i64), ("wb_turn", i64), ("dirtied_ns", i64),
    ("ra_next", i32), ("ra_ns", i64),  # readahead: entry that follows, when it was asked for
    ("stream", i64),  # number of this mapping's stream of draws
    # missing granules by class of popularity, and under zipf what they weigh together; the
    # pattern that this is kept for, -1: not yet
    ("missing", i32, (NR_MISSING_CLASSES,)), ("missing_mass", f64), ("listed", i8),
    ("thp_spare", i64),  # of the last huge page: in memory, not touched yet
    # multi-gen LRU: number of the last walk, and how far the region was then
    ("walk", i64), ("walk_used", i32), ("walk_progress", f64),
])  # fmt: skip

zone_t = record([
    ("managed", i64), ("present", i64), ("spanned", i64),
    ("free", i64),  # NR_FREE_PAGES
    ("wmark", i64, (4,)), ("boost", i64),
    ("reserve", i64, (4,)),  # lowmem_reserve[highest_zoneidx]
    ("nr_free", i64, (NR_ORDERS, NR_MIGRATETYPES)),  # free blocks
    ("head", i32, (NR_ORDERS, NR_MIGRATETYPES)), ("tail", i32, (NR_ORDERS, NR_MIGRATETYPES)),
    ("first_frame", i32), ("nr_frames", i32),
    ("counters_only", i8),  # too small for frames (DMA)
    ("bag_used", i64, (3,)),  # pages handed out singly from broken granules, by migratetype
    ("bag_lru", i64),  # of these, in short frames of users' memory (Movable; all, where counted only)
    ("bag_seed", i64, (NR_ORDERS,)), ("bag_seed_pages", i64),  # free blocks below order g at boot
    ("bag_head", i32, (3,)), ("bag_granules", i64, (3,)),  # stack of broken granules, by migratetype
    ("nr_reserved_highatomic", i64), ("nr_free_highatomic", i64),  # their pageblocks; the free pages of these
    # a captured start: free blocks put by until all is placed (chained by fr.next)
    ("stash", i32), ("stash_seed", i64, (NR_ORDERS,)), ("boost_boot", i64),
    # per-cpu lists: frames that are allocated from the zone's viewpoint
    ("pcp_head", i32, (2, PCP_CPUS)), ("pcp_tail", i32, (2, PCP_CPUS)),  # movable: single pages, huge ones
    ("pcp_other", i32, (PCP_CPUS,)),  # lists of other migratetypes and orders; in pcp_count too
    ("pcp_kernel", i64, (2, PCP_CPUS)),  # pages of bag_used on lists of the kernel's types; too
    ("pcp_count", i64, (PCP_CPUS,)), ("pcp_high", i64, (PCP_CPUS,)),
    ("pcp_factor", i8, (PCP_CPUS,)), ("pcp_alloc_factor", i8, (PCP_CPUS,)),
    ("pcp_free_count", i64, (PCP_CPUS,)),
    ("pcp_batch", i64), ("pcp_boot", i64), ("pcp_high_min", i64), ("pcp_high_max", i64), ("below_high", i8),
    ("reclaim_active", i8), ("boosted", i8),  # ZONE_BOOSTED_WATERMARK: wake kswapd at the next allocation
    ("lru_pages", i64, (NR_LRU_LISTS,)), ("free_min", i64),  # within the recorder's bin
    # compaction: where the scanners go on (frame numbers within the zone; migrate: async, sync)
    ("compact_cached_migrate", i64, (2,)), ("compact_cached_free", i64),
    ("compact_considered", i32), ("compact_defer_shift", i32), ("compact_order_failed", i32), ("compact_blockskip_flush", i8),
    ("nr_hugetlb", i64), ("hugetlb_head", i32),  # huge pages of the pool; their first frames, by fr.next
])  # fmt: skip

scan_control_t = record([  # struct scan_control, of the reclaim that is going on
    ("target", i32),  # memcg whose limit is hit; 0: global reclaim
    ("node", i32), ("priority", i64), ("order", i64), ("reclaim_idx", i64), ("nr_to_reclaim", i64),
    ("nr_reclaimed", i64), ("nr_scanned", i64), ("kswapd", i8), ("may_writepage", i8),
    ("may_unmap", i8), ("may_swap", i8), ("proactive", i8), ("force_deactivate", i8),
    ("skipped_deactivate", i8), ("full_walk", i8), ("memcg_low_reclaim", i8),
    ("memcg_low_skipped", i8), ("deactivate_anon", i8), ("deactivate_file", i8),
    ("cache_trim_mode", i8), ("file_is_tiny", i8), ("no_cache_trim_mode", i8),
    ("cache_trim_failed", i8), ("anon_cost", i64), ("file_cost", i64), ("swappiness", i64),
    ("anon_part", i64), ("file_part", i64), ("dirty", i64), ("unqueued_dirty", i64),
    ("congested", i64), ("writeback", i64), ("immediate", i64), ("taken", i64), ("file_taken", i64),
    ("pageout", i64), ("nr", i64, (NR_LRU_LISTS,)), ("target_scan", i64, (NR_LRU_LISTS,)),
    ("lruvec_reclaimed", i64), ("lruvec_adjusted", i8),  # of the lruvec under way
    # multi-gen LRU: the same, and where shrink_many() is in the memcg LRU
    ("lruvec_scanned", i64), ("in_lruvec", i8), ("reclaimed_before", i64),
    ("many_gen", i8), ("many_bin", i8), ("many_step", i8), ("many_memcg", i32),
])  # fmt: skip

compact_control_t = record([  # struct compact_control, of the compaction that is going on
    ("zone", i32), ("order", i32),  # -1: until the fragmentation score has fallen
    ("sync", i8), ("direct", i8), ("whole_zone", i8), ("ignore_skip", i8), ("running", i8),
    ("migrate", i64), ("free", i64), ("free_at", i64),  # frame numbers within the zone
    # isolate_freepages(): pages between two that are looked at, granules it still wants, end of
    # the free block that it takes, whether the pageblock had any
    ("stride", i32), ("free_wanted", i32), ("free_block_end", i64), ("free_found", i8),
    ("fast_start", i64), ("fast_search_fail", i32), ("nr_isolated", i32), ("isolated", i32, (1 << PAGEBLOCK_ORDER,)),
    ("migrate_scanned", i64), ("free_scanned", i64), ("migrated", i64),
])  # fmt: skip

node_t = record([
    ("kswapd_order", i32), ("kswapd_alloc_order", i32), ("kswapd_reclaim_order", i32),  # next; of the pass
    ("kcompactd_max_order", i32), ("kcompactd_due_ns", i64), ("kcompactd_check_ns", i64), ("kcompactd_cc", compact_control_t),
    ("kcompactd_proactive", i8), ("kcompactd_psi", i8), ("kcompactd_score", i64), ("kcompactd_ns", i64),
    ("kswapd_awake", i8), ("kswapd_failures", i32), ("kswapd_due_ns", i64),
    ("kswapd_priority", i32), ("kswapd_psi", i8), ("kswapd_ns", i64),
    ("kswapd_boost", i64), ("kswapd_reclaimed", i64), ("kswapd_start_boost", i64, (4,)),
    # kswapd's pass while others run: its scan control, the group it is at (-1: no pass)
    ("kswapd_sc", scan_control_t), ("kswapd_memcg", i32), ("kswapd_in_lruvec", i8), ("kswapd_raise", i8),
    ("kswapd_told", i8), ("kswapd_slept_ns", i64),  # a wake is in the log; when it slept last
    ("flag_writeback", i8), ("flag_dirty", i8), ("flag_congested", i8),
    ("totalreserve", i64), ("il_weight", i32), ("reclaim_cursor", i32), ("nr_dirty", i64),  # dirty or under writeback
    ("nr_file_mapped", i64), ("xa_nodes", i64), ("xa_slabs", i64),  # xarray nodes, slabs of them
    # memcg LRU of global reclaim: struct lru_gen_memcg
    ("memcg_lru_seq", i64), ("memcg_lru_nr", i64, (MEMCG_NR_GENS,)),
    ("memcg_lru_head", i32, (MEMCG_NR_GENS, MEMCG_NR_BINS)),
    ("memcg_lru_tail", i32, (MEMCG_NR_GENS, MEMCG_NR_BINS)),
    ("memcg_lru_draws", i64),
])  # fmt: skip

swap_t = record([
    ("priority", i32), ("disk", i32), ("total", i64), ("free", i64), ("zram", i8),
    ("zram_bytes", i64), ("zram_pages", i64), ("zram_limit", i64),
    # struct swap_info_struct: slots, clusters (records of ``pt``), where this CPU's cluster goes on, where the search does
    ("first_slot", i32), ("nr_slots", i32), ("first_cluster", i32), ("next", i32), ("cluster_next", i32), ("cluster_nr", i32), ("trunks", i32), ("lowest", i32), ("highest", i32),
    ("list_head", i32, (NR_CLUSTER_LISTS,)), ("list_tail", i32, (NR_CLUSTER_LISTS,)), ("nr_frag", i32),
])  # fmt: skip

disk_t = record([
    ("read_latency_ns", i64), ("write_latency_ns", i64), ("rotational", i8),
    ("read_ns_per_page", f64), ("write_ns_per_page", f64), ("random_read_ns", f64),
    ("read_busy_ns", i64), ("write_busy_ns", i64),  # time up to which the queue is full
    ("wb_head", i32), ("wb_tail", i32),  # frames under writeback, in order of completion
    ("wb_pages", i64), ("queue_depth", i32), ("max_request_pages", i32), ("max_plug_requests", i32), ("buffer_heads", i8),
    # struct bdi_writeback: dirty pages, totals, estimates [pages, pages/s]
    ("nr_dirty", i64), ("dirtied", i64), ("written", i64), ("completions", f64),
    ("dirtied_stamp", i64), ("written_stamp", i64), ("bw_stamp_ns", i64),
    ("write_bandwidth", f64), ("avg_write_bandwidth", f64),
    ("dirty_ratelimit", f64), ("balanced_dirty_ratelimit", f64),
])  # fmt: skip

costs_t = record([
    (name, f64) for name in (
        "fault_ns", "fill_ns", "file_copy_ns", "read_syscall_ns", "write_copy_ns", "scan_ns", "visit_ns",
        "rotate_ns", "unmap_ns", "free_ns", "swap_setup_ns", "swapin_setup_ns",
        "compress_ns", "decompress_ns", "charge_ns", "touch_ns", "exit_unmap_ns",
        "exit_free_ns", "rmap_ns", "filemap_ns", "slab_scan_ns", "contention", "kill_delay_ns", "oom_ns",
        "sample_ns", "shootdown_ns")
])  # fmt: skip

event_t = record([
    ("t_ns", i64), ("kind", i32), ("proc", i32), ("task", i32), ("memcg", i32),
    ("a", i64), ("b", i64), ("c", i64), ("d", i64), ("e", i64), ("f", i64), ("x", f64),
    ("pgtables", i64), ("dump", i32), ("trigger", i32), ("nodes", i32),  # of a kill: its candidates, and who asked for memory
    ("looked_ns", i64), ("looked", i64), ("oom_mpol", i8),  # of a kill: the kubelet's last look before it; nodes by policy
])  # fmt: skip
candidate_t = record([
    ("proc", i32), ("points", i64), ("rss_anon", i64), ("rss_file", i64), ("rss_shmem", i64),
    ("swapents", i64), ("pgtables", i64),
])  # fmt: skip
oom_dump_t = record([("nr", i32), ("candidate", candidate_t, (OOM_CANDIDATES,))])

# Writes to cgroup files (and sysctls) that do work of their own; up to REPLAN they move a
# limit, so growth that was safe may not be any more.
write_t = record([
    ("kind", i32), ("memcg", i32), ("value", i64), ("due_ns", i64), ("done", i64),
    ("retries", i32), ("drained", i8), ("begun", i8),
])  # fmt: skip

kernel_t = record([
    ("now_ns", i64), ("sample_due_ns", i64), ("sample_ns", i64), ("log_row", i64),
    ("log_width", i64), ("seed", u64), ("replicate", u64),
    ("g", i32), ("granule_pages", i64),
    ("nr_nodes", i32), ("nr_zones", i32), ("nr_cpus", i32), ("hz", i64),
    ("nr_memcgs", i32), ("nr_procs", i32), ("nr_tasks", i32), ("nr_vmas", i32),
    ("nr_mappings", i32), ("nr_entries", i64), ("nr_swaps", i32), ("nr_disks", i32),
    ("totalram", i64), ("totalswap", i64), ("total_reserve", i64),
    # sysctls
    ("min_free_kbytes", i64), ("user_min_free_kbytes", i64), ("watermark_scale_factor", i64),
    ("watermark_boost_factor", i64),
    ("swappiness", i64), ("vfs_cache_pressure", i64), ("page_cluster", i64),
    ("dirty_ratio", i64), ("dirty_background_ratio", i64), ("dirty_bytes", i64),
    ("dirty_background_bytes", i64), ("dirty_expire_ns", i64), ("dirty_writeback_ns", i64),
    ("extfrag_threshold", i64), ("compaction_proactiveness", i64), ("nr_hugepages", i64),
    ("zone_reclaim_mode", i64), ("min_unmapped_ratio", i64), ("min_slab_ratio", i64), ("panic_on_oom", i64), ("oom_kill_allocating_task", i64),
    ("lru_gen_min_ttl_ns", i64), ("thp_enabled", i8), ("khugepaged_ns", i64),
    # features of the release (data, never a version comparison)
    ("lru_gen", i8), ("cgroup_v1", i8), ("recursiveprot", i8), ("direct_reclaim_cursor", i8),
    ("cost_rotations", i8), ("movable_excluded", i8), ("pcp_auto", i8), ("zeromap", i8), ("swap_cluster_lists", i8),
    ("anon_starts_active", i8), ("oom_reaper_delay_ns", i64), ("root_bonus", i8),
    ("oom_ties_to_first", i8), ("badness_per_mille", i8),
    ("badness_clamped", i8), ("empty_lru_counts_free", i8), ("zswap_exclusive_load", i8), ("high_penalty", i8),
    ("zswap_shrinker", i8), ("zswap_memcg_writeback", i8), ("zswap_lru", i8), ("zswap_second_chance", i8), ("pagevec_size", i8), ("full_walk_retry", i8), ("vma_readahead", i8), ("proactive_reclaim_shift", i8), ("soft_limit", i8), ("memcg_slab_counts", i8), ("zsmalloc_chain", i8),
    ("fallback_claims", i8), ("proactive_counted", i8), ("highatomic_counts_free", i8), ("swap_shadow_nodes", i8),
    ("first_xa_node", i64), ("xa_node_shift", i64), ("xa_slab_order", i64), ("xa_slab_nodes", i64),  # record of the first xarray node (0: none is counted), granules of one, their slabs
    # the swap map's first record; struct swap_slots_cache: taken ahead, and given back
    ("first_slot", i64), ("cluster_slots", i32), ("swap_slots_max", i32), ("slot_cache_active", i8), ("nr_cached_slots", i32), ("cached_at", i32), ("nr_returned_slots", i32),
    *((name, i32, (SWAP_SLOTS_CACHE_SIZE,)) for name in ("cached_slot", "returned_slot", "returned_pages", "returned_owner")),
    # swap read-ahead by cluster: rotating areas, hits, where it was last, its window
    ("nr_rotate_swap", i32), ("swapin_readahead_hits", i64), ("swapin_prev", i64), ("swapin_last_pages", i64),
    # zswap
    ("zswap_enabled", i8), ("zswap_shrinker_enabled", i8), ("zswap_zpool", i8), ("zswap_full", i8), ("zswap_shrink_pending", i8), ("zswap_next_shrink", i32), ("zswap_woken_ns", f64), ("zswap_rejected_ns", f64),  # at what work of the actor its worker was woken first and last
    ("zswap_max_pool_percent", i64), ("zswap_accept_percent", i64),
    ("zswap_bytes", i64), ("zswap_pages", i64), ("zswap_stored", i64),
    ("zswap_same_filled", i64), ("zswap_hist", i64, (65,)), ("first_zswap", i64),  # record of the first links of its lists
    ("zswap_class_bytes", i64), ("nr_lru_add", i32), ("lru_add_batch", i32, (PAGEVEC_SIZE,)),  # pages that it writes back, on no list yet
    # node-wide page counts (vmstat NR_*)
    ("nr_anon", i64), ("nr_file", i64), ("nr_shmem", i64), ("nr_dirty", i64),
    ("nr_writeback", i64), ("nr_slab_reclaimable", i64), ("nr_slab_memcg", i64), ("nr_xa_pages", i64), ("nr_buffer_heads", i64), ("nr_buffer_slabs", i64), ("flushed_ns", i64), ("nr_slab_unreclaimable", i64),
    ("nr_slab_pinned", i64),  # of the reclaimable: objects in use, on no shrinker's list
    ("nr_kernel", i64), ("nr_pagetables", i64), ("nr_mlocked", i64), ("nr_swapcached", i64),
    ("vmstat", i64, (NR_VMSTAT,)), ("vmstat_due_ns", i64),
    # OOM
    ("oom_lock_until_ns", i64), ("panicked", i8), ("need_resched", i8),
    ("oom_nodes", i64), ("oom_mpol", i8),  # of the kill under way: nodes that its allocation is bound to, 0: none; by a memory policy
    ("mems_allowed", i64), ("mempolicies", i8), ("mpol_mode", i8), ("mpol_nodes", i64), ("nodemask", i64),  # nodes that the actor may use; is there a policy? the actor's, and what it binds the kernel's memory to
    # who is acting now: what it has spent so far [ns], on which CPU, and when its I/O ends
    ("work_ns", f64), ("wait_ns", f64), ("memstall_ns", f64), ("cpu", i32), ("actor", i32),
    ("reserve", i8),  # the actor may use reserves (OOM victim)
    ("nofragment", i8), ("no_kswapd", i8),  # ALLOC_NOFRAGMENT of the request that is going on; it lacks __GFP_KSWAPD_RECLAIM
    ("spread_dirty", i8),  # the page asked for is going to be dirty (__GFP_WRITE)
    ("sc", scan_control_t), ("cc", compact_control_t), ("proactive_due_ns", i64), ("proactive_woken", i8), ("hugetlb_next_nid", i32),
    # struct blk_plug of direct reclaim and of kswapd: pages not yet sent; requests, the last one's pages and where it ends
    ("plug_head", i32, (2,)), ("plug_tail", i32, (2,)), ("plug_pages", i64, (2,)), ("plug_outer", i8),
    ("plug_requests", i32, (2,)), ("plug_last", i64, (2,)), ("plug_slot", i64, (2,)), ("plug_disk", i32, (2,)), ("isolated", i32, (64,)), ("nr_isolated", i32),  # the batch's written
    ("read_pte", i32, (256,)), ("read_done_ns", i64, (256,)), ("nr_reads", i32), ("reads_due_ns", i64),
    ("lru_gen_isolated", i32, (64,)),  # a batch on its way out (MIN_LRU_BATCH)
    ("walks", i64),
    # the stepping loop
    ("heap", i32, (MAX_TASKS + 64,)), ("heap_due", i64, (MAX_TASKS + 64,)), ("heap_len", i32),
    ("cpu_free_ns", i64, (MAX_CPUS,)), ("cpu_actor", i32, (MAX_CPUS,)),  # who had it last
    ("cpu_lazy_mm", i8, (PCP_CPUS,)),  # idle after an exit, still on the dead mm
    ("flusher_due_ns", i64), ("flusher_on", i8),  # woken by a writer
    ("flusher_work", i8), ("flusher_file", i32), ("flusher_turn", i64), ("flusher_chunk", i64),
    ("flusher_left", i64),  # pages that the present work may still write
    ("completions", f64), ("completions_ns", i64),  # of all devices, halved every 3 s
    ("frames_free_spare", i32),  # spare frame records (scattered granules)
    ("pending", i64),  # growth of all tasks in their current segments [pages]
    ("wake_mark", i64),  # node-wide free pages below which some mark may be reached
    ("lost", i32, (256,)), ("nr_lost", i32), ("nr_killed", i64),  # mappings that lost their first granule: wake their tasks
    ("stop", i32), ("booted", i8),
    ("captured", i8),  # 1: what was captured is being placed, 2: it is in place
    ("steps", i64), ("nr_events", i32), ("events_lost", i64),
    ("event", event_t, (MAX_EVENTS,)),
    ("oom_dump", oom_dump_t, (MAX_OOM_DUMPS,)), ("nr_oom_dumps", i32),
    ("swap_full_ns", i64), ("zswap_full_ns", i64),  # when it was full last
    ("write", write_t, (MAX_WRITES,)), ("nr_writes", i32), ("write_due_ns", i64),
    # agents in user space: what to stop for (WATCH_*), at how many pages; looks that the engine takes for the kubelet
    ("watch", i32), ("watch_available", i64), ("watch_swap", i64), ("watch_usage", i64),
    ("look_due_ns", i64), ("look_every_ns", i64), ("look_least", i64), ("look_group", i32), ("look_group_least", i64),
    ("looked_ns", i64, (2,)), ("looked", i64, (2, 2)),  # the last look, the one before: when, both signals
    ("stats_due_ns", i64), ("stats_every_ns", i64), ("stats_ns", i64),  # cAdvisor's samples
    ("cost", costs_t), ("psi", psi_t),
    ("node", node_t, (MAX_NODES,)), ("zone", zone_t, (MAX_ZONES,)),
    ("swap", swap_t, (MAX_SWAPS,)), ("disk", disk_t, (MAX_DISKS,)),
    ("memcg", memcg_t, (MAX_MEMCGS,)), ("proc", proc_t, (MAX_PROCS,)),
    ("task", task_t, (MAX_TASKS,)), ("vma", vma_t, (MAX_VMAS,)),
    ("mapping", mapping_t, (MAX_MAPPINGS,)),
])  # fmt: skip


def new_kernel() -> np.ndarray[Any, Any]:
    """One zeroed kernel record, ``(1,) kernel_t``: links say "none", nothing is due."""
    kernel = np.zeros(1, attributes(kernel_t))
    k = kernel[0]
    for table, links in _LINKS.items():
        for link in links:
            (k[table] if table else k)[link] = -1
    for link in _LRUVEC_LINKS:
        k["memcg"]["lruvec"][link] = -1
    for counter in ("memory", "swap", "memsw"):
        for field in ("max", "high"):
            k["memcg"][counter][field] = UNLIMITED
    k["memcg"]["zswap_max"] = k["memcg"]["soft_limit"] = UNLIMITED
    k["memcg"]["mems_allowed"] = k["mems_allowed"] = k["nodemask"] = -1
    k["memcg"]["zswap_writeback"] = 1
    k["task"]["due_ns"] = NEVER_NS
    k["node"]["kswapd_due_ns"] = k["node"]["kcompactd_due_ns"] = NEVER_NS
    for field in ("flusher_due_ns", "sample_due_ns", "write_due_ns", "look_due_ns", "stats_due_ns"):
        k[field] = NEVER_NS
    k["swapin_readahead_hits"] = 4  # mm/swap_state.c, ATOMIC_INIT(4)
    k["swap_full_ns"] = k["zswap_full_ns"] = -QUIET_NS
    k["task"]["reclaim_told_ns"] = -QUIET_NS
    _init_writeback(k)
    return kernel


def _init_writeback(k: Any) -> None:
    """Estimates before anything was written (wb_init, sched_fork); no stream is read ahead."""
    for field in ("write_bandwidth", "avg_write_bandwidth", "dirty_ratelimit"):
        k["disk"][field] = INIT_BW
    k["disk"]["balanced_dirty_ratelimit"] = INIT_BW
    k["flusher_turn"] = 1
    k["task"]["nr_dirtied_pause"] = 32  # 128 KiB


_LRUVEC_LINKS = ("head", "tail", "latest", "gen_head", "gen_tail", "memcg_next", "memcg_prev", "shadow_head", "shadow_tail")  # fmt: skip
# Fields that are links, by table ("": of the kernel itself).
_LINKS = {
    "": ("plug_head", "frames_free_spare", "flusher_file", "look_group", "zswap_next_shrink"),
    "memcg": ("parent", "heir", "zswap_head", "zswap_tail"),
    "node": ("memcg_lru_head", "memcg_lru_tail", "kswapd_memcg"),
    "zone": (
        "head", "tail", "pcp_head", "pcp_tail", "pcp_other", "bag_head", "stash", "hugetlb_head",
    ),
    "disk": ("wb_head", "wb_tail"),
    "proc": ("first_vma", "parent", "gather_head", "first_task"),
    "task": ("heap_pos", "access_vma", "own_vma", "store_vma", "next_on_mapping", "il_prev"),
    "vma": ("copy",),
    "mapping": ("first_vma", "first_task", "cow_parent", "owner", "ra_next", "listed"),
}  # fmt: skip


def new_frames(nr_frames: int) -> np.ndarray[Any, Any]:
    """``(nr_frames,) frame_t``, on no list, owned by nobody."""
    one = np.zeros(1, frame_t)
    for field in ("next", "prev", "io_next", "memcg", "mapping", "pte", "swap", "ahead"):
        one[field] = -1
    one["lru"] = LRU_NONE
    return filled(nr_frames, one)


def new_entries(nr_entries: int, nr_xa_nodes: int = 0, nr_swap: int = 0) -> np.ndarray[Any, Any]:
    """``(entries + cells + nodes + swap,) entry_t``: a cell each; xarray nodes; :mod:`swap_map`."""
    one = np.zeros(1, entry_t)
    for field in ("frame", "memcg", "owner", "swap", "slot"):
        one[field] = -1
    end = nr_entries + -(-nr_entries // CELLS)
    entries = filled(end + nr_xa_nodes + nr_swap, one)
    entries["cells"][end:] = 0
    return entries


def new_program(nr_ops: int) -> np.ndarray[Any, Any]:
    """``(nr_ops,) op_t``, to be written."""
    return np.zeros(nr_ops, attributes(op_t))
