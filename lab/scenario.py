"""A scenario file: what is configured and what each process does, before any kernel runs it.

The keys are those of a recording's ``scenario.json``; sizes of limits may have a unit (100Mi).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from capplan import units
from capplan.errors import InputError, Place, Problem
from capplan.spec.common import Model, problem
from capplan.spec.mempolicy import WITHOUT_NODES, Mempolicy
from capplan.spec.tree import parse, read_text
from capplan.spec.validate import validate

Op = Literal[
    "anon", "touch_anon", "touch_anon_random", "read_file", "loop_read_file", "random_read_file",
    "write_file", "write_tmpfs", "hold", "free_anon", "mlock", "fork", "map_file", "punch",
    "dentries", "exec",
]  # fmt: skip

NEEDS: dict[str, tuple[str, ...]] = {
    "anon": ("mib",), "touch_anon": ("seconds",), "touch_anon_random": ("seconds",),
    "read_file": ("file", "mib"), "loop_read_file": ("file", "mib", "seconds"),
    "random_read_file": ("file", "mib", "seconds"), "write_file": ("mib",),
    "write_tmpfs": ("mib",), "hold": ("seconds",), "free_anon": ("mib",), "mlock": ("mib",),
    "fork": ("child",), "map_file": ("file", "mib"), "punch": ("mib",), "dentries": ("mib",),
    "exec": ("program",),
}  # fmt: skip
"""What each phase cannot do without."""


class Phase(Model):
    """One thing that a process does, before the next."""

    op: Op
    """anon, touch_anon, read_file, ... (docs/lab.md lists them)."""
    mib: float | None = Field(default=None, gt=0)
    """How much. [MiB]"""
    rate_mib_s: float | None = Field(default=None, gt=0)
    """Upper bound of its pace; without it as fast as it can. [MiB/s]"""
    seconds: float | None = Field(default=None, gt=0)
    """How long. [s]"""
    file: str | None = None
    """Which of ``files``."""
    compressible_pct: int | None = Field(default=None, ge=0, le=100)
    """Share of each page that holds one repeated byte; the rest is random. [%]"""
    child: str | None = None
    """fork: the process that starts."""
    program: str | None = None
    """exec: a path on the disk of ``python``."""

    @model_validator(mode="after")
    def _complete(self) -> Phase:
        missing = [key for key in NEEDS[self.op] if getattr(self, key) is None]
        if missing:
            raise problem("other", f"{self.op} lacks {', '.join(missing)}", "those keys")
        return self


class Process(Model):
    """A process: where it runs and what it does; at the last phase's end it exits."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,14}$")
    cgroup: str | None = None
    """Path under the hierarchy's root; a forked child stays in its parent's."""
    oom_score_adj: int = Field(default=0, ge=-1000, le=1000)
    start_s: float | None = Field(default=None, ge=0)
    """When it starts; a forked child has none. [s]"""
    thp: bool = False
    """Whether its memory may be huge pages (where ``thp`` is always)."""
    numa: Mempolicy | None = None
    """Its NUMA memory policy; a forked child has its parent's unless it says another."""
    phases: tuple[Phase, ...] = Field(min_length=1, max_length=24)


class Zswap(Model):
    """Parameters of the zswap module."""

    enabled: Literal["Y", "N"] = "Y"
    max_pool_percent: int = Field(default=20, ge=1, le=100)
    compressor: str = "lzo"
    zpool: Literal["zbud", "z3fold", "zsmalloc"] = "zbud"
    shrinker_enabled: Literal["Y", "N"] | None = None


class Zram(Model):
    """A swap device in compressed memory."""

    disksize_mib: int = Field(gt=0)
    comp_algorithm: str | None = None
    """The kernel's default where it is left out."""
    mem_limit_mib: int | None = Field(default=None, gt=0)


class Disk(Model):
    """The emulated disks (null_blk with its own memory): one for files, one for swap."""

    latency_us: int = Field(default=100, ge=1)
    """From a request to its completion. [us]"""
    rotational: bool = False


class Change(Model):
    """Something written while the run goes on."""

    at_s: float = Field(ge=0)
    cgroup: str | None = None
    file: str | None = None
    """A file of that cgroup."""
    sysctl: str | None = None
    value: str | int

    @model_validator(mode="after")
    def _one_target(self) -> Change:
        if (self.sysctl is None) == (self.cgroup is None or self.file is None):
            raise problem("other", "a change names no single target", "cgroup and file, or sysctl")
        return self


