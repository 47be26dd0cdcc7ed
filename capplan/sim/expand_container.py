"""A container becomes its control groups, its mappings and its processes.

Names: replica i of ``web`` is ``web-i`` (``web`` alone if there is one), its process
``web-i/worker`` or ``web-i/worker-j``, a private region ``web-i/worker-j/heap``, one that
processes share ``web-i/heap``, one that replicas share ``web/heap``; a file with a path
goes by its path. A life after the first has ``#2``, ``#3`` behind the process's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from capplan.errors import InputError
from capplan.sim.expand_cgroup import Life
from capplan.sim.expand_draws import Draws
from capplan.sim.expand_family import Family
from capplan.sim.expand_phases import (
    MAX_OPS,
    Extent,
    PhaseWriter,
    pages_in,
    to_pages,
    write_ops,
)
from capplan.sim.expand_trace import Life as TraceLife
from capplan.sim.expand_trace import trace_access
from capplan.sim.expand_world import MappingPlan, World
from capplan.sim.scenario import PAGE_SIZE, Access, Mempolicy, Op, Process, Task, TracePoints
from capplan.spec.common import IGNORED
from capplan.spec.mempolicy import WITHOUT_NODES
from capplan.spec.profile import Process as ProcessSpec
from capplan.spec.profile import Region, Trace

# Per thread: kernel stack 16 KiB (x86-64 THREAD_SIZE), and about 10 KiB of task_struct and
# other slab (kernel reference, section 16).
THREAD_BYTES = (16 + 10) * 1024
PTES_PER_TABLE = 512


@dataclass
class Instance:
    """One replica of a container in one of its lives."""

    world: World
    family: Family
    replica: int
    name: str
    cgroup: str
    life: Life
    number: int  # of the life, from 0
    attached: dict[str, dict[str, MappingPlan]] = field(default_factory=dict)  # by process

    @property
    def warm(self) -> bool:
        """Whether its memory is in place at t = 0."""
        return self.world.warm and self.life.start_ns == 0 and not self.life.waits

    def write(self) -> None:
        """Add all its processes to the world, parents first."""
        for name in self.family.by_parent:
            spec = self.family.profile.processes[name]
            for index in range(spec.count):
                ProcessWriter(self, name, spec, index).write()

    def instance_names(self, process: str) -> tuple[str, ...]:
        """Names of all of a process, in this life."""
        count = self.family.profile.processes[process].count
        again = f"#{self.number + 1}" if self.number else ""
        return tuple(
            f"{self.name}/{process}" + (f"-{i}" if count > 1 else "") + again for i in range(count)
        )

    def forked_at_start(self, parent: str) -> list[str]:
        """Children that a cold start forks when the parent has its first memory."""
        processes, later = self.family.profile.processes, self.family.forked
        if self.warm or processes[parent].trace is not None:
            return []
        return [
            name for name, spec in processes.items()
            if spec.fork_of == parent and name not in later and spec.start.constant == 0
        ]  # fmt: skip


@dataclass
class ProcessWriter:
    """Writes one process: its mappings, its tasks, and its lives if it follows a trace."""

    inst: Instance
    key: str
    spec: ProcessSpec
    index: int

    def __post_init__(self) -> None:
        inst = self.inst
        self.family = inst.family
        suffix = f"-{self.index}" if self.spec.count > 1 else ""
        again = f"#{inst.number + 1}" if inst.number else ""
        self.base = f"{inst.name}/{self.key}{suffix}"
        self.name = self.base + again
        own = (self.family.container, inst.replica, self.key, self.index, inst.number)
        self.draws: Draws = inst.world.draws.at(
            own,
            (self.family.container, self.key, inst.number),
            self.family.profile.shared.load.correlation,
        )
        parent = self.spec.fork_of
        self.by_fork = self.key in self.family.forked or (
            parent in self.family.profile.processes and self.key in inst.forked_at_start(parent)
        )
        start = inst.life.start_ns + round(self.draws.sample(self.spec.start, "start"))
        self.start_ns = inst.life.start_ns if self.by_fork else start
        self.warm = inst.warm and start == 0 and not self.by_fork
        self.regions: dict[str, MappingPlan] = {}
        self.own: dict[str, Region] = {}  # regions whose accesses and growth are this process's
        self.tasks: list[Task] = []
        self.accessed: str | None = None  # the region that the phases' thread accesses

    def write(self) -> None:
        """Add the process (or, with a trace, each of its lives) to the world."""
        is_born = self.spec.fork_of is None or self.spec.fork_of in self.inst.attached
        if self.start_ns >= self.inst.world.duration_ns or not is_born:
            return
        first = self._attach()
        self.inst.attached.setdefault(self.key, self.regions)
        if self.spec.trace is not None:
            self._write_trace(self.spec.trace, first)
            return
        self._write_phases(first)
        self._write_regions()
        self._write_cow()
        self._emit(self.name, self.start_ns, self.tasks, tuple(self._mappings()))

    # --- memory -----------------------------------------------------------------------

    def _attach(self) -> list[Op]:
        """Attach all regions; return the ops that bring late ones to their first extent."""
        if self.spec.fork_of is not None:
            self.regions |= self.inst.attached[self.spec.fork_of]
        first: list[Op] = []
        shared = self.family.profile.shared.regions
        for name in self.spec.uses:
            if name not in shared:
                where = f"containers.{self.family.container}: processes.{self.key}.uses"
                raise InputError(f"{where}: there is no shared region '{name}'")
            first += self._region(name, replace_scope(shared[name]))
        for name, region in self.spec.regions.items():
            first += self._region(name, region)
        return first

    def _region(self, name: str, region: Region) -> list[Op]:
        inst = self.inst
        scope = {"processes": inst.name, "replicas": self.family.container}
        mapping = f"{scope[region.shared]}/{name}" if region.shared else f"{self.name}/{name}"
        if region.path is not None:
            mapping = region.path
        draws = self.draws
        if region.shared == "processes":
            draws = draws.at(
                (self.family.container, inst.replica, inst.number), (self.family.container,), 0.0
            )
        elif region.shared == "replicas" or region.path is not None:
            draws = draws.at((self.family.container,), (), 0.0)
        size = 0 if region.size is None else to_pages(draws.sample(region.size, name, "size"))
        is_new = mapping not in inst.world.plans
        plan = inst.world.plan(mapping, region, size, self.warm, name in self.family.written)
        self.regions[name] = plan
        if region.shared is None or is_new:
            self.own[name] = region
        else:
            # a shared copy grows by its first process; the others only access it
            self.own[name] = region.model_copy(update={"growth": 0.0, "write": 0.0})
        restarts = self.family.spec.restart != "Never" and region.shared is None
        first = plan.resident + plan.swapped if self.warm else size
        if region.kind == "file" or first == 0 or not (is_new and (restarts or not self.warm)):
            return []
        # a target, not a grow: it finds a warm start's extent in place, and an engine's
        # restart brings the memory back
        return [Op("target", mapping, first, at_ns=self.start_ns)]

    def _sparse_tables(self) -> int:
        """Page tables that the profile says it has, beyond those of its resident pages."""
        if self.spec.page_tables is None or not self.warm:
            return 0
        dense = sum(
            -(-(plan.resident + plan.swapped) // PTES_PER_TABLE)
            for plan in self.regions.values()
            if plan.region.via == "mmap" and plan.region.kind != "kernel"
        )
        return max(to_pages(self.spec.page_tables) - dense, 0)

    def _mappings(self) -> list[str]:
        """Names of all mappings, each once, in order."""
        return list(dict.fromkeys(plan.extent.mapping for plan in self.regions.values()))

    # --- tasks ------------------------------------------------------------------------

    def _left_ns(self) -> int:
        stop = self.inst.life.stop_ns
        end = self.inst.world.duration_ns if stop is None else stop
        return max(min(end, self.inst.world.duration_ns) - self.start_ns, 0)

    def _write_phases(self, first: list[Op]) -> None:
        where = f"containers.{self.family.container}: processes.{self.key}"
        extents: dict[str, Extent] = {name: plan.extent for name, plan in self.regions.items()}
        ceiling = self.inst.world.ceiling
        private = frozenset(n for n, r in self.spec.regions.items() if r.shared is None)
        inst = self.inst
        children = {name: inst.instance_names(name) for name in self.family.profile.processes}
        writer = PhaseWriter(
            self.draws, extents, self._left_ns(), ceiling, where, private, children,
            again=self.key in self.family.forked,
        )  # fmt: skip
        writer.write(self.spec.phases)
        early = [name for child in inst.forked_at_start(self.key) for name in children[child]]
        ops = (*first, *(Op("fork", proc=name) for name in early), *writer.ops)
        if not ops:
            return
        # the thread that does the phases also does the accesses of the region they are about
        # (a touch is an access itself: a thread does one at a time)
        name = next((n for n in writer.used if self._access(n).pattern != "idle"), None)
        if any(op.op == "touch" for op in ops):
            name = None
        mapping = self.regions[name].extent.mapping if name is not None else ""
        access = self._access(name) if name is not None else Access()
        self.tasks.append(Task(ops, mapping, access, clock=self.family.profile.clock))
        self.accessed = name

    def _access(self, name: str) -> Access:
        """The accesses to a region that are this process's part."""
        region = self.own.get(name)
        if region is None:
            return Access()
        given = region.access
        sharers = self.family.sharers(name) if region.shared is not None else 1
        return Access(given.pattern, given.rate / PAGE_SIZE / sharers, given.skew)

    def _write_regions(self) -> None:
        """Threads for what regions do by themselves: grow, be written, be accessed."""
        for name, region in self.own.items():
            mapping = self.regions[name].extent.mapping
            access = Access() if name == self.accessed else self._access(name)
            threads = [
                ops for ops in (self._growth(name, region), self._steady(name, region)) if ops
            ]
            if not threads and access.pattern != "idle":
                threads = [()]
            for ops in threads:
                self.tasks.append(Task(ops, mapping, access, clock=self.family.profile.clock))
                access = Access()
            self._write_stores(name, region)

    def _write_stores(self, name: str, region: Region) -> None:
        """What a process that forks writes to: pages that it shares with a child are copied."""
        given = region.access
        forks = any(spec.fork_of == self.key for spec in self.family.profile.processes.values())
        if forks and given.write > 0 and region.kind == "anon" and region.shared is None:
            rate = given.rate * given.write / PAGE_SIZE
            op = Op("store", self.regions[name].extent.mapping, rate=rate, pattern="uniform")
            self.tasks.append(Task((op,), clock=self.family.profile.clock))

    def _growth(self, name: str, region: Region) -> tuple[Op, ...]:
        if region.growth <= 0:
            return ()
        plan = self.regions[name]
        rate = region.growth / PAGE_SIZE
        pages = min(pages_in(rate, self._left_ns()) + 1, self._room(plan))
        plan.grown += pages
        return (Op("grow", plan.extent.mapping, pages, rate),) if pages > 0 else ()

    def _steady(self, name: str, region: Region) -> tuple[Op, ...]:
        if region.write <= 0:
            return ()
        rate = region.write / PAGE_SIZE
        pages = pages_in(rate, self._left_ns()) + 1
        extent = self.regions[name].extent
        most = MAX_OPS * max(extent.limit or 0, 1) // 2
        if extent.kind == "file" and pages > most:
            raise InputError(
                f"containers.{self.family.container}: processes.{self.key}.regions.{name}: written "
                f"over more than {MAX_OPS // 2} times until the run's end; a larger size or a "
                "lower rate"
            )
        return tuple(write_ops(extent, pages, rate, self.inst.world.ceiling))

    def _room(self, plan: MappingPlan) -> int:
        """Pages that a mapping may still grow by itself."""
        top = self.inst.world.ceiling
        if plan.extent.limit is not None:
            top = min(top, plan.extent.limit)
        return max(top - plan.extent.initial - plan.grown, 0)

    def _write_cow(self) -> None:
        """Room for copies of each region that was inherited, and a thread that writes to it."""
        parent = self.spec.fork_of
        inherited = self.inst.attached.get(parent or "", {})
        private = {
            name: plan for name, plan in inherited.items()
            if plan.region.kind == "anon" and plan.region.shared is None and plan.cow_of is None
        }  # fmt: skip
        for name, plan in private.items():
            region = Region(kind="anon", compressibility=plan.region.compressibility)
            copies = self.inst.world.plan(f"{self.name}/{name}.cow", region, 0, self.warm)
            copies.cow_of = plan
            self.regions[f"{name}.cow"] = copies
        for name, rate in self.spec.cow.items():
            if name not in private:
                where = f"containers.{self.family.container}: processes.{self.key}.cow.{name}"
                raise InputError(f"{where}: not anonymous memory that its parent has for itself")
            if rate > 0:
                where = private[name].extent.mapping
                op = Op("store", where, rate=rate / PAGE_SIZE, pattern="uniform")
                self.tasks.append(Task((op,), clock=self.family.profile.clock))

    # --- traces -----------------------------------------------------------------------

    def _write_trace(self, trace: Trace, first: list[Op]) -> None:
        """One process for each life of the recorded container."""
        inst, world = self.inst, self.inst.world
        end_ns = self.start_ns + self._left_ns()
        recording = self.family.recording(self.key)
        followed = recording.follow(self.draws, self.start_ns, end_ns)
        for note in followed.notes:
            world.note_of(self.family.container, note)
        self._write_regions()
        static = [Task(tuple(first)), *self.tasks] if first else list(self.tasks)
        attached = self._mappings()
        for number, life in enumerate(followed.lives):
            name = self.name if number == 0 else f"{self.base}#{inst.number + number + 1}"
            tasks, mappings = self._trace_tasks(trace, recording.anon, life, name)
            self._emit(name, int(life.at_ns[0]), [*tasks, *static], (*mappings, *attached))

    def _trace_tasks(
        self, trace: Trace, region: Region, life: TraceLife, name: str
    ) -> tuple[list[Task], list[str]]:
        world = self.inst.world
        warm = self.warm and int(life.at_ns[0]) == 0
        top = int(life.anon.max())
        plan = world.plan(f"{name}/trace", region, int(life.anon[0]), warm)
        plan.extent.peak = max(plan.extent.peak, top)
        # a warm start is at the first point already
        points = slice(1 if warm else 0, None)
        tasks = [
            Task(
                (),
                plan.extent.mapping,
                trace_access(trace.access, life.anon),
                exit_at_end=life.exits,
                trace=TracePoints(plan.extent.mapping, life.at_ns[points], life.anon[points]),
                clock="schedule",
            )
        ]
        if life.file is None:
            return tasks, [plan.extent.mapping]
        cache = Region.model_validate(
            {"kind": "file", "via": "read", "size": int(life.file.max()) * PAGE_SIZE,
             "resident": int(life.file[0]) * PAGE_SIZE}
        )  # fmt: skip
        # its extent is what has been read so far, so that it can grow like the curve
        file = world.plan(f"{self.base}/cache", cache, int(life.file.max()), warm, written=True)
        file.extent.peak = max(file.extent.peak, int(life.file.max()))
        tasks.append(
            Task(
                (),
                file.extent.mapping,
                trace_access(trace.file_access or trace.access, life.file),
                trace=TracePoints(file.extent.mapping, life.at_ns[points], life.file[points]),
                clock="schedule",
            )
        )
        return tasks, [plan.extent.mapping, file.extent.mapping]

    # --- the process ------------------------------------------------------------------

    def _emit(self, name: str, start_ns: int, tasks: list[Task], mappings: tuple[str, ...]) -> None:
        inst, spec = self.inst, self.spec
        restart = self.family.spec.restart
        stop = inst.life.stop_ns
        if stop is not None:
            tasks = [*tasks, Task((Op("wait", at_ns=stop), Op("exit")))]
        if stop is not None or any(task.exit_at_end for task in tasks):
            # an end that the timeline or the trace orders is an exit with code 0, after which
            # only Always would start it again
            restart = "Never" if restart == "Never" else "OnFailure"
        adj = self.family.spec.oom_score_adj if spec.oom_score_adj is None else spec.oom_score_adj
        parent = "" if spec.fork_of is None else inst.instance_names(spec.fork_of)[0]
        if self.key in self.family.forked:
            restart = "Never"  # the phase that forks it does so again
        inst.world.processes.append(
            Process(
                name=name,
                cgroup=inst.cgroup,
                container=inst.name,
                start_ns=start_ns,
                oom_score_adj=adj,
                mappings=mappings,
                tasks=tuple(tasks),
                kernel_pages=to_pages(spec.threads * THREAD_BYTES),
                root=bool(spec.root),
                sparse_tables=self._sparse_tables(),
                parent=parent,
                by_fork=self.by_fork,
                waits=inst.life.waits,
                restart=restart,
                restart_by=inst.family.spec.restart_by,
                restart_sec_ns=inst.family.spec.restart_sec,
                start_limit_ns=inst.family.spec.start_limit_interval_sec,
                start_limit_burst=inst.family.spec.start_limit_burst,
                mempolicy=self._mempolicy(),
                sigterm_ns=None
                if self.family.spec.sigterm == IGNORED
                else self.family.spec.sigterm,
            )
        )

    def _mempolicy(self) -> Mempolicy | None:
        """Its own, that of the process it is forked from, or the container's."""
        spec: ProcessSpec | None = self.spec
        while spec is not None and spec.numa is None:
            spec = self.family.profile.processes.get(spec.fork_of or "")
        given = self.family.spec.numa if spec is None else spec.numa
        if given is None or given.policy in WITHOUT_NODES:
            return None
        return Mempolicy(given.policy, given.listed)


def replace_scope(region: Region) -> Region:
    """A region of ``shared.regions``: one for the container unless it says replicas."""
    if region.shared is not None:
        return region
    return region.model_copy(update={"shared": "processes"})
