"""The page cache runs of a real server, as scenarios, and how near the model comes.

Three programs in a chain each read a file whole into a malloc'ed buffer, compute, and write
the buffer to a new file, which the next one reads (Do et al., "Modeling the Linux page cache
for accurate simulation of data-intensive applications", IEEE CLUSTER 2021). What is given to
the model: file size, the time of each computation, what the node held at the start, one set
of speeds. Nothing is fitted to a run.

The programs are one process here that gives its buffer back where the next would begin.
Trajectories are compared on phase-aligned time: the model is looked at where it has done the
same share of the same operation, computation or change of program.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capplan.sim.build import Machine
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Disk, Mapping, Node, Op, Process, Scenario, Task, Zone

__all__ = [
    "Comparison",
    "Recorded",
    "compare",
    "load",
    "load_all",
    "missed",
    "simulate",
    "to_scenario",
]

NS = 1_000_000_000
PAGE = 4096
DISK = "ssd"
READ_MB_S, WRITE_MB_S = 510.0, 420.0  # the device, as its owners measured it
MEMORY_READ_MB_S, MEMORY_WRITE_MB_S = 6860.0, 2764.0  # memory, as they measured it
RELEASE = "4.18.0-193.el8"
CPUS = 32  # the paper: two processors of 16 cores each
# Red Hat Enterprise Linux 8 and its rebuilds run tuned with the profile throughput-performance
# on servers; that a vm.dirty_ratio of 20 was not in force is also seen in the runs: dirty pages
# pass 30 % of the dirtyable memory.
SYSCTL = {"vm.dirty_ratio": 40, "vm.dirty_background_ratio": 10, "vm.swappiness": 10}
LATENCY_NS = 100_000  # one read of a SATA SSD (data sheets: 50 to 100 us)
SAMPLE_NS = NS // 2
OPERATIONS_BAR = 0.16  # mean relative error of an operation's time
MEAN_BAR, WORST_BAR = 0.01, 0.02  # cache and used: of RAM, over all runs and in one
TAIL = 2.0  # how much slower than the server the model may be and still be seen to end


@dataclass(frozen=True)
class Recorded:
    """One run of the real server."""

    name: str
    file_pages: int
    starts_s: NDArray[np.float64]  # of reads and writes, in turn
    ends_s: NDArray[np.float64]
    t_s: NDArray[np.float64]
    memory: dict[str, NDArray[np.float64]]  # [pages]

    @property
    def computations_s(self) -> NDArray[np.float64]:
        """Time between each read and its write."""
        return self.starts_s[1::2] - self.ends_s[::2]


@dataclass(frozen=True)
class Comparison:
    """How far the model is from one run."""

    name: str
    operations: tuple[tuple[str, float, float], ...]  # name, kernel's and model's time [s]
    cache_error: float  # mean absolute, as a share of RAM
    used_error: float
    dirty_error: float
    curves: dict[str, NDArray[np.float64]]

    @property
    def operation_error(self) -> float:
        """Mean relative error of an operation's time."""
        return float(np.mean([abs(ours / real - 1) for _, real, ours in self.operations]))


