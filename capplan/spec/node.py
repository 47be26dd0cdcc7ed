"""The node file: a machine, its control groups, its containers and what happens to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from capplan.spec.agents import Earlyoom, Kubelet, ManagedOOM, SystemdOomd
from capplan.spec.autoscalers import Hpa, Vpa
from capplan.spec.cgroup import Cgroup, CgroupFiles
from capplan.spec.common import (
    Bytes,
    Dist,
    Duration,
    Model,
    Name,
    OomScoreAdj,
    Rate,
    Share,
    Shutdown,
    SizeOrShare,
    mapping_or_word,
    only_one,
    problem,
)
from capplan.spec.marks import PAGE
from capplan.spec.mempolicy import Mempolicy
from capplan.spec.profile import Count, Profile

M = TypeVar("M", bound=Model)
Pages = Annotated[int, Field(ge=0, le=1 << 51)]  # 2**63 bytes
Cpus = Annotated[int, Field(ge=1, le=8192)]  # arch/x86/Kconfig, NR_CPUS_RANGE_END
DeviceClass = Literal["nvme", "ssd", "hdd", "network", "zram", "optane"]
FileSystem = Literal["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"]


class Zone(Model):
    """One zone as /proc/zoneinfo shows it, in pages of 4096 bytes (capture writes these)."""

    zone: Literal["DMA", "DMA32", "Normal", "Movable"]
    node: Annotated[int, Field(ge=0)] = 0
    spanned: Pages | None = None
    present: Pages | None = None
    managed: Pages
    """Pages the buddy allocator has; watermarks and reserves come from it."""
    free: Pages | None = None
    """Free pages at the start, with all containers in place. In all zones or in none; left out:
    what the system and the containers leave. Where it is given, the kernel's own memory
    (``system.kernel``) is what nothing else accounts for."""
    pcp: Pages = 0
    """Pages on per-cpu lists at the start: not free, not used by anyone."""
    min: Pages | None = None
    """Watermarks in force. Left out, or where ``--set`` changes vm.min_free_kbytes or
    vm.watermark_scale_factor: computed."""
    low: Pages | None = None
    high: Pages | None = None
    boost: Pages = 0
    protection: tuple[Pages, ...] | None = None
    """lowmem_reserve towards each higher zone. Left out: computed."""
    buddyinfo: tuple[Pages, ...] | None = None
    """Free blocks of order 0, 1, ... 10."""
    pagetypeinfo: (
        dict[Literal["Unmovable", "Movable", "Reclaimable", "HighAtomic"], tuple[Pages, ...]] | None
    ) = None
    """The same by migratetype, where /proc/pagetypeinfo could be read; instead of buddyinfo."""

    @model_validator(mode="after")
    def _marks(self) -> Zone:
        marks = (self.min, self.low, self.high)
        if any(m is None for m in marks) and any(m is not None for m in marks):
            raise problem("marks", "some of min, low, high are missing", "all three, or none")
        return self


class NumaNode(Model):
    """One NUMA node's share of the memory."""

    memory: Bytes
    weight: Annotated[int, Field(ge=1, le=255)] = 1
    """/sys/kernel/mm/mempolicy/weighted_interleave/nodeN: pages in a row of it."""


class Speeds(Model):
    """A block device by its speeds; those left out are the class's."""

    device: DeviceClass = "ssd"
    read_latency: Duration | None = None
    """One 4 KiB read, nothing else in the queue."""
    write_latency: Duration | None = None
    read: Rate | None = None
    """Sustained reading."""
    write: Rate | None = None
    """Sustained writing."""
    random_read: Rate | None = None
    """4 KiB reads at random offsets, deep queue."""
    filesystem: FileSystem = "ext4"
    """What files are on: ext2 to ext4 have a buffer head for each page written, 2.7 % of it."""
    origin: str = ""
    """Where the figures come from (fio, data sheet); printed with the result."""


Device = Annotated[
    Annotated[DeviceClass, Tag("word")] | Annotated[Speeds, Tag("mapping")],
    Discriminator(mapping_or_word),
]
"""A device class, or explicit speeds."""


