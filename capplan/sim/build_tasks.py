"""Processes, their regions and what they do, as kernel records and a program of ops."""

from __future__ import annotations

import functools
import heapq
from typing import Any

import numpy as np

from capplan.mm import state as s
from capplan.mm.swap_map import swap_records, swapon
from capplan.mm.xarray import xa_init, xa_node_shift
from capplan.mm.zswap_lru import zswap_lru_records
from capplan.sim.ops import (
    OP_EXIT,
    OP_FORK,
    OP_FREE,
    OP_GROW,
    OP_HOLD,
    OP_MLOCK,
    OP_POPULATE,
    OP_PUNCH,
    OP_READ,
    OP_READ_LOOP,
    OP_READ_RAND,
    OP_RESTART,
    OP_SLAB,
    OP_STORE,
    OP_TARGET,
    OP_TOUCH,
    OP_WAIT,
    OP_WRITE,
)
from capplan.sim.scenario import Mapping, Op, Process, Scenario, Task, TracePoints

__all__ = ["SYSTEM", "build_tasks"]

SYSTEM = "system"  # the daemons: a process of the root group that the OOM killer spares
LOCKED = "locked"
FIRST_PID = 100

KINDS = {"anon": s.MAP_ANON, "file": s.MAP_FILE, "shmem": s.MAP_SHMEM, "kernel": s.MAP_KERNEL}
PATTERNS = {
    "idle": s.ACCESS_IDLE, "cyclic": s.ACCESS_CYCLIC, "uniform": s.ACCESS_UNIFORM,
    "zipf": s.ACCESS_ZIPF, "once": s.ACCESS_ONCE,
}  # fmt: skip
OPS = {
    "grow": OP_GROW, "target": OP_TARGET, "touch": OP_TOUCH, "read": OP_READ,
    "read_loop": OP_READ_LOOP, "read_rand": OP_READ_RAND, "write": OP_WRITE, "hold": OP_HOLD,
    "wait": OP_WAIT, "free": OP_FREE, "mlock": OP_MLOCK, "exit": OP_EXIT, "fork": OP_FORK,
    "punch": OP_PUNCH, "restart": OP_RESTART, "slab": OP_SLAB, "store": OP_STORE,
}  # fmt: skip
RESTARTS = {
    "Never": s.RESTART_NEVER, "OnFailure": s.RESTART_ON_FAILURE, "Always": s.RESTART_ALWAYS,
}  # fmt: skip
RESTARTED_BY = {
    "kubelet": s.BACKOFF_KUBELET, "docker": s.BACKOFF_DOCKER, "systemd": s.BACKOFF_SYSTEMD,
}  # fmt: skip
MEMPOLICIES = {
    "preferred": s.MPOL_PREFERRED, "bind": s.MPOL_BIND, "interleave": s.MPOL_INTERLEAVE,
    "preferred-many": s.MPOL_PREFERRED_MANY, "weighted-interleave": s.MPOL_WEIGHTED_INTERLEAVE,
}  # fmt: skip


def build_tasks(
    k: Any, scenario: Scenario, cgroups: dict[str, int]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[str]]:
    """Entries, program and process names of a scenario; fills the tables of ``k``."""
    mappings = _system_mappings(scenario) + list(scenario.mappings)
    numbers = {mapping.name: m for m, mapping in enumerate(mappings)}
    _check("regions", len(mappings), s.MAX_MAPPINGS)
    entries = _mappings(k, scenario, mappings, numbers, cgroups)
    processes = [_system_process(scenario), *scenario.processes]
    _check("processes", len(processes), s.MAX_PROCS)
    names = {process.name: p for p, process in enumerate(processes)}
    program = _Program(k, numbers, mappings, names)
    for p, process in enumerate(processes):
        program.add_process(p, process)
    _processes(k, processes, names, cgroups)
    k.nr_procs = len(processes)
    return entries, program.finish(), [process.name for process in processes]


def _processes(
    k: Any, processes: list[Process], names: dict[str, int], cgroups: dict[str, int]
) -> None:
    """What is known of each process before it begins."""
    mains = _mains(processes)
    begin: dict[int, int] = {}  # when the first of a container's processes starts
    for main, process in zip(mains, processes, strict=True):
        begin[main] = min(begin.get(main, process.start_ns), process.start_ns)
    table = k.proc[: len(processes)]
    for name, values in {
        "memcg": [cgroups[p.cgroup.strip("/")] for p in processes],
        "oom_score_adj": [p.oom_score_adj for p in processes],
        "pid": np.arange(FIRST_PID, FIRST_PID + len(processes)),
        "exit_vma": -1,
        "parent": [names.get(p.parent, -1) for p in processes],
        "restart_policy": [RESTARTS[p.restart] for p in processes],
        "restarts_by": [RESTARTED_BY[p.restart_by] for p in processes],
        "restart_sec_ns": [p.restart_sec_ns for p in processes],
        "start_limit_ns": [p.start_limit_ns for p in processes],
        "start_limit_burst": [p.start_limit_burst for p in processes],
        "kernel_wanted": [p.kernel_pages for p in processes],
        "tables_wanted": [p.sparse_tables for p in processes],
        "cap_sys_admin": [p.root for p in processes],
        "by_fork": [p.by_fork for p in processes],
        "container": mains,
        "start_offset_ns": [p.start_ns - begin[m] for m, p in zip(mains, processes, strict=True)],
    }.items():
        table[name] = values
    _mempolicies(k, processes)


