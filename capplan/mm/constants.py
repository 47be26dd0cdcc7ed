"""Numbers and names of the kernel's state: sizes of the tables, flags, lists, counters, events.

:mod:`capplan.mm.state` gives them out again, so that a mechanism imports from one place.
"""

from __future__ import annotations

PAGE_SIZE = 4096
NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NEVER_NS = 1 << 62
UNLIMITED = (1 << 63) // 4096 - 1  # PAGE_COUNTER_MAX [pages]

# Limits of the fixed tables (sim/build.py refuses more with a clear message).
MAX_NODES = 4
MAX_ZONES = MAX_NODES * 4
MAX_MEMCGS = 1024
MAX_PROCS = 2048
MAX_TASKS = 4096
MAX_VMAS = 8192
MAX_MAPPINGS = 8192
MAX_SWAPS = 8
MAX_DISKS = 8
MAX_EVENTS = 4096
MAX_WRITES = 256
MAX_OOM_DUMPS = 64
OOM_CANDIDATES = 5
MAX_CPUS = 512
PCP_CPUS = 64  # CPUs beyond share their lists
CELLS = 8  # of 32 bits, in an entry
AHEAD = 3  # pages of a list between the one that a scan is at and the one it asks memory for
NR_MISSING_CLASSES = 31  # granules 2^c - 1 to 2^(c+1) - 2 of a mapping

# Kernel constants (kernel-model: key constants).
SWAP_CLUSTER_MAX = 32
PAGEVEC_SIZE = 31  # include/linux/pagevec.h; 15 before 6.9 (feature pagevec_size)
DEF_PRIORITY = 12
MAX_RECLAIM_RETRIES = 16
KSWAPD_SLICE_NS = NS_PER_MS  # kswapd runs beside the tasks: their turns come between
INIT_BW = (100 << 20) >> 12  # wb_init(): a device is thought to write 100 MiB/s [pages/s]
MEMCG_CHARGE_BATCH = 64
NR_ORDERS = 11
MAX_PAGE_ORDER = 10
PAGE_ALLOC_COSTLY_ORDER = 3
COMPACT_CLUSTER_MAX = 32
PAGEBLOCK_ORDER = 9
HPAGE_PMD_NR = 1 << PAGEBLOCK_ORDER

# Zone types (index inside a node) and migratetypes.
ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE = 0, 1, 2, 3
ZONES_PER_NODE = 4
ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable")
MT_UNMOVABLE, MT_MOVABLE, MT_RECLAIMABLE, MT_HIGHATOMIC = 0, 1, 2, 3
NR_MIGRATETYPES = 4
WMARK_MIN, WMARK_LOW, WMARK_HIGH, WMARK_PROMO = 0, 1, 2, 3

# LRU lists.
LRU_INACTIVE_ANON, LRU_ACTIVE_ANON = 0, 1
LRU_INACTIVE_FILE, LRU_ACTIVE_FILE = 2, 3
LRU_UNEVICTABLE = 4
NR_LRU_LISTS = 5
LRU_NONE = 255
MIN_NR_GENS, MAX_NR_GENS, MAX_NR_TIERS = 2, 4, 4
MEMCG_NR_GENS, MEMCG_NR_BINS = 3, 8

# Frame flags (PG_*).
PG_FREE = 1  # head of a free block
PG_REFERENCED = 2
PG_ACTIVE = 4
PG_WORKINGSET = 8
PG_DIRTY = 16
PG_WRITEBACK = 32
PG_RECLAIM = 64
PG_SWAPBACKED = 128
PG_SWAPCACHE = 256  # holds a swap slot while resident
PG_MLOCKED = 512
PG_YOUNG = 1024  # touched by the fault that brought it in; cleared at the first look
PG_EXEC = 2048
PG_KERNEL = 4096  # on no list: page tables, slab, stacks
PG_SCATTERED = 8192  # a frame record without a block of its own (pages from the sub-g bag)
PG_SWAP_CLEAN = 32768  # in the swap cache, written and not touched since
PG_DOOMED = 65536  # freed while under writeback: goes when the I/O ends
PG_READAHEAD = 131072  # in the swap cache, read along with another and not touched yet
PG_MOVABLE = 262144  # on no list, but can be migrated: single pages of a pool (__PageMovable())
PG_HUGE = 524288  # of a huge page that was not split (head, tails)
PG_PRIVATE = 1048576  # has buffer heads
PG_MAPPED = 16384  # reached by page tables (anon, shmem that was mapped, mmapped file)