def load(folder: Path, name: str) -> Recorded:
    """Read one run.

    Parameters
    ----------
    folder : Path
        Holds ``<name>-phases.csv`` and ``<name>-memory.csv.gz``.
    name : str
        Of the run, its file size first: ``20gb``.
    """
    with (folder / f"{name}-phases.csv").open(encoding="utf-8") as file:
        phases = list(csv.DictReader(file))
    with gzip.open(folder / f"{name}-memory.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    memory = {
        key.removesuffix("_pages"): np.array([float(row[key]) for row in rows])
        for key in rows[0]
        if key != "t_s"
    }
    return Recorded(
        name=name,
        file_pages=-(-int(name.removesuffix("gb")) * 10**9 // PAGE),
        starts_s=np.array([float(phase["start_s"]) for phase in phases]),
        ends_s=np.array([float(phase["end_s"]) for phase in phases]),
        t_s=np.array([float(row["t_s"]) for row in rows]),
        memory=memory,
    )


def load_all(folder: Path) -> tuple[Recorded, ...]:
    """All runs of a folder, by name."""
    names = sorted(path.name.removesuffix("-phases.csv") for path in folder.glob("*-phases.csv"))
    return tuple(load(folder, name) for name in names)


def missed(runs: Sequence[Comparison]) -> dict[tuple[str, str], float]:
    """Bars that are not met, by run ("all": their mean) and quantity, with the value."""
    found: dict[tuple[str, str], float] = {}

    def hold(run: str, bar: str, value: float, most: float) -> None:
        if not value <= most:
            found[run, bar] = value

    operations = float(np.mean([one.operation_error for one in runs]))
    hold("all", "operations", operations, OPERATIONS_BAR)
    for name in ("cache", "used"):
        errors = [getattr(one, f"{name}_error") for one in runs]
        hold("all", name, float(np.mean(errors)), MEAN_BAR)
        for one, error in zip(runs, errors, strict=True):
            hold(one.name, name, error, WORST_BAR)
    return found


def page_ns(mb_per_s: float) -> float:
    """Time of one page at a speed of 10^6 bytes a second.

    Worked example: 510 MB/s: 4096 / 510e6 s = 8031 ns.
    """
    return PAGE * 1000.0 / mb_per_s


def _zones(total: int, free: int, kernel: int) -> tuple[Zone, ...]:
    """Two equal nodes; what the kernel holds is half on each, the rest in use is on the first."""
    first, second = total - total // 2, total // 2
    return (
        Zone(0, "Normal", first, first, first, free=free - (second - kernel // 2)),
        Zone(1, "Normal", second, second, second, free=second - kernel // 2),
    )


def _node(recorded: Recorded) -> Node:
    """The server just before the first read: two sockets, each half of the memory."""
    first = {key: int(values[0]) for key, values in recorded.memory.items()}
    total = first["total"]
    cache = first["cache"] + first["buffers"]
    reclaimable = first["slab_reclaimable"]
    kernel = total - first["free"] - cache - reclaimable
    return Node(
        zones=_zones(total, first["free"], kernel),
        cpus=CPUS,
        release=RELEASE,
        hz=1000,
        sysctl=SYSCTL,
        disks=(
            Disk(DISK, LATENCY_NS, LATENCY_NS, page_ns(READ_MB_S), page_ns(WRITE_MB_S), LATENCY_NS),
        ),
        kernel_pages=kernel,
        slab_reclaimable_pages=reclaimable,
        daemon_file_pages=cache - first["shmem"],
        daemon_shmem_pages=first["shmem"],
        costs={
            "file_copy_ns": page_ns(MEMORY_READ_MB_S),
            "read_syscall_ns": 0.0,  # part of the measured speed
            "write_copy_ns": page_ns(MEMORY_WRITE_MB_S),
            "fill_ns": 0.0,  # what fills the buffer is the copy
        },
    )


def _ops(recorded: Recorded) -> tuple[Op, ...]:
    pages = recorded.file_pages
    ops: list[Op] = []
    for step, seconds in enumerate(recorded.computations_s):
        ops += [
            Op("read", f"file{step}", pages=pages, into="buffer"),
            Op("hold", ns=round(float(seconds) * NS)),
            Op("write", f"file{step + 1}", pages=pages),
            Op("free", "buffer", pages=pages),
        ]
    return tuple(ops)


def to_scenario(recorded: Recorded) -> Scenario:
    """The run as a scenario: huge pages as RHEL 8 gives them, no swap."""
    pages = recorded.file_pages
    steps = len(recorded.computations_s)
    files = [
        Mapping(
            f"file{step}", "file", pages, pages if step == 0 else 0, via="read", disk=DISK, owner=""
        )
        for step in range(steps + 1)
    ]
    buffer = Mapping("buffer", "anon", pages, thp=True)
    mappings = (*files, buffer)
    process = Process(
        "chain", "", "chain", mappings=tuple(m.name for m in mappings),
        tasks=(Task(_ops(recorded)),),
    )  # fmt: skip
    return Scenario(
        name=f"page-cache-{recorded.name}",
        node=_node(recorded),
        cgroup_version="v1",
        cgroups=(),
        mappings=mappings,
        processes=(process,),
        duration_ns=round(float(recorded.ends_s[-1]) * TAIL) * NS,
        sample_ns=SAMPLE_NS,
    )


def simulate(scenario: Scenario) -> tuple[Run, NDArray[np.float64]]:
    """Run the scenario: the run, and when each of its ops began [s], the end as last."""
    count = len(scenario.processes[0].tasks[0].ops)
    begun = np.full(count + 1, np.nan)
    tasks: list[int] = []

    def look(machine: Machine) -> None:
        k: Any = machine.kernel[0]
        if not tasks:
            names = machine.proc_names
            tasks.append(next(t for t in range(int(k.nr_tasks))
                              if names[int(k.task[t].proc)] == "chain"))  # fmt: skip
        task = k.task[tasks[0]]
        done = int(task.pc - task.pc_begin)
        if task.stage == 1:
            begun[done] = task.op_start_ns / 1e9
        if done == count and np.isnan(begun[count]):
            begun[count] = task.nominal_ns / 1e9

    result = run(scenario, check=look)
    # an op that no sample met (giving the buffer back) ended where the next began
    for op in range(count - 1, -1, -1):
        if np.isnan(begun[op]):
            begun[op] = begun[op + 1]
    return result, begun


def compare(recorded: Recorded, change: Callable[[Scenario], Scenario] | None = None) -> Comparison:
    """Simulate one run and lay it beside the server's.

    Parameters
    ----------
    recorded : Recorded
    change : callable, optional
        Applied to the scenario before the run (a sensitivity study's changed cost).
    """
    scenario = to_scenario(recorded)
    result, begun = simulate(change(scenario) if change else scenario)
    starts = begun[:-1].reshape(-1, 4)  # read, computation, write, giving back
    ours = np.column_stack([starts[:, 1] - starts[:, 0], starts[:, 3] - starts[:, 2]]).ravel()
    real = recorded.ends_s - recorded.starts_s
    names = [f"{op} {1 + i // 2}" for i, op in enumerate(["read", "write"] * (len(real) // 2))]
    theirs = np.column_stack([recorded.starts_s, recorded.ends_s]).ravel()
    points = np.column_stack([starts[:, 0], starts[:, 1], starts[:, 2], starts[:, 3]]).ravel()
    last = float(recorded.ends_s[-1])
    when = recorded.t_s[(recorded.t_s >= 0) & (recorded.t_s <= last)]
    aligned = np.interp(when, theirs, points)
    curves = _curves(recorded, result, when, aligned)
    total = float(recorded.memory["total"][0])
    errors = {
        key: float(np.mean(np.abs(curves[f"{key} model"] - curves[f"{key} kernel"]))) / total
        for key in ("cache", "used", "dirty")
    }
    return Comparison(
        name=recorded.name,
        operations=tuple(zip(names, real.tolist(), ours.tolist(), strict=True)),
        cache_error=errors["cache"],
        used_error=errors["used"],
        dirty_error=errors["dirty"],
        curves=curves,
    )


def _curves(
    recorded: Recorded, result: Run, when: NDArray[np.float64], aligned: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Kernel's and model's pages at the kernel's sample times; used: all that is not free."""
    series = result.series
    names = {"free": "MemFree", "cache": "Cached", "dirty": "Dirty"}
    model = {
        key: np.interp(aligned, series["t"], series[f"meminfo_kb.{name}"] / 4)
        for key, name in names.items()
    }
    kernel = {key: np.interp(when, recorded.t_s, recorded.memory[key]) for key in names}
    kernel["cache"] = kernel["cache"] + np.interp(when, recorded.t_s, recorded.memory["buffers"])
    total = float(recorded.memory["total"][0])
    curves = {"t": when, "t model": aligned}
    for side, values in (("kernel", kernel), ("model", model)):
        curves[f"cache {side}"] = values["cache"]
        curves[f"dirty {side}"] = values["dirty"]
        curves[f"used {side}"] = total - values["free"]
    return curves