def _mempolicies(k: Any, processes: list[Process]) -> None:
    """A policy's nodes are those of them that the process's cpuset has (mpol_set_nodemask)."""
    for p, process in enumerate(processes):
        given = process.mempolicy
        if given is not None:
            nodes = sum(1 << n for n in set(given.nodes)) or (1 << int(k.nr_nodes)) - 1
            allowed = int(k.memcg[int(k.proc[p].memcg)].mems_allowed)
            k.proc[p].mpol_mode = MEMPOLICIES[given.mode]
            k.proc[p].mpol_nodes = nodes & allowed or nodes
            k.mempolicies = 1


def _mains(processes: list[Process]) -> list[int]:
    """The first process of each one's container; a container's lives are apart."""
    first: dict[tuple[str, str], int] = {}
    return [
        first.setdefault((process.container, process.name.partition("#")[2]), p)
        for p, process in enumerate(processes)
    ]


def _check(what: str, wanted: int, most: int) -> None:
    if wanted > most:
        msg = f"{wanted} {what} are more than the engine's tables hold ({most})"
        raise ValueError(msg)


def _system_mappings(scenario: Scenario) -> list[Mapping]:
    node = scenario.node
    anon = node.daemon_anon_pages - node.daemon_locked_pages
    locked = node.daemon_locked_shmem_pages
    found = []
    for name, kind, pages in (
        ("anon", "anon", anon),
        ("file", "file", node.daemon_file_pages),
        ("shmem", "shmem", node.daemon_shmem_pages - locked),
        (LOCKED, "shmem", locked),
        ("slab", "kernel", 0),
    ):
        if pages > 0 and (kind != "file" or node.disks):
            found.append(
                Mapping(
                    f"{SYSTEM}.{name}",
                    kind,
                    pages,
                    pages if kind == "file" else 0,
                    pages,
                    via="read",
                    disk=node.disks[0].name if node.disks else "",
                    owner="",
                    locked=name == LOCKED,
                )
            )
    return found


def _system_process(scenario: Scenario) -> Process:
    return Process(
        SYSTEM, "", SYSTEM, oom_score_adj=-1000,
        mappings=tuple(mapping.name for mapping in _system_mappings(scenario)), tasks=(Task(()),),
    )  # fmt: skip


