"""Recording a live host: every group's memory once a second, appended to a CSV file.

Only the standard library, and few reads: the files of a group stay open and are read again in
place (a cgroup file is made anew at each read from offset 0). A sweep is one write, so a recorder
that is killed loses nothing that it measured; what costs more than its share of a CPU is done
less often. What is written is made into a profile by :mod:`capplan.sources.record_profile`, in
another process: models and YAML would not fit into this one's memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from capplan.sources.cgroupfs import USAGE, Tree, find_tree, group_paths
from capplan.sources.procfs import Host, number, parse_meminfo, parse_pairs, parse_pressure
from capplan.sources.working_set import COLUMNS as WATCHED_COLUMNS
from capplan.sources.working_set import CPU_SHARE, Watcher

__all__ = ["COLUMNS", "META", "NODE", "PROCESSES", "TRACE", "WATCHED", "Cost", "Recorder"]

TRACE = "trace.csv"
PROCESSES = "processes.csv"
WATCHED = "working-set.csv"
META = "record.json"
NODE = "(node)"  # the row of the whole node; no group has such a path
COLUMNS = (
    "time", "group", "anon", "swap", "demand", "file", "shmem", "kernel", "zswap", "usage",
    "pgfault", "pgmajfault", "refault_anon", "refault_file", "psi_some_us", "psi_full_us",
)  # fmt: skip
PROCESS_COLUMNS = (
    "time", "pid", "name", "group", "oom_score_adj", "rss", "pss_anon", "pss_file", "pss_shmem",
    "swap", "referenced",
)  # fmt: skip

SHARE = 0.008  # of one CPU, below the 1 % that is promised: interpreter start-up is not counted
PROCESS_SHARE = 0.002  # of it, for the rare look at page tables
PROCESS_EVERY_S = 300.0
RESCAN_EVERY_S = 10.0
MAX_GROUPS = 200  # each keeps up to five files open
BUFFER = 1 << 14
_STAT = {  # memory.stat's keys: v1, v2
    "anon": (b"rss", b"anon"),
    "file": (b"cache", b"file"),
    "shmem": (b"shmem", b"shmem"),
    "swap": (b"swap", b""),
    "pgfault": (b"pgfault", b"pgfault"),
    "pgmajfault": (b"pgmajfault", b"pgmajfault"),
    "refault_anon": (b"workingset_refault_anon", b"workingset_refault_anon"),
    "refault_file": (b"workingset_refault_file", b"workingset_refault_file"),
}
_HELD = ("anon", "file", "shmem", "swap", "usage", "zswap")
_COUNTED = ("pgfault", "pgmajfault", "refault_anon", "refault_file")


class _Files:
    """The open files of one group."""

    def __init__(self, host: Host, tree: Tree, path: str) -> None:
        self.v2 = tree.version == "v2"
        folder = f"{tree.top}/{path}".rstrip("/")
        names = {"stat": "memory.stat", "usage": USAGE[tree.version]}
        if self.v2:
            names |= {"swap": "memory.swap.current", "zswap": "memory.zswap.current"}
            names |= {"pressure": "memory.pressure"}
        self.fds: dict[str, int] = {}
        for name, file in names.items():
            try:
                self.fds[name] = os.open(host.path(f"{folder}/{file}"), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                if name in ("stat", "usage"):
                    self.close()
                    raise

    def close(self) -> None:
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()

    def _text(self, name: str) -> bytes:
        return os.pread(self.fds[name], BUFFER, 0) if name in self.fds else b""

    def read(self) -> dict[str, int]:
        """One sample; OSError when the group is gone."""
        words = self._text("stat").split()
        stat = dict(zip(words[::2], words[1::2]))
        if not stat:
            raise OSError("the group's statistics are empty")
        found = {name: int(stat.get(keys[self.v2], b"0")) for name, keys in _STAT.items()}
        for name in ("usage", "swap", "zswap"):
            if name in self.fds:
                found[name] = number(self._text(name).decode("ascii", "replace")) or 0
        found.setdefault("zswap", 0)
        pressure = parse_pressure(self._text("pressure").decode("ascii", "replace"))
        found["psi_some_us"] = pressure.get("some", 0)
        found["psi_full_us"] = pressure.get("full", 0)
        return found


@dataclass
class Cost:
    """What the recording itself took.

    Attributes
    ----------
    wall_s, cpu_s
        Since :meth:`Recorder.run` began. [s]
    max_rss
        Of the process. [bytes]
    sweeps, lines
        Samples taken, lines written.
    kernel_s
        CPU time of kernel threads that worked for it (DAMON's). [s]
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    max_rss: int = 0
    sweeps: int = 0
    lines: int = 0
    kernel_s: float = 0.0


@dataclass
class Recorder:
    """Appends samples of all groups to ``directory/trace.csv``.

    Parameters
    ----------
    directory : Path
    interval_s : float
        Between samples. [s]
    duration_s : float
        Of the recording. [s]
    root : str or Path
        As of :func:`capplan.sources.capture.capture`.
    only : str
        Record this group and those below it only; empty: all.
    watcher : Watcher, optional
        Looks at what is accessed meanwhile (:mod:`capplan.sources.working_set`).
    """

    directory: Path
    interval_s: float = 1.0
    duration_s: float = 3600.0
    root: str | Path = "/"
    only: str = ""
    watcher: Watcher | None = None
    cost: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        self.host = Host(self.root)
        self.tree = find_tree(self.host)
        self.files: dict[str, _Files] = {}
        self.begun = time.monotonic()
        self.stopped = False

    def stop(self) -> None:
        """End at the next sample (a signal's handler calls it)."""
        self.stopped = True

    def start(self) -> None:
        """Write the heads and the first sample, so that there is a trace from now on."""
        self.directory.mkdir(parents=True, exist_ok=True)
        meta = {
            "capplan_record": 1,
            "started": time.time(),
            "interval_s": self.interval_s,
            "duration_s": self.duration_s,
            "cgroup": self.tree.version if self.tree else "",
            "only": self.only,
            "root": str(self.host.root),
        }
        (self.directory / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC
        self.trace = os.open(self.directory / TRACE, flags, 0o644)
        self.processes = os.open(self.directory / PROCESSES, flags, 0o644)
        _write(self.trace, ",".join(COLUMNS) + "\n")
        _write(self.processes, ",".join(PROCESS_COLUMNS) + "\n")
        self.watched = -1
        if self.watcher is not None:
            self.watched = os.open(self.directory / WATCHED, flags, 0o644)
            _write(self.watched, ",".join(WATCHED_COLUMNS) + "\n")
        self.begun = time.monotonic()
        self._rescan()
        self.sweep()
        self._look_at_processes()

    def run(self, progress: Callable[[float], None] | None = None) -> Cost:
        """Sample until the duration is over or :meth:`stop` is called.

        Where a sample costs more than its share of a CPU, the next one comes later.
        """
        cpu = time.process_time()
        try:
            self._run(progress)
        finally:
            if self.watcher is not None:
                self.cost.kernel_s = self.watcher.close()
        self.cost.wall_s = time.monotonic() - self.begun
        self.cost.cpu_s = time.process_time() - cpu
        # getrusage() would count what the caller held before exec
        status = parse_meminfo(Host().read("proc/self/status", 1 << 14))
        self.cost.max_rss = status.get("VmHWM", 0) << 10
        self._close()
        return self.cost

    def _run(self, progress: Callable[[float], None] | None) -> None:
        due = scan_due = time.monotonic()
        share = SHARE if self.watcher is None else SHARE - CPU_SHARE
        processes_due = due + PROCESS_EVERY_S
        end = self.begun + self.duration_s
        while not self.stopped and due < end:
            due = max(due + self.interval_s, time.monotonic())
            if due > end:
                break
            if not self._slept_until(due):
                break
            before = time.process_time()
            if due >= scan_due:
                self._rescan()
                scan_due = due + RESCAN_EVERY_S
            self.sweep()
            spent = time.process_time() - before
            due = max(due, due + spent / share - self.interval_s)
            self._watch()
            if time.monotonic() >= processes_due:
                processes_due = time.monotonic() + self._look_at_processes()
            if progress is not None:
                progress(min((time.monotonic() - self.begun) / self.duration_s, 1.0))

    def _watch(self) -> None:
        """Write what a round of looking at accesses found, if one has ended."""
        if self.watcher is None:
            return
        at = time.monotonic() - self.begun
        lines = [
            f"{at:.3f},{_quoted(look.group)},{look.method},{look.kind},{look.window_s:.3f},"
            f"{look.touched:.0f},{look.watched:.0f},{look.error:.0f}\n"
            for look in self.watcher.poll(self.files)
        ]
        if lines:
            _write(self.watched, "".join(lines))

    def _slept_until(self, due: float) -> bool:
        """Sleep in pieces, for a signal's handler does not wake time.sleep(); False: stopped."""
        while not self.stopped and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
        return not self.stopped

    def _close(self) -> None:
        for files in self.files.values():
            files.close()
        for fd in (self.trace, self.processes, self.watched):
            if fd >= 0:
                os.fsync(fd)
                os.close(fd)

    def _rescan(self) -> None:
        """Open groups that are new; those that are gone were closed when reading failed."""
        if self.tree is None:
            return
        for path in group_paths(self.host, self.tree):
            wanted = not self.only or f"{path}/".startswith(f"{self.only}/")
            if wanted and path not in self.files and len(self.files) < MAX_GROUPS:
                with contextlib.suppress(OSError):
                    self.files[path] = _Files(self.host, self.tree, path)

    def sweep(self) -> None:
        """Take one sample of everything and write it."""
        at = time.monotonic() - self.begun
        samples: dict[str, dict[str, int]] = {}
        for path in list(self.files):
            try:
                samples[path] = self.files[path].read()
            except (OSError, ValueError):
                self.files.pop(path).close()  # it vanished
        lines = [_line(at, path, own) for path, own in _own(samples, self.tree)]
        lines.append(_line(at, NODE, self._node()))
        _write(self.trace, "".join(lines))
        self.cost.sweeps += 1
        self.cost.lines += len(lines)

    def _node(self) -> dict[str, int]:
        """The whole node, from meminfo and vmstat."""
        info = {
            k: v << 10 for k, v in parse_meminfo(self.host.read("proc/meminfo", 1 << 14)).items()
        }
        stat = parse_pairs(self.host.read("proc/vmstat", 1 << 16))
        pressure = parse_pressure(self.host.read("proc/pressure/memory", 1 << 10))
        shmem = info.get("Shmem", 0)
        kernel = sum(info.get(name, 0) for name in ("Slab", "KernelStack", "PageTables", "Percpu"))
        return {
            "anon": info.get("AnonPages", 0),
            "swap": info.get("SwapTotal", 0) - info.get("SwapFree", 0),
            "file": info.get("Cached", 0) + info.get("Buffers", 0) - shmem,
            "shmem": shmem,
            "kernel": kernel,
            "zswap": info.get("Zswap", 0),
            "usage": info.get("MemTotal", 0) - info.get("MemFree", 0),
            "pgfault": stat.get("pgfault", 0),
            "pgmajfault": stat.get("pgmajfault", 0),
            "refault_anon": stat.get("workingset_refault_anon", 0),
            "refault_file": stat.get("workingset_refault_file", 0),
            "psi_some_us": pressure.get("some", 0),
            "psi_full_us": pressure.get("full", 0),
        }

    def _look_at_processes(self) -> float:
        """Write the processes' resident sets; return when to look again [s].

        smaps_rollup walks a process's page tables under its lock: rarely, and the more it
        costs the more rarely.
        """
        before = time.process_time()
        at = time.monotonic() - self.begun
        key = "memory" if self.tree is not None and self.tree.version == "v1" else ""
        for process in self.host.processes():
            group = process.cgroups.get(key, "/").strip("/")
            if self.only and not f"{group}/".startswith(f"{self.only}/"):
                continue
            name = process.name.replace('"', "?").replace(",", "?")
            cells = (
                f"{at:.3f}", process.pid, name, _quoted(group), process.oom_score_adj, process.rss,
                process.anon, process.file, process.shmem, process.swap, process.referenced,
            )  # fmt: skip
            _write(self.processes, ",".join(map(str, cells)) + "\n")
        return max(PROCESS_EVERY_S, (time.process_time() - before) / PROCESS_SHARE)


def _own(
    samples: dict[str, dict[str, int]], tree: Tree | None
) -> Iterator[tuple[str, dict[str, int]]]:
    """Samples without what is charged below: v2's files count it, v1's only in the usage."""
    hierarchical = tree is not None and tree.version == "v2"
    names = (*_HELD, *_COUNTED) if hierarchical else ("usage",)
    below: dict[str, dict[str, int]] = {}
    for path, sample in samples.items():
        parent = path.rpartition("/")[0]
        if parent in samples:
            sums = below.setdefault(parent, dict.fromkeys(names, 0))
            for name in names:
                sums[name] += sample[name]
    for path, sample in samples.items():
        own = dict(sample)
        for name, value in below.get(path, {}).items():
            own[name] = max(own[name] - value, 0)
        own["kernel"] = max(own["usage"] - own["anon"] - own["file"], 0)
        own["file"] = max(own["file"] - own["shmem"], 0)
        own["usage"] = sample["usage"]
        yield path, own


def _line(at: float, group: str, sample: dict[str, int]) -> str:
    values = dict(sample, demand=sample["anon"] + sample["swap"])
    cells = ",".join(str(values.get(name, 0)) for name in COLUMNS[2:])
    return f"{at:.3f},{_quoted(group)},{cells}\n"


def _quoted(text: str) -> str:
    """A CSV cell."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text


def _write(fd: int, text: str) -> None:
    """Append all of a text; one write, so that a kill does not tear it."""
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(fd, data) :]