class Swap(Model):
    """A swap area."""

    device: Device
    size: Bytes
    priority: Annotated[int, Field(ge=-1, le=32767)] | None = None
    """Higher is used first. Left out: as swapon gives them, earlier before later."""
    mem_limit: Bytes | None = None
    """zram only: most memory its compressed pages may take."""
    compressor: Literal["lzo", "lzo-rle", "lz4", "lz4hc", "zstd", "deflate", "842"] | None = None
    """zram only."""

    @property
    def speeds(self) -> Speeds:
        """The device as Speeds, whichever way it was written."""
        return self.device if isinstance(self.device, Speeds) else Speeds(device=self.device)

    @model_validator(mode="after")
    def _zram(self) -> Swap:
        for name in ("mem_limit", "compressor"):
            if self.speeds.device != "zram" and getattr(self, name) is not None:
                raise problem("zram", f"{name} is for device: zram", "device: zram")
        return self


class Zswap(Model):
    """/sys/module/zswap/parameters."""

    enabled: bool = False
    max_pool_percent: Annotated[int, Field(ge=1, le=100)] = 20
    accept_threshold_percent: Annotated[int, Field(ge=0, le=100)] = 90
    compressor: Literal["lzo", "lzo-rle", "lz4", "lz4hc", "zstd", "deflate", "842"] = "lzo"
    zpool: Literal["zsmalloc", "zbud", "z3fold"] | None = None
    """Left out: the release's default (zbud up to 6.1, then zsmalloc)."""
    shrinker_enabled: bool = False


class Daemons(Model):
    """Processes of the system, outside the containers."""

    memory: Bytes = 200 << 20
    """Anonymous memory of all of them."""
    file: Bytes = 100 << 20
    """Their code and files in the page cache."""
    shmem: Bytes = 0
    locked: Bytes = 0
    """Part of ``memory`` that is mlocked."""
    count: Count = 1
    """Among how many processes the memory is split (badness is per process)."""
    oom_score_adj: OomScoreAdj = -999


SYSTEM_MEMORY = 2 << 30
"""From this RAM on the defaults below are as they stand; a smaller node's are its share of them,
for nobody runs 600 MiB of system on an edge box of 512."""


SHARED = ("kernel", "slab_reclaimable", "memory", "file")


class System(Model):
    """What the node uses besides its containers; values left out are printed as assumptions.

    A node of less than 2 GiB has its share of the defaults: at 512 MiB a quarter of each.
    """

    kernel: Bytes = 300 << 20
    """Memory the kernel cannot give back: slab, page tables, stacks, percpu, drivers."""
    slab_reclaimable: Bytes = 100 << 20
    """dentries and inodes (SReclaimable); the shrinkers take those that nobody uses."""
    slab_in_use: Bytes = 0
    """Part of ``slab_reclaimable`` that is in use: counted with it, never freed. On a node that
    has just dropped its caches that is all of it; /proc/sys/fs/dentry-state counts the unused."""
    daemons: Daemons = Daemons()

    @model_validator(mode="after")
    def _slab(self) -> System:
        if self.slab_in_use > self.slab_reclaimable:
            message = "slab_in_use is more than slab_reclaimable, which contains it"
            raise problem("slab_in_use", message, "at most slab_reclaimable")
        return self