def _mappings(
    k: Any, scenario: Scenario, mappings: list[Mapping], numbers: dict[str, int],
    cgroups: dict[str, int],
) -> np.ndarray[Any, Any]:  # fmt: skip
    disks = {disk.name: d for d, disk in enumerate(scenario.node.disks)}
    granule = int(k.granule_pages)
    k.nr_mappings = len(mappings)
    sizes = np.array([_whole_extent(m, mappings, numbers) for m in mappings])
    # a region may end short and go on: one granule to spare for each end
    spare = np.array([2 if m.kind == "anon" else 0 for m in mappings])
    nr_ptes = -(-sizes // granule) + spare
    # an xarray node is of one mapping
    node_ptes = 1 << xa_node_shift(int(k.g))
    places = -(-nr_ptes // node_ptes) * node_ptes
    ends = np.cumsum(places)
    table = k.mapping[: len(mappings)]
    # a column at a time: a record in Python takes a microsecond for each field
    for name, values in {
        "kind": [KINDS[m.kind] for m in mappings],
        "via_read": [m.via == "read" and m.kind != "anon" for m in mappings],
        "exec": [m.exec for m in mappings],
        "thp": [m.thp for m in mappings],
        "max_pages": sizes,
        "locked": [m.locked for m in mappings],
        "disk": [disks.get(m.disk, 0) for m in mappings],
        "first_pte": ends - places,
        "nr_ptes": nr_ptes,
        "owner": [-1 if m.owner is None else cgroups[m.owner.strip("/")] for m in mappings],
        "cow_parent": [numbers[m.cow_of] if m.cow_of else -1 for m in mappings],
        "length_mean": [m.length_mean for m in mappings],
        "length_sd": [m.length_sd for m in mappings],
        "same_filled": [m.same_filled for m in mappings],
        "incompressible": [m.incompressible for m in mappings],
        "zipf_s": 1.0,
        "stream": [_stream(m.name) for m in mappings],
        "dirtied_ns": s.NEVER_NS,
    }.items():
        table[name] = values
    k.nr_entries = max(int(ends[-1]) if mappings else 0, 1)
    entries = _entries(k, node_ptes)
    for m, mapping in enumerate(mappings):
        if mapping.kind == "file" and mapping.size_pages > 0:
            _lay_out_file(table[m], entries, mapping.size_pages, granule)
    return entries


def _entries(k: Any, node_ptes: int) -> np.ndarray[Any, Any]:
    nodes = -(-int(k.nr_entries) // node_ptes)
    swap = swap_records(k)
    entries = s.new_entries(int(k.nr_entries), nodes, swap + zswap_lru_records(k))
    xa_init(k)
    swapon(k, entries, int(k.first_xa_node) + nodes)
    k.first_zswap = k.first_slot + swap
    return entries


def _whole_extent(mapping: Mapping, mappings: list[Mapping], numbers: dict[str, int]) -> int:
    """The most pages of a mapping; copies on write may be as many as what they copy."""
    if not mapping.cow_of:
        return _extent(mapping)
    return max(_extent(mapping), _extent(mappings[numbers[mapping.cow_of]]))


def _extent(mapping: Mapping) -> int:
    """The most pages a mapping can have."""
    return max(mapping.max_pages, mapping.size_pages, 1)


def _lay_out_file(record: Any, entries: np.ndarray[Any, Any], pages: int, granule: int) -> None:
    """A file that exists: every granule of it can be read, none is in memory."""
    count = -(-pages // granule)
    first = int(record.first_pte)
    entries["state"][first : first + count] = s.PTE_SHADOW
    entries["nr_pages"][first : first + count] = granule
    entries["nr_pages"][first + count - 1] = pages - (count - 1) * granule
    record.size_pages = pages
    record.used = count
    record.nonresident = count


@functools.lru_cache(maxsize=4096)  # runs of many have the same names
def _stream(name: str) -> int:
    """A number for a mapping's draws that depends on its name only (FNV-1a, 31 bits)."""
    value = 2166136261
    for byte in name.encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


def _argument(op: Op, vmas: dict[str, int], procs: dict[str, int]) -> int:
    if op.op in ("touch", "store"):
        return PATTERNS[op.pattern]
    if op.op == "read":
        return vmas[op.into] + 1 if op.into else 0
    if op.op == "fork":
        return procs[op.proc]
    return op.code


class _Program:
    """Collects tasks, vmas and ops of all processes; :meth:`finish` writes them.

    A column at a time: a record in Python takes a microsecond for each field.
    """

    def __init__(
        self, k: Any, numbers: dict[str, int], mappings: list[Mapping], procs: dict[str, int]
    ) -> None:
        self.k = k
        self.procs = procs
        self.numbers = numbers
        self.mappings = mappings
        self.vmas: list[tuple[int, int]] = []  # process and mapping
        self.copies: list[tuple[int, int]] = []  # vma, the mapping of its process's own copies
        self.tasks: list[tuple[int, ...]] = []  # see TASK_FIELDS
        self.accesses: list[tuple[int, int, int, float]] = []  # task, vma, pattern, rate
        self.zipf: dict[int, float] = {}  # by mapping
        self.firsts: list[tuple[int, int]] = []  # each process's first task and vma
        self.heap: list[tuple[int, int]] = []  # when each task is due: the engine's event heap
        self.ops: list[tuple[int, int, int, float, float, int, int]] = []  # see OP_FIELDS
        self.traces: list[tuple[int, TracePoints, int]] = []  # where, points, vma
        self.length = 0
        self.placed: set[str] = set()

    def add_process(self, p: int, process: Process) -> None:
        tasks = process.tasks or (Task(()),)
        _check("tasks", len(self.tasks) + len(tasks), s.MAX_TASKS)
        self.firsts.append((len(self.tasks), len(self.vmas) if process.mappings else -1))
        vmas = self._attach(p, process)
        for number, task in enumerate(tasks):
            begin = self.length
            if number == 0:
                self._populate(process, vmas)
            if task.trace is not None:
                self._trace(task.trace, vmas)
            self._ops(task.ops, vmas)
            self._add_task(p, process, task, vmas, begin)

    def _attach(self, p: int, process: Process) -> dict[str, int]:
        begin = len(self.vmas)
        _check("attached regions", begin + len(process.mappings), s.MAX_VMAS)
        self.vmas += [(p, self.numbers[name]) for name in process.mappings]
        vmas = {name: v for v, name in enumerate(process.mappings, begin)}
        for name in process.mappings:
            parent = self.mappings[self.numbers[name]].cow_of
            if parent in vmas:
                self.copies.append((vmas[parent], self.numbers[name]))
        return vmas

    def _add_task(
        self, p: int, process: Process, task: Task, vmas: dict[str, int], begin: int
    ) -> None:
        t = len(self.tasks)
        access = task.access
        if task.access_mapping and access.pattern != "idle" and access.rate > 0:
            vma = vmas[task.access_mapping]
            self.accesses.append((t, vma, PATTERNS[access.pattern], access.rate))
            self.zipf[self.numbers[task.access_mapping]] = access.zipf_s
        due = s.NEVER_NS if process.by_fork or process.waits else process.start_ns
        scheduled = task.clock == "schedule"
        self.tasks.append((p, scheduled, task.exit_at_end, begin, self.length, due))
        heapq.heappush(self.heap, (due, t))

    def _populate(self, process: Process, vmas: dict[str, int]) -> None:
        """Regions that are in memory when the process begins."""
        for name in process.mappings:
            mapping = self.mappings[self.numbers[name]]
            # what is in swap is older: it is placed first
            for swapped, pages in ((1, mapping.swapped_pages), (0, mapping.resident_pages)):
                if pages > 0 and name not in self.placed:
                    self._op(OP_POPULATE, vmas[name], pages, 0.0, 0, swapped)
        self.placed.update(process.mappings)

    def _trace(self, trace: TracePoints, vmas: dict[str, int]) -> None:
        self.traces.append((self.length, trace, vmas[trace.mapping]))
        self.length += len(trace.at_ns)

    def _ops(self, ops: tuple[Op, ...], vmas: dict[str, int]) -> None:
        for op in ops:
            vma = vmas[op.mapping] if op.mapping else -1
            t_ns = op.at_ns if op.op in ("target", "wait") else op.ns
            argument = _argument(op, vmas, self.procs)
            self._op(OPS[op.op], vma, op.pages, op.rate, t_ns, argument)

    def _op(self, op: int, vma: int, pages: float, rate: float, t_ns: int, arg: int) -> None:
        self.ops.append((self.length, op, vma, pages, rate, t_ns, arg))
        self.length += 1

    def finish(self) -> np.ndarray[Any, Any]:
        """All ops, as ``(P,) op_t``; tasks, vmas and the event heap go to their places."""
        self._write_vmas()
        self._write_tasks()
        program = s.new_program(self.length + 1)
        if self.ops:
            at, *columns = zip(*self.ops, strict=True)
            for name, values in zip(OP_FIELDS, columns, strict=True):
                program[name][list(at)] = values
        for begin, trace, vma in self.traces:  # most of a program
            part = program[begin : begin + len(trace.at_ns)]
            part["op"] = OP_TARGET
            part["vma"] = vma
            part["pages"] = trace.pages
            part["t_ns"] = trace.at_ns
        return program

    def _write_vmas(self) -> None:
        self.k.nr_vmas = count = len(self.vmas)
        if not count:
            return
        table, mapping = self.k.vma[:count], self.k.mapping
        procs, mappings = np.array(self.vmas).T
        table["proc"], table["mapping"] = procs, mappings
        follows = np.append(procs[1:] == procs[:-1], False)
        table["next"] = np.where(follows, np.arange(1, count + 1), -1)
        table["via_read"] = mapping["via_read"][mappings]
        table["next_on_mapping"] = -1  # it joins its mapping when the process is born
        for vma, copy in self.copies:
            table["copy"][vma] = copy
        mapping["zipf_s"][list(self.zipf)] = list(self.zipf.values())

    def _write_tasks(self) -> None:
        self.k.nr_tasks = count = len(self.tasks)
        table, proc = self.k.task[:count], self.k.proc[: len(self.firsts)]
        for name, values in zip(TASK_FIELDS, zip(*self.tasks, strict=True), strict=True):
            table[name] = values
        table["state"] = s.TASK_UNBORN
        table["retries"] = s.MAX_RECLAIM_RETRIES
        table["wait"] = np.arange(count) % max(int(self.k.nr_cpus), 1) % 128
        if self.accesses:
            tasks, *columns = zip(*self.accesses, strict=True)
            for name, values in zip(ACCESS_FIELDS, columns, strict=True):
                table[name][list(tasks)] = values
        proc["first_task"], proc["first_vma"] = np.array(self.firsts).T
        due, tasks = zip(*self.heap, strict=True)
        self.k.heap[:count] = tasks
        self.k.heap_due[:count] = due
        table["heap_pos"][list(tasks)] = range(count)
        self.k.heap_len = count


TASK_FIELDS = ("proc", "clock", "exit_at_end", "pc_begin", "pc_end", "due_ns")
ACCESS_FIELDS = ("own_vma", "own_pattern", "own_rate")
OP_FIELDS = ("op", "vma", "pages", "rate", "t_ns", "arg")