class Scenario(Model):
    """One scenario file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    about: str
    """What it shows, in a sentence."""
    kernels: tuple[str, ...] = Field(default=("6.1", "6.12"), min_length=1)
    """The releases that ``lab all`` records it with."""
    ram_mib: int = Field(ge=128, le=8192)
    numa_mib: tuple[int, ...] | None = Field(default=None, min_length=2, max_length=4)
    """Memory of each node, where there are several. [MiB]"""
    cpus: int = Field(default=1, ge=1, le=4)
    """More than one runs in real time: record such a scenario on a quiet host."""
    swap_mib: int = Field(default=0, ge=0)
    disk: Disk = Disk()
    cgroup_version: Literal["v1", "v2"] = "v2"
    sysctl: dict[str, int] = Field(default_factory=dict)
    write: dict[str, str | int] = Field(default_factory=dict)
    """Other files that are written before the run, by path (/sys/kernel/mm/lru_gen/enabled)."""
    thp: Literal["never", "always"] = "never"
    """never: the processes' memory is 4 KiB pages (prctl); the node's setting is the kernel's."""
    zswap: Zswap | None = None
    zram: Zram | None = None
    files: dict[str, int] = Field(default_factory=dict)
    """Files of random bytes on ext4, by name. [MiB]"""
    python: bool = False
    """The disk of files holds this Python and capplan too (``lab capture-check``)."""
    cgroups: dict[str, dict[str, str | int]] = Field(default_factory=dict)
    """By path: the files that are written. Sizes may have a unit."""
    processes: tuple[Process, ...] = Field(min_length=1, max_length=24)
    changes: tuple[Change, ...] = ()
    duration_s: float = Field(gt=0, le=600)

    @field_validator("cgroups")
    @classmethod
    def _bytes(cls, value: dict[str, dict[str, str | int]]) -> dict[str, dict[str, str | int]]:
        return {path: {k: in_bytes(v) for k, v in keys.items()} for path, keys in value.items()}

    @model_validator(mode="after")
    def _names_exist(self) -> Scenario:
        names = [process.name for process in self.processes]
        forked = [phase.child for process in self.processes for phase in process.phases]
        for process in self.processes:
            if (process.start_s is None) != (process.name in forked):
                what = f"{process.name} is started by start_s or by one fork phase"
                raise problem("other", what, "one of the two")
            if process.start_s is not None and process.cgroup not in self.cgroups:
                raise problem(
                    "other", f"{process.name}: no cgroup '{process.cgroup}'", "one of them"
                )
            for phase in process.phases:
                if phase.file is not None and phase.file not in self.files:
                    raise problem(
                        "other", f"{process.name}: no file '{phase.file}'", "one of files"
                    )
                if phase.child is not None and phase.child not in names:
                    raise problem(
                        "other", f"{process.name}: no process '{phase.child}'", "one of them"
                    )
        for process in self.processes:
            missing = set(self.nodes_of(process.numa)) - set(range(len(self.numa_mib or (0,))))
            if missing:
                what = f"{process.name}: no NUMA node {min(missing)}"
                raise problem("other", what, "one of numa_mib")
        if self.numa_mib is not None and sum(self.numa_mib) != self.ram_mib:
            raise problem("other", "numa_mib does not add up to ram_mib", f"{self.ram_mib} in all")
        return self

    def inputs(self) -> dict[str, Any]:
        """What ``scenario.json`` says of it, before ``boot`` and ``calibration``."""
        raw = self.model_dump(mode="json", exclude={"about", "kernels", "python"})
        raw["cgroups"] = [{"name": path} | keys for path, keys in self.cgroups.items()]
        forks = self._forks()
        raw["processes"] = [
            process.model_dump(mode="json", exclude_none=True, exclude={"numa"})
            | self._numa(process.numa)
            | forks.get(process.name, {})
            for process in self.processes
        ]
        raw["changes"] = [
            change.model_dump(mode="json", exclude_none=True) for change in self.changes
        ]
        return raw

    def nodes_of(self, policy: Mempolicy | None) -> tuple[int, ...]:
        """A policy's nodes by number."""
        if policy is None or policy.nodes is None:
            return ()
        return policy.listed or tuple(range(len(self.numa_mib or (0,))))

    def _numa(self, policy: Mempolicy | None) -> dict[str, Any]:
        if policy is None or policy.policy in WITHOUT_NODES:
            return {}
        return {"numa": {"policy": policy.policy, "nodes": list(self.nodes_of(policy))}}

    def _forks(self) -> dict[str, dict[str, Any]]:
        """Of each forked process: its parent's group and policy, and its parent's earliest fork."""
        found: dict[str, dict[str, Any]] = {}
        own = {process.name for process in self.processes if process.numa is not None}
        for parent in self.processes:
            at_s = parent.start_s or 0.0
            for phase in parent.phases:
                if phase.child is not None:
                    found[phase.child] = {"cgroup": parent.cgroup or "", "start_s": at_s}
                    if phase.child not in own:
                        found[phase.child] |= self._numa(parent.numa)
                at_s += phase.seconds or (phase.mib or 0) / (phase.rate_mib_s or math.inf)
        return found


def in_bytes(value: str | int) -> str:
    """A limit as the kernel's file takes it: "100Mi" is 104857600; words stay as they are.

    Worked example
    --------------
    ``in_bytes("100Mi")`` is ``"104857600"``, ``in_bytes("max")`` ``"max"``.
    """
    try:
        return str(int(units.parse_k8s(value)))
    except units.UnitError:
        return str(value)


def load(path: Path) -> Scenario:
    """Read a scenario file.

    Raises
    ------
    InputError
        Everything that is wrong with it, each with its place.
    """
    shown = str(path)
    tree, problems = parse(read_text(path, shown), shown)
    model, wrong = (None, []) if problems else validate(Scenario, tree)
    if problems or wrong or model is None:
        raise InputError([*problems, *wrong] or [Problem(Place(shown), "", "is empty")])
    return model