class Sysctl(Model):
    """/proc/sys/vm. A key left out has the kernel's default."""

    min_free_kbytes: Annotated[
        Annotated[int, Field(ge=0, lt=1 << 31)] | None, Field(alias="vm.min_free_kbytes")
    ] = None
    """Reserve below which nobody but the kernel's emergencies may allocate. [KiB]"""
    watermark_scale_factor: Annotated[
        Annotated[int, Field(ge=1, le=3000)] | None, Field(alias="vm.watermark_scale_factor")
    ] = None
    """Distance between the watermarks. [1/10000 of memory]"""
    watermark_boost_factor: Annotated[
        Annotated[int, Field(ge=0)] | None, Field(alias="vm.watermark_boost_factor")
    ] = None
    lowmem_reserve_ratio: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...] | None, Field(alias="vm.lowmem_reserve_ratio")
    ] = None
    swappiness: Annotated[
        Annotated[int, Field(ge=0, le=200)] | None, Field(alias="vm.swappiness")
    ] = None
    page_cluster: Annotated[
        Annotated[int, Field(ge=0, le=10)] | None, Field(alias="vm.page-cluster")
    ] = None
    vfs_cache_pressure: Annotated[
        Annotated[int, Field(ge=0)] | None, Field(alias="vm.vfs_cache_pressure")
    ] = None
    dirty_ratio: Annotated[
        Annotated[int, Field(ge=0, le=100)] | None, Field(alias="vm.dirty_ratio")
    ] = None
    dirty_background_ratio: Annotated[
        Annotated[int, Field(ge=0, le=100)] | None, Field(alias="vm.dirty_background_ratio")
    ] = None
    dirty_bytes: Annotated[Annotated[int, Field(ge=0)] | None, Field(alias="vm.dirty_bytes")] = None
    dirty_background_bytes: Annotated[
        Annotated[int, Field(ge=0)] | None, Field(alias="vm.dirty_background_bytes")
    ] = None
    dirty_expire_centisecs: Annotated[
        Annotated[int, Field(ge=0)] | None, Field(alias="vm.dirty_expire_centisecs")
    ] = None
    dirty_writeback_centisecs: Annotated[
        Annotated[int, Field(ge=0)] | None, Field(alias="vm.dirty_writeback_centisecs")
    ] = None
    panic_on_oom: Annotated[
        Annotated[int, Field(ge=0, le=2)] | None, Field(alias="vm.panic_on_oom")
    ] = None
    oom_kill_allocating_task: Annotated[
        Annotated[int, Field(ge=0, le=1)] | None, Field(alias="vm.oom_kill_allocating_task")
    ] = None
    overcommit_memory: Annotated[
        Annotated[int, Field(ge=0, le=2)] | None, Field(alias="vm.overcommit_memory")
    ] = None
    overcommit_ratio: Annotated[
        Annotated[int, Field(ge=0)] | None, Field(alias="vm.overcommit_ratio")
    ] = None
    zone_reclaim_mode: Annotated[
        Annotated[int, Field(ge=0, le=7)] | None, Field(alias="vm.zone_reclaim_mode")
    ] = None
    """Bits: 1 a node's own page cache goes before its tasks spill, 2 dirty too, 4 mapped too."""
    min_unmapped_ratio: Annotated[
        Annotated[int, Field(ge=0, le=100)] | None, Field(alias="vm.min_unmapped_ratio")
    ] = None
    min_slab_ratio: Annotated[
        Annotated[int, Field(ge=0, le=100)] | None, Field(alias="vm.min_slab_ratio")
    ] = None
    percpu_pagelist_high_fraction: Annotated[
        Annotated[int, Field(ge=0)] | None, Field(alias="vm.percpu_pagelist_high_fraction")
    ] = None
    extfrag_threshold: Annotated[
        Annotated[int, Field(ge=0, le=1000)] | None, Field(alias="vm.extfrag_threshold")
    ] = None
    compaction_proactiveness: Annotated[
        Annotated[int, Field(ge=0, le=100)] | None, Field(alias="vm.compaction_proactiveness")
    ] = None

    nr_hugepages: Annotated[Annotated[int, Field(ge=0)] | None, Field(alias="vm.nr_hugepages")] = (
        None
    )
    """Huge pages of 2 MiB set aside from the start on: nobody's memory until they are mapped."""

    def written(self) -> dict[str, int | tuple[int, ...]]:
        """Return the sysctls that are set, by their full names."""
        values = {f.alias or n: getattr(self, n) for n, f in type(self).model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class Machine(Model):
    """The machine and its kernel."""

    memory: Bytes | None = None
    """RAM; zones are worked out as the kernel does. Or give ``zones``."""
    zones: Annotated[tuple[Zone, ...], Field(min_length=1)] | None = None
    """Explicit zones with managed pages, instead of ``memory``."""
    numa: tuple[NumaNode, ...] = ()
    """Split of ``memory`` between NUMA nodes. Left out: one node."""
    cpus: Cpus = 4
    kernel: str = "6.12"
    """Release, such as 6.12 or 5.14.0-427.el9; decides features and defaults."""
    hz: Literal[100, 250, 300, 1000] = 250
    sysctl: Sysctl = Sysctl()
    swap: tuple[Swap, ...] = ()
    zswap: Zswap | None = None
    thp: Literal["always", "madvise", "never"] = "always"
    """/sys/kernel/mm/transparent_hugepage/enabled; any but never raises min_free_kbytes."""
    lru_gen: bool | None = None
    """Multi-gen LRU. Left out: the release's default."""
    lru_gen_min_ttl_ms: Annotated[int, Field(ge=0)] = 0
    """/sys/kernel/mm/lru_gen/min_ttl_ms. [ms]"""
    disks: dict[Name, Device] = Field(default_factory=dict)
    """Where files live; the first is the default. Left out: one ssd named ``disk``."""
    system: System = System()
    costs: dict[str, float] = Field(default_factory=dict)
    """Overrides of the cost table, by name (a calibration)."""

    @model_validator(mode="after")
    def _one(self) -> Machine:
        only_one(self, "memory", "zones")
        if len({zone.free is None for zone in self.zones or ()}) > 1:
            message = "some zones have free, some have not"
            raise problem("zones", message, "free in all zones, or in none")
        if self.zones is not None and self.numa:
            raise problem("one_of", "both zones and numa", "only one of zones, numa")
        if self.memory is not None and self.numa:
            total = sum(node.memory for node in self.numa)
            if total != self.memory:
                message = f"numa adds up to {total} bytes, memory is {self.memory}"
                raise problem("numa", message, "shares that add up to memory")
        return self

    @model_validator(mode="after")
    def _small(self) -> Machine:
        """Defaults of ``system`` on a small node: fields that were not set, and still are not."""
        if self.memory is not None and self.memory < SYSTEM_MEMORY:
            self.__dict__["system"] = _share(self.system, self.memory)
        return self


def _share(model: M, memory: int) -> M:
    """A copy with the share of the defaults that a node of ``memory`` bytes has, in pages."""
    made = model.model_copy()
    for name, value in made:
        if isinstance(value, Daemons):
            made.__dict__[name] = _share(value, memory)
        elif name in SHARED and name not in made.model_fields_set:
            least = getattr(made, "slab_in_use", 0) if name == "slab_reclaimable" else 0
            made.__dict__[name] = max(value * memory // SYSTEM_MEMORY // PAGE * PAGE, least)
    return made


WORKLOAD = r"^[^/\s]+/[A-Z][A-Za-z]*/[^/\s]+/[^/\s]+$"
Workload = Annotated[str, Field(pattern=WORKLOAD)]
"""Where a container comes from in a cluster: ``shop/Deployment/web/app``."""


class Container(CgroupFiles, ManagedOOM):
    """A container, or ``replicas`` of it: a cgroup and the processes of a profile."""

    profile: Annotated[
        Annotated[str, Tag("word")] | Annotated[Profile, Tag("mapping")],
        Discriminator(mapping_or_word),
    ]
    """A profile file (relative to the node file), or a profile written here."""
    parent: str = ""
    """The group it is in; empty: the root."""
    cgroup: str | None = None
    """Run in this group of ``cgroup.groups`` (``/``: the root), not in one of its own below
    ``parent``. Limits are then the group's."""
    replicas: Annotated[int, Field(ge=0, le=10_000)] = 1
    oom_score_adj: OomScoreAdj = 0
    numa: Mempolicy | None = None
    """NUMA memory policy of its processes. Left out: the default, local."""
    restart: Literal["Never", "OnFailure", "Always"] = "Never"
    """What happens when its processes end or are killed."""
    restart_by: Literal["kubelet", "docker", "systemd"] = "kubelet"
    """Whose back-off: kubelet's CrashLoopBackOff (0, 10, 20, ... 300 s), docker's (100 ms,
    doubling to 1 min), systemd's RestartSec=."""
    restart_sec: Annotated[Duration, Field(alias="RestartSec")] = 100 * 10**6
    """systemd: time before a restart."""
    start_limit_interval_sec: Annotated[Duration, Field(alias="StartLimitIntervalSec")] = 10 * 10**9
    """systemd: more than StartLimitBurst starts in it, and it is not started again."""
    start_limit_burst: Annotated[Annotated[int, Field(ge=0)], Field(alias="StartLimitBurst")] = 5
    sigterm: Shutdown = 0
    """Time from SIGTERM to its exit, or ``ignored``: then only SIGKILL ends it."""
    requests_memory: Annotated[Bytes | None, Field(alias="requests.memory")] = None
    """Memory request. Left out: the limit, as Kubernetes defaults it, or none."""
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    """The pod's priority; lower is evicted first."""
    static: bool = False
    """A static pod: it is never evicted."""
    pod: str = ""
    """Name of the pod it is in, shared by the containers of one pod. Left out: its own."""
    workload: Workload | None = None
    """``namespace/Kind/name/container``: what a recommendation for it is written to, and by which
    another tool's (KRR, VPA) is found; ``init:`` stands before a sidecar's name. The simulation
    does not look at it."""
    start: Dist[Duration] = Dist[Duration](constant=0)
    """When it starts. A container whose first entry in ``timeline`` is a start waits for it."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Overrides of the profile: ``{processes.worker.count: 4}``."""

    def group(self, name: str) -> str:
        """Path of the group that a replica of this name runs in; "" is the root."""
        if self.cgroup is not None:
            return self.cgroup.strip("/")
        return f"{self.parent.strip('/')}/{name}".lstrip("/")

    @model_validator(mode="after")
    def _in_a_group(self) -> Container:
        if self.cgroup is not None:
            for key in ("parent", *self.written()):
                if key != "parent" or self.parent:
                    message = f"{key} of a container that runs in the group of 'cgroup'"
                    raise problem("one_of", message, f"{key} at cgroup.groups.{self.cgroup}")
        return self


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Event(Model):
    """Something that changes during the run."""

    at: Duration
    set: dict[str, Any] = Field(default_factory=dict)
    """``containers.web.memory.max: 640Mi``, ``groups.kubepods.slice.memory.max: 12Gi``,
    ``vm.swappiness: 10``."""
    start: Names = ()
    """Containers that start."""
    stop: Names = ()
    """Containers that end."""

    @model_validator(mode="after")
    def _some(self) -> Event:
        if not (self.set or self.start or self.stop):
            raise problem("event", "nothing happens", "at least one of set, start, stop")
        return self


class RunOptions(Model):
    """How the node is run."""

    duration: Duration = 3600 * 10**9
    start: Literal["warm", "cold"] = "warm"
    """warm: resident sets and cache are in place at the start; cold: all is empty."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    sample: Duration | None = None
    """Distance of the recorded samples. Left out: chosen from the duration."""
    granule: Annotated[int, Field(ge=0, le=9)] | None = None
    """Granule order: a granule is up to 2**granule pages. Left out: chosen from the memory."""

    @model_validator(mode="after")
    def _positive(self) -> RunOptions:
        if self.duration == 0 or self.sample == 0:
            raise problem("duration", "a duration of 0", "more than 0, such as 24h")
        return self


class Gate(Model):
    """What counts as fitting."""

    max_kill_risk: Share = 0.01
    """Probability that anything is OOM-killed (risk runs)."""
    max_throttle_share: Share = 0.01
    """Share of time a container may be throttled."""
    max_pause_risk: Share = 0.01
    """Probability that anything is paused by cgroup v1 (risk runs)."""
    max_evict_risk: Share = 0.01
    """Probability that anything is evicted (risk runs)."""
    max_lateness: Duration | None = None
    """How late any container's work may be."""
    min_headroom: SizeOrShare | None = None
    """Least distance of a container's peak from its limit (a size, or a share of the limit)."""


class NodeFile(Model):
    """A node file."""

    capplan: Literal[1]
    """Version of the file format."""
    name: str = ""
    """Left out: the file's name."""
    description: str = ""
    assumptions: tuple[str, ...] = ()
    """What its figures take for granted, printed with the verdict beside what capplan assumes."""
    node: Machine
    cgroup: Cgroup = Cgroup()
    kubelet: Kubelet | None = None
    """The kubelet's eviction manager. Left out: nobody evicts."""
    systemd_oomd: SystemdOomd | None = None
    """systemd-oomd. Left out: it does not run."""
    earlyoom: Earlyoom | None = None
    """earlyoom. Left out: it does not run."""
    vpa: dict[Name, Vpa] | None = None
    """Vertical pod autoscalers, by the container that each scales."""
    hpa: dict[Name, Hpa] | None = None
    """Horizontal pod autoscalers on memory, by the container that each scales."""
    containers: dict[Name, Container] = Field(default_factory=dict)
    timeline: tuple[Event, ...] = ()
    run: RunOptions = RunOptions()
    gate: Gate = Gate()
