"""The profile file: what a service does with memory.

A profile has processes; a process has regions of memory, and either phases (what it does,
in order) or a trace (a recorded series that it follows).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from capplan.spec.common import (
    Bytes,
    Compressibility,
    Dist,
    Duration,
    Factor,
    Model,
    Name,
    OomScoreAdj,
    Rate,
    Share,
    SizeOrShare,
    bare_as,
    only_one,
    problem,
)
from capplan.spec.mempolicy import Mempolicy
from capplan.spec.profile_trace import Columns, Mask, Peaks, Text
from capplan.spec.runtime import Runtime

Pattern = Literal["idle", "cyclic", "uniform", "zipf", "once"]
# Bounds keep a slip of the finger from filling this machine's memory.
Count = Annotated[int, Field(ge=1, le=10_000)]
Times = Annotated[int, Field(ge=1, le=1_000_000)]
Threads = Annotated[int, Field(ge=1, le=4_194_304)]  # include/linux/threads.h, PID_MAX_LIMIT


class Access(Model):
    """How a region is accessed all the time, besides what phases do."""

    pattern: Pattern = "idle"
    """cyclic: in order, over and over; uniform: any page; zipf: few pages most of the time;
    once: in order, one time; idle: never."""
    rate: Rate = 0.0
    """Bytes accessed in a second."""
    skew: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Exponent of zipf: the page of rank r is accessed as r**-skew."""
    write: Share = 0.0
    """Share of the accesses that write: after a fork, each page is copied at its first one."""

    @model_validator(mode="after")
    def _has_rate(self) -> Access:
        if self.pattern not in ("idle", "once") and self.rate == 0:
            message = f"pattern {self.pattern} needs a rate"
            raise problem("rate", message, "rate: 20Mi/s, for instance")
        return self


class Region(Model):
    """A piece of memory of a process, or shared."""

    kind: Literal["anon", "file", "shmem", "kernel"] = "anon"
    """anon: heap and stacks; file: page cache of a file; shmem: tmpfs and shared memory;
    kernel: memory the kernel holds for the process (page tables are counted apart)."""
    size: Dist[Bytes] | None = None
    """Extent at the start; a file's length. Left out: 0, for phases or a trace to grow."""
    resident: SizeOrShare | None = None
    """How much of it is in memory at t0 of a warm start (a size, or a share). Left out: all."""
    swapped: Bytes | None = None
    """How much more of it is in swap at t0 of a warm start (anon and shmem)."""
    growth: Rate = 0.0
    """Steady growth from the start on, for ever (a leak)."""
    limit: Bytes | None = None
    """Growth stops here."""
    via: Literal["read", "mmap"] = "mmap"
    """How a file is accessed: read(2) and write(2), or mapped. The reference rules differ."""
    exec: bool = False
    """Mapped executable: reclaim keeps such pages longer."""
    access: Access = Access()
    compressibility: Annotated[Compressibility, bare_as("mean")] | None = None
    """Share saved by compression; 0.6 = stored in 40 %. Left out: an assumption is printed."""
    locked: bool = False
    """mlocked: never reclaimed."""
    thp: bool = False
    """Uses transparent huge pages (where node.thp allows it)."""
    shared: Literal["processes", "replicas"] | None = None
    """One copy for all processes of the container, or for all its replicas."""
    write: Rate = 0.0
    """Steady writing: makes a file's pages dirty, or grows a shmem object up to its limit."""
    path: str | None = None
    """A file's name on the node. Containers that name the same path share its page cache."""
    disk: str | None = None
    """Which of the node's disks a file is on. Left out: the first."""

    @model_validator(mode="after")
    def _sensible(self) -> Region:
        if self.swapped and self.kind not in ("anon", "shmem"):
            raise problem("kind", f"{self.kind} memory is never in swap", "kind: anon or shmem")
        if self.kind != "file":
            for name in ("path", "disk"):
                if getattr(self, name) is not None:
                    message = f"{name} is for kind: file, not {self.kind}"
                    raise problem("kind", message, "kind: file")
            if self.exec:
                raise problem("kind", f"exec is for kind: file, not {self.kind}", "kind: file")
        elif self.size is None:
            raise problem("kind", "a file has no size", "size: the file's length")
        return self


class _OfRegion(Model):
    region: str
    """Name of the region."""


class Grow(_OfRegion):
    """Touch new memory until the region has a size (``to``) or has grown (``by``)."""

    to: Dist[Bytes] | None = None
    by: Dist[Bytes] | None = None
    rate: Rate | None = None
    """How fast. Left out (and no ``over``): as fast as the machine can."""
    over: Duration | None = None
    """How long it takes, instead of a rate."""

    @model_validator(mode="after")
    def _one(self) -> Grow:
        only_one(self, "to", "by")
        only_one(self, "rate", "over", required=False)
        return self


class Hold(Model):
    """Do nothing new; the regions' own accesses go on."""

    duration: Annotated[Dist[Duration], Field(alias="for")]


