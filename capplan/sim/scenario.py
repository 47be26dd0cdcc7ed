"""What a run needs, in the kernel's units: the one seam between what people write and ``mm``.

Node files, recordings and captures are all turned into a :class:`Scenario`
(pages of 4096 bytes, nanoseconds, pages per second); :mod:`capplan.sim.build` turns a
scenario into kernel state. Nothing here knows YAML, and nothing here runs.

Rounding is the kernel's: sizes written to cgroup files are ``bytes // 4096``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from capplan.sim.agents.model import Agent

PAGE_SIZE = 4096
UNLIMITED = -1  # "max" in limits


@dataclass(frozen=True)
class Zone:
    """One zone as /proc/zoneinfo shows it [pages]."""

    node: int
    name: str  # DMA, DMA32, Normal, Movable
    spanned: int
    present: int
    managed: int
    free: int | None = None  # at start; None: managed minus what the system uses
    wmark: tuple[int, int, int] | None = None  # min, low, high as captured; None: computed
    boost: int = 0
    protection: tuple[int, ...] | None = None  # lowmem_reserve as captured; None: computed
    buddyinfo: tuple[int, ...] | None = None  # free blocks per order 0..10
    # free blocks per order by migratetype (Unmovable, ..., HighAtomic); before buddyinfo
    pagetypeinfo: dict[str, tuple[int, ...]] | None = None
    pcp_pages: int = 0  # on per-cpu lists at start, beside ``free``


@dataclass(frozen=True)
class Disk:
    """A block device's speeds (a calibration, with its origin)."""

    name: str
    read_latency_ns: int
    write_latency_ns: int
    read_ns_per_page: float  # sequential or deep-queue throughput
    write_ns_per_page: float
    random_read_ns: float  # one 4 KiB read, queue depth 1
    origin: str = ""
    rotational: bool = False  # seeks: swap on it is read ahead by cluster
    buffer_heads: bool = True  # its file system gives written pages some (ext4)
    max_request_pages: int = 128  # BLK_MAX_SEGMENTS, a queue's default
    max_plug_requests: int = 32  # BLK_MAX_REQUEST_COUNT, or less by writeback throttling


@dataclass(frozen=True)
class Swap:
    disk: str
    size_pages: int
    priority: int
    zram: bool = False
    zram_limit_pages: int = 0


@dataclass(frozen=True)
class Zswap:
    enabled: bool
    max_pool_percent: int = 20
    accept_threshold_percent: int = 90
    compressor: str = "lzo"
    zpool: str = "zsmalloc"  # zbud, z3fold, zsmalloc
    shrinker_enabled: bool = False


@dataclass(frozen=True)
class Node:
    """The machine, its sysctls and what it already uses at t = 0."""

    zones: tuple[Zone, ...]
    cpus: int
    release: str  # "6.1", "6.12.0-1-amd64", "5.14.0-427.el9": see capplan.release
    hz: int = 250
    # sysctls that were set or are in force; missing ones take the kernel's default
    sysctl: dict[str, int] = field(default_factory=dict)
    min_free_kbytes_in_force: int | None = None  # None: computed
    lru_gen: bool | None = None  # None: the release's default
    thp: bool = True  # THP on in any mode raises min_free_kbytes
    thp_compact: bool = False  # a fault of a region that uses THP compacts (its ``defrag``)
    disks: tuple[Disk, ...] = ()
    swaps: tuple[Swap, ...] = ()
    zswap: Zswap | None = None
    # used at t = 0 and not part of any container [pages]
    kernel_pages: int = 0  # unreclaimable: text beyond managed, slab, percpu, stacks, pcp
    slab_reclaimable_pages: int = 0
    slab_pinned_pages: int = 0  # part of slab_reclaimable_pages: objects in use, never freed
    daemon_anon_pages: int = 0
    daemon_file_pages: int = 0
    daemon_shmem_pages: int = 0
    daemon_locked_pages: int = 0  # part of daemon_anon_pages
    daemon_locked_shmem_pages: int = 0  # part of daemon_shmem_pages
    # the zones' free pages are those at t = 0 with everything in place, containers and all; the
    # kernel's own memory is what nothing else accounts for
    captured: bool = False
    costs: dict[str, float] = field(default_factory=dict)  # overrides of capplan.sim.costs, by name
    restart_policy: str = "Never"
    # weighted_interleave/nodeN of each memory node; none: 1 each
    interleave_weights: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cgroup:
    """One control group below the root; path "kubepods.slice/web-0". Limits in pages, -1: max."""

    path: str
    memory_max: int = UNLIMITED  # v1: limit_in_bytes
    memory_high: int = UNLIMITED
    memory_low: int = 0
    memory_min: int = 0
    swap_max: int = UNLIMITED
    swap_high: int = UNLIMITED
    zswap_max: int = UNLIMITED
    zswap_writeback: bool = True
    oom_group: bool = False
    memsw_max: int = UNLIMITED  # v1
    soft_limit: int = UNLIMITED  # v1
    swappiness: int | None = None  # v1; None: vm.swappiness
    oom_kill_disable: bool = False  # v1
    mems: tuple[int, ...] | None = None  # cpuset.mems; None: all that its parent may use
    slab_reclaimable_pages: int = 0  # dentries and inodes charged to it at t = 0
    oom_kill_disable_assumed: bool = False  # nothing was written: capplan's assumption
    of_container: bool = False  # removed with its last process, new for the next one