# Entry states (pt).
PTE_NONE, PTE_PRESENT, PTE_SWAP, PTE_ZSWAP, PTE_SHADOW, PTE_COW = 0, 1, 2, 3, 4, 5

SWAPFILE_CLUSTER = 512
SWAP_SLOTS_CACHE_SIZE = 64
NR_CLUSTER_LISTS = 5  # of mm/swap_map

# What an entry's place in its xarray node holds (XA_SHMEM: a page of tmpfs or its swap entry).
XA_NONE, XA_PAGE, XA_SHADOW, XA_SHMEM = 0, 1, 2, 3
XA_CHUNK_SHIFT = 6
# sizeof(struct xa_node), a pointer to the next free one behind it (the cache has a constructor),
# and one to the group that pays for it (obj_full_size())
XA_OBJECT_SIZE = 576 + 8
XA_NODE_SIZE = XA_OBJECT_SIZE + 8
BUFFER_HEAD_SIZE = 104 + 8  # of struct buffer_head, and the same pointer

# Mapping kinds.
MAP_ANON, MAP_FILE, MAP_SHMEM, MAP_KERNEL = 0, 1, 2, 3

# include/uapi/linux/mempolicy.h
MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL = 0, 1, 2, 3, 4
MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE = 5, 6

# Access patterns.
ACCESS_IDLE, ACCESS_CYCLIC, ACCESS_UNIFORM, ACCESS_ZIPF, ACCESS_ONCE = 0, 1, 2, 3, 4

# memory.events
EV_LOW, EV_HIGH, EV_MAX, EV_OOM, EV_OOM_KILL, EV_OOM_GROUP_KILL = 0, 1, 2, 3, 4, 5
EV_SWAP_HIGH, EV_SWAP_MAX, EV_SWAP_FAIL = 6, 7, 8
NR_MEMCG_EVENTS = 9

# Per-memcg statistics that change page by page (memory.stat, own, not hierarchical).
ST_ANON, ST_FILE, ST_SHMEM, ST_KERNEL, ST_PAGETABLES, ST_SLAB_RECLAIMABLE = 0, 1, 2, 3, 4, 5
ST_SLAB_UNRECLAIMABLE, ST_FILE_MAPPED, ST_FILE_DIRTY, ST_FILE_WRITEBACK = 6, 7, 8, 9
ST_SWAPCACHED, ST_ZSWAPPED, ST_PGSCAN, ST_PGSTEAL, ST_PGFAULT, ST_PGMAJFAULT = (
    10, 11, 12, 13, 14, 15)  # fmt: skip
ST_REFAULT_ANON, ST_REFAULT_FILE, ST_ACTIVATE_ANON, ST_ACTIVATE_FILE = 16, 17, 18, 19
ST_RESTORE_ANON, ST_RESTORE_FILE, ST_PSWPIN, ST_PSWPOUT = 20, 21, 22, 23
ST_ZSWPIN, ST_ZSWPOUT, ST_KERNEL_STACK = 24, 25, 26
NR_MEMCG_STATS = 28
MEMCG_STATS = (
    "anon", "file", "shmem", "kernel", "pagetables", "slab_reclaimable",
    "slab_unreclaimable", "file_mapped", "file_dirty", "file_writeback", "swapcached",
    "zswapped", "pgscan", "pgsteal", "pgfault", "pgmajfault", "workingset_refault_anon",
    "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file",
    "workingset_restore_anon", "workingset_restore_file", "pswpin", "pswpout", "zswpin",
    "zswpout", "kernel_stack", "reserved",
)  # fmt: skip

# /proc/vmstat counters (node-wide, cumulative).
VM_PSWPIN, VM_PSWPOUT, VM_PGSCAN_KSWAPD, VM_PGSCAN_DIRECT = 0, 1, 2, 3
VM_PGSTEAL_KSWAPD, VM_PGSTEAL_DIRECT, VM_ALLOCSTALL, VM_REFAULT_ANON = 4, 5, 6, 7
VM_REFAULT_FILE, VM_ACTIVATE_FILE, VM_ACTIVATE_ANON, VM_PGMAJFAULT, VM_PGFAULT = 8, 9, 10, 11, 12
VM_OOM_KILL, VM_KSWAPD_LOW_QUICKLY, VM_KSWAPD_HIGH_QUICKLY, VM_PAGEOUTRUN = 13, 14, 15, 16
VM_ZSWPIN, VM_ZSWPOUT, VM_ZSWPWB, VM_SLABS_SCANNED, VM_PGACTIVATE, VM_PGDEACTIVATE = (
    17, 18, 19, 20, 21, 22)  # fmt: skip