class Read(_OfRegion):
    """read(2) of a file region: once through, or for a time."""

    size: Dist[Bytes] | None = None
    """How much of the file. Left out: all of it."""
    rate: Rate | None = None
    """How fast. Left out: as fast as the disk can."""
    pattern: Literal["once", "cyclic", "uniform"] = "once"
    """once through; cyclic: over and over; uniform: 4 KiB reads at random offsets."""
    duration: Annotated[Dist[Duration] | None, Field(alias="for")] = None
    """How long, for cyclic and uniform."""

    @model_validator(mode="after")
    def _has_duration(self) -> Read:
        if (self.pattern == "once") != (self.duration is None):
            verb = "needs" if self.duration is None else "takes no"
            message = f"pattern {self.pattern} {verb} for"
            raise problem("duration", message, "for: 10min with cyclic or uniform, not with once")
        return self


class Write(_OfRegion):
    """write(2): a file becomes dirty, a shmem region grows."""

    size: Dist[Bytes] | None = None
    """How much. Left out: as much as ``for`` and ``rate`` give."""
    rate: Rate | None = None
    duration: Annotated[Dist[Duration] | None, Field(alias="for")] = None

    @model_validator(mode="after")
    def _one(self) -> Write:
        only_one(self, "size", "duration")
        if self.duration is not None and not self.rate:
            raise problem("rate", "for needs a rate", "rate: 20Mi/s, for instance")
        return self


class Touch(_OfRegion):
    """Access the whole region for a time."""

    pattern: Literal["cyclic", "uniform", "zipf"] = "cyclic"
    rate: Rate
    duration: Annotated[Dist[Duration], Field(alias="for")]


class Free(_OfRegion):
    """Give memory back, the newest first: down to a size, by a size, or all."""

    to: Dist[Bytes] | None = None
    by: Dist[Bytes] | None = None

    @model_validator(mode="after")
    def _one(self) -> Free:
        only_one(self, "to", "by", required=False)
        return self


class Burst(_OfRegion):
    """Grow for a short while and give it back, again and again."""

    by: Dist[Bytes]
    """How much each burst takes."""
    every: Dist[Duration]
    """From the start of one burst to the next; exponential makes arrivals random."""
    duration: Annotated[Dist[Duration], Field(alias="for")]
    """How long a burst holds its memory."""
    rate: Rate | None = None
    """How fast it is taken. Left out: as fast as the machine can."""
    times: Times | None = None
    """Number of bursts. Left out: as many as fit in ``during``, or until the run's end."""
    during: Duration | None = None


class Leak(_OfRegion):
    """Grow slowly and never give back."""

    rate: Dist[Rate]
    to: Bytes | None = None
    """Stops at this size."""
    during: Duration | None = None
    """Stops after this time. Left out (and no ``to``): goes on until the run's end."""


class Fork(Model):
    """Start a process that is ``fork_of`` this one; nothing happens while it still runs."""

    process: str
    """Name of the process; all ``count`` of it."""


class Exit(Model):
    """The process ends."""

    code: Annotated[int, Field(ge=0, le=255)] = 0


class Restart(Model):
    """The process ends and starts anew with its first phase."""

    after: Dist[Duration] = Dist[Duration](constant=0)
    """Pause before the new start."""


class Repeat(Model):
    """A list of phases, over and over."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    times: Times | None = None
    """How often. Left out: until the run's end."""


def _bare_phase(value: Any) -> Any:
    return {value: {}} if isinstance(value, str) else value