@dataclass(frozen=True)
class LruLists:
    """Pages on a group's own lists when it was captured, oldest first: inactive and active, or
    the generations of multi-gen LRU with their ages.
    """

    anon: tuple[int, ...]
    file: tuple[int, ...]
    age_ns: tuple[int, ...] = ()


# Cgroup files that hold a limit in bytes, v2's and v1's, and the field each sets.
LIMIT_FILES = {
    "memory.max": "memory_max",
    "memory.limit_in_bytes": "memory_max",
    "memory.high": "memory_high",
    "memory.low": "memory_low",
    "memory.min": "memory_min",
    "memory.swap.max": "swap_max",
    "memory.swap.high": "swap_high",
    "memory.zswap.max": "zswap_max",
    "memory.memsw.limit_in_bytes": "memsw_max",
    "memory.soft_limit_in_bytes": "soft_limit",
}


@dataclass(frozen=True)
class Access:
    """How a region is accessed while its task is not stalled."""

    pattern: str = "idle"  # idle, cyclic, uniform, zipf, once
    rate: float = 0.0  # pages per second
    zipf_s: float = 1.0


@dataclass(frozen=True)
class Mapping:
    """A piece of memory: one anonymous region, a file, a shmem object, or kernel memory."""

    name: str  # unique in the scenario
    kind: str  # anon, file, shmem, kernel
    max_pages: int  # the largest extent it can ever have
    size_pages: int = 0  # extent at t = 0 (files: their length)
    resident_pages: int = 0  # in memory at t = 0 (start: warm)
    swapped_pages: int = 0  # in swap at t = 0
    via: str = "mmap"  # files: read or mmap
    exec: bool = False
    disk: str = ""  # files
    locked: bool = False
    thp: bool = False
    owner: str | None = None  # cgroup that pays from the start; None: first toucher
    # compressibility: bytes a 4096-byte page is stored in, drawn per page
    length_mean: float = 4096.0
    length_sd: float = 0.0
    same_filled: float = 0.0  # share of pages that hold one repeated word
    incompressible: float = 0.0  # share of pages that the compressor rejects
    cow_of: str | None = None  # a child's own copies of pages of a mapping it got by fork


@dataclass(frozen=True)
class Op:
    """One thing a task does; ops run one after the other.

    ========= ============================ =======================================
    op        fields                       meaning
    ========= ============================ =======================================
    grow      mapping, pages, rate         first touch in order until it has grown by ``pages``
    target    mapping, pages, at_ns        linear to extent ``pages``, reached at run time ``at_ns``
                                           (falls free the newest); the trace op
    touch     mapping, pattern, rate, ns   access the whole mapping for ``ns`` (the task's own
                                           accesses rest meanwhile)
    read      mapping, pages, rate, into   read(2) the first ``pages`` of a file once, in order;
                                           ``into``: a region that grows as the buffer
    read_loop mapping, pages, rate, ns     over and over
    read_rand mapping, pages, rate, ns     4 KiB preads at uniform offsets, no readahead
    write     mapping, pages, rate         write(2): file becomes dirty, shmem grows
    hold      ns                           do nothing (the mapping's own access goes on)
    wait      at_ns                        hold until run time ``at_ns``
    free      mapping, pages               give back the newest
    punch     mapping, pages               give back every second granule of the newest
    mlock     mapping, pages               lock the newest
    slab      pages, rate                  make slab that nothing holds (dentries), charged to the
                                           process's group; it outlives the process
    exit      code                         the process ends
    fork      proc                         a declared child process starts, unless it still runs
    store     mapping, rate, pages or ns,  write to pages of an anonymous region, for ever if both
              pattern                      are 0, in order (cyclic) or as they are accessed
                                           (uniform); those shared after a fork are copied
    restart                                the process ends and starts its program again
    ========= ============================ =======================================
    """

    op: str
    mapping: str = ""
    pages: int = 0
    rate: float = 0.0  # pages per second; 0: as fast as it can
    ns: int = 0
    at_ns: int = 0
    pattern: str = "cyclic"
    code: int = 0
    proc: str = ""
    into: str = ""