VM_PGREFILL, VM_PGROTATED, VM_COMPACT_STALL, VM_COMPACT_SUCCESS = 23, 24, 25, 26
VM_THP_FAULT_ALLOC, VM_THP_FAULT_FALLBACK, VM_PGALLOC, VM_PGFREE = 27, 28, 29, 30
VM_SWAP_RA, VM_SWAP_RA_HIT = 31, 32
VM_COMPACT_FAIL, VM_COMPACT_MIGRATE_SCANNED, VM_COMPACT_FREE_SCANNED = 33, 34, 35
VM_COMPACT_DAEMON_WAKE, VM_COMPACT_DAEMON_MIGRATE_SCANNED = 36, 37
VM_COMPACT_DAEMON_FREE_SCANNED, VM_PGMIGRATE_SUCCESS = 38, 39
VM_HTLB_BUDDY_ALLOC_SUCCESS, VM_HTLB_BUDDY_ALLOC_FAIL = 40, 41
VM_ZONE_RECLAIM_SUCCESS, VM_ZONE_RECLAIM_FAILED = 42, 43
NR_VMSTAT = 44
VMSTAT = (
    "pswpin", "pswpout", "pgscan_kswapd", "pgscan_direct", "pgsteal_kswapd",
    "pgsteal_direct", "allocstall", "workingset_refault_anon", "workingset_refault_file",
    "workingset_activate_file", "workingset_activate_anon", "pgmajfault", "pgfault",
    "oom_kill", "kswapd_low_wmark_hit_quickly", "kswapd_high_wmark_hit_quickly",
    "pageoutrun", "zswpin", "zswpout", "zswpwb", "slabs_scanned", "pgactivate",
    "pgdeactivate", "pgrefill", "pgrotated", "compact_stall", "compact_success",
    "thp_fault_alloc", "thp_fault_fallback", "pgalloc", "pgfree", "swap_ra", "swap_ra_hit",
    "compact_fail", "compact_migrate_scanned", "compact_free_scanned", "compact_daemon_wake",
    "compact_daemon_migrate_scanned", "compact_daemon_free_scanned", "pgmigrate_success",
    "htlb_buddy_alloc_success", "htlb_buddy_alloc_fail", "zone_reclaim_success",
    "zone_reclaim_failed",
)  # fmt: skip

# Events of the same kind less than this apart are one: the log keeps its first and its end.
QUIET_NS = NS_PER_S
(KIND_START, KIND_EXIT, KIND_OOM_KILL, KIND_PAUSED, KIND_RESUMED, KIND_THROTTLE_BEGIN,
 KIND_THROTTLE_END, KIND_OOM_NO_VICTIM, KIND_PANIC, KIND_DIRECT_RECLAIM, KIND_KSWAPD_WAKE,
 KIND_KSWAPD_SLEEP, KIND_SWAP_FULL, KIND_ZSWAP_FULL, KIND_ENOMEM, KIND_RESTART,
 KIND_WRITE_FAILED) = range(1, 18)  # fmt: skip

# Writes to cgroup files and sysctls (state.write_t).
(WRITE_MAX, WRITE_HIGH, WRITE_V1_LIMIT, WRITE_V1_MEMSW, WRITE_REPLAN, WRITE_RECLAIM,
 WRITE_OOM_RECOVER, WRITE_SIGTERM, WRITE_SIGKILL, WRITE_EVICT,
 WRITE_HUGEPAGES, WRITE_BEGIN) = range(1, 13)  # fmt: skip

# What agents in user space have the engine watch for (kernel_t.watch), so that it can tell
# them that a look is worth while.
WATCH_AVAILABLE = 1  # free pages and page cache fell below watch_available
WATCH_SWAP = 2  # free swap fell below watch_swap
WATCH_USAGE = 4  # v1: usage of the root group reached watch_usage
WATCH_STALL = 8  # a task, or kswapd, began a memory stall
WATCH_AVERAGES = 16  # PSI averages are read: they decay while nobody is stalled