class PhaseBody(Model):
    """One phase: a mapping with exactly one key, which says what is done."""

    grow: Grow | None = None
    hold: Annotated[Hold, bare_as("for")] | None = None
    read: Read | None = None
    write: Write | None = None
    touch: Touch | None = None
    free: Free | None = None
    burst: Burst | None = None
    leak: Leak | None = None
    fork: Annotated[Fork, bare_as("process")] | None = None
    exit: Annotated[Exit, bare_as("code")] | None = None
    restart: Annotated[Restart, bare_as("after")] | None = None
    repeat: Repeat | None = None

    @model_validator(mode="after")
    def _one(self) -> PhaseBody:
        only_one(self, *type(self).model_fields)
        return self

    @property
    def kind(self) -> str:
        """Which phase it is: grow, hold, ..."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def body(self) -> Any:
        """The phase itself: a Grow, Hold, Read, ..."""
        return getattr(self, self.kind)


Phase = Annotated[PhaseBody, BeforeValidator(_bare_phase)]
Repeat.model_rebuild()
PhaseBody.model_rebuild()


class Trace(Model):
    """A recorded series that the process follows."""

    file: str
    """CSV, or CSV compressed by gzip; relative to the profile."""
    measures: Literal["rss", "anon", "working_set", "usage"]
    """What was measured. rss and anon are anonymous memory; working_set and usage hold page
    cache too, and are split by ``anon_share``."""
    columns: Columns
    filter: dict[str, Text] = Field(default_factory=dict)
    """For long tables: column -> value that a row must have."""
    time_unit: Literal["s", "ms", "us", "ns", "iso8601", "auto"] = "auto"
    """Unit of the time column; auto: numbers are Unix seconds or milliseconds by size."""
    unit: Literal["bytes", "KiB", "MiB", "GiB", "fraction"] = "bytes"
    of: Bytes | None = None
    """What a fraction is a share of."""
    anon_share: Share | None = None
    """Share of a working_set or usage value that is anonymous. Left out: an assumption is
    printed, and varied in a risk run."""
    offset: Dist[Duration] = Dist[Duration](constant=0)
    """Skip this much of the trace at the start (a phase offset between replicas)."""
    scale: Dist[Factor] = Dist[Factor](constant=1.0)
    """Factor on the values."""
    add: Bytes = 0
    """Added to each value after scaling."""
    jitter: Share = 0.0
    """Relative noise: standard deviation of a factor drawn for each sample."""
    limit: Bytes | None = None
    """The limit the workload ran under when it was recorded; a trace that sits at it is
    flagged as clipped."""
    max_gap: Duration | None = None
    """Longest step between samples that is not a gap. Left out: five times the median step."""
    at_end: Literal["hold", "repeat", "trend", "exit"] = "hold"
    """When the run is longer than the trace: keep the last value, start again, go on with the
    trend of its second half (a leak), or exit."""
    mask: tuple[Mask, ...] = ()
    """Windows that are not followed, such as injected faults."""
    peaks: Peaks | None = None
    """A series of the highest value within each interval (from a sample to the next)."""
    access: Access | None = None
    """How the followed memory is accessed. Left out: an assumption is printed."""
    file_access: Access | None = None
    """How the followed page cache is accessed, where ``columns.file`` tells it apart. Left out:
    as ``access``."""
    compressibility: Annotated[Compressibility, bare_as("mean")] | None = None

    @model_validator(mode="after")
    def _fraction(self) -> Trace:
        if (self.unit == "fraction") != (self.of is not None):
            message = "of and unit: fraction need each other"
            raise problem("unit", message, "unit: fraction, of: 500Mi")
        if self.anon_share is not None and self.measures in ("rss", "anon"):
            message = f"anon_share with measures: {self.measures}, which is all anonymous"
            raise problem("measures", message, "measures: working_set or usage")
        unknown = {key for mask in self.mask for key in mask.match.values()} - self.filter.keys()
        if unknown:
            message = f"match names {', '.join(sorted(unknown))}, which filter does not have"
            raise problem("mask", message, f"a key of filter ({', '.join(self.filter) or 'none'})")
        return self


class Process(Model):
    """A process of the container (``count`` of them)."""

    oom_score_adj: OomScoreAdj | None = None
    """Left out: the container's."""
    numa: Mempolicy | None = None
    """NUMA memory policy. Left out: that of ``fork_of``, or the container's."""
    fork_of: str | None = None
    """Forked from this process: starts with its regions shared, copied on write. It starts at
    ``start``, or when a phase of its parent says ``fork``."""
    count: Count = 1
    threads: Threads = 1
    """Each has a 16 KiB kernel stack, charged to the cgroup."""
    root: bool | None = None
    """Has CAP_SYS_ADMIN: kernels before 4.17 spare such a process a little when they choose whom
    to kill."""
    page_tables: Bytes | None = None
    """Its page tables at t0. Left out: what its regions need when they are densely filled; a
    sparse mapping has more."""
    start: Dist[Duration] = Dist[Duration](constant=0)
    """Starts this long after its container."""
    regions: dict[Name, Region] = Field(default_factory=dict)
    uses: tuple[str, ...] = ()
    """Names of shared regions (``shared.regions``) that it attaches."""
    cow: dict[str, Rate] = Field(default_factory=dict)
    """Regions of ``fork_of`` that it writes to, and how fast: each page is copied once, at its
    first write. What the parent writes is its region's ``access.write``."""
    phases: tuple[Phase, ...] = ()
    trace: Trace | None = None
    runtime: Runtime | None = None
    """A JVM, Go or Node.js by its settings: its memory and its collector's scans become regions
    and phases when the file is loaded."""

    @model_validator(mode="after")
    def _one(self) -> Process:
        if self.trace is not None and self.phases:
            raise problem("one_of", "both phases and trace", "only one of phases, trace")
        for name in ("trace", "fork_of"):
            if self.runtime is not None and getattr(self, name) is not None:
                raise problem("one_of", f"both runtime and {name}", f"only one of runtime, {name}")
        return self


class Load(Model):
    """How the load of replicas hangs together."""

    correlation: Share = 0.0
    """0: each replica draws for itself; 1: all peak together."""


class Shared(Model):
    """What processes and replicas have in common."""

    load: Load = Load()
    regions: dict[Name, Region] = Field(default_factory=dict)
    """Regions of all processes that name them in ``uses``; ``shared: replicas`` makes one copy
    for all replicas, otherwise each container has its own."""


class Profile(Model):
    """A profile file."""

    capplan: Literal[1]
    """Version of the file format."""
    profile: Name
    """Its name."""
    description: str = ""
    clock: Literal["schedule", "progress"] = "schedule"
    """schedule: the demand at a time is given, late work catches up; progress: batch work,
    whose profile waits for it."""
    processes: Annotated[dict[Name, Process], Field(min_length=1)]
    shared: Shared = Shared()