@dataclass(frozen=True, eq=False)
class TracePoints:
    """A recorded curve in a compact form: as many ``target`` ops, run before a task's own.

    Point i means ``Op("target", mapping, pages=pages[i], at_ns=at_ns[i])``. ``at_ns`` rises
    strictly; the arrays are never written to. A file followed this way begins with the
    extent that is in memory, reads as it grows, and is given no falls.
    """

    mapping: str
    at_ns: npt.NDArray[np.int64]
    pages: npt.NDArray[np.int64]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TracePoints)
            and self.mapping == other.mapping
            and np.array_equal(self.at_ns, other.at_ns)
            and np.array_equal(self.pages, other.pages)
        )

    def __hash__(self) -> int:
        return hash((self.mapping, self.at_ns.tobytes(), self.pages.tobytes()))


@dataclass(frozen=True)
class Task:
    """A thread of a process: its ops and, besides, the accesses that go on all the time.

    ``clock`` says what a task does that was held up. ``schedule``: each op is due at the sum
    of the nominal durations (pages / rate, ns) of those before it, counted from the start of
    the process's present life; a late task catches up, its holds get shorter. ``progress``:
    an op's time counts from its own beginning; work waits.
    """

    ops: tuple[Op, ...]
    access_mapping: str = ""
    access: Access = Access()
    exit_at_end: bool = False  # the process exits when this task's ops are done
    trace: TracePoints | None = None  # run before ``ops``
    clock: str = "progress"  # schedule or progress


@dataclass(frozen=True)
class Mempolicy:
    """A NUMA memory policy as set_mempolicy(2) and numactl(8) have it."""

    mode: str  # bind, preferred, preferred-many, interleave, weighted-interleave
    nodes: tuple[int, ...] = ()  # none: all

    @classmethod
    def of(cls, policy: str, nodes: Iterable[int]) -> Mempolicy:
        """One by the keys of node files and recordings."""
        return cls(policy, tuple(nodes))


@dataclass(frozen=True)
class Process:
    name: str
    cgroup: str
    container: str  # the container it belongs to (reports)
    start_ns: int = 0
    oom_score_adj: int = 0
    mappings: tuple[str, ...] = ()  # all it attaches (private and shared)
    tasks: tuple[Task, ...] = ()
    kernel_pages: int = 0  # stacks, task_struct, vmas: charged to its cgroup
    root: bool = False  # CAP_SYS_ADMIN
    sparse_tables: int = 0  # page tables beyond those of densely filled mappings
    parent: str = ""  # the process it is forked from
    by_fork: bool = False  # it does not start at ``start_ns`` but when its parent forks it
    waits: bool = False  # it starts when an autoscaler says so; ``start_ns`` counts from there
    restart: str = "Never"  # Never, OnFailure, Always
    restart_by: str = "kubelet"  # kubelet, docker, systemd: whose back-off
    restart_sec_ns: int = 0  # systemd: RestartSec=
    start_limit_ns: int = 0  # systemd: StartLimitIntervalSec=; 0: no limit
    start_limit_burst: int = 0  # systemd: StartLimitBurst=
    mempolicy: Mempolicy | None = None  # None: the node of its CPU, then the others
    sigterm_ns: int | None = 0  # from SIGTERM to the process's exit; None: it ignores SIGTERM


@dataclass(frozen=True)
class Change:
    """Something set during the run: a cgroup file or a sysctl."""

    at_ns: int
    cgroup: str  # "" for a sysctl
    key: str  # memory.max, vm.min_free_kbytes, ...
    value: int  # pages for cgroup limits (-1: max), the sysctl's own unit otherwise


@dataclass(frozen=True)
class Scenario:
    name: str
    node: Node
    cgroup_version: str  # "v1" or "v2"
    cgroups: tuple[Cgroup, ...]
    mappings: tuple[Mapping, ...]
    processes: tuple[Process, ...]
    changes: tuple[Change, ...] = ()
    agents: tuple[Agent, ...] = ()  # killers in user space, autoscalers
    duration_ns: int = 60_000_000_000
    sample_ns: int = 1_000_000_000
    seed: int = 1
    granule_order: int | None = None  # None: chosen from RAM
    assumptions: tuple[str, ...] = ()  # printed with the verdict
    lru: tuple[tuple[str, LruLists], ...] = ()  # of captured groups, by path; "" is the root
