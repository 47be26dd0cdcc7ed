"""DAMON, the kernel's data access monitor, through its sysfs interface (mm/damon/)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from capplan.sources.procfs import Host, number, parse_meminfo
from capplan.sources.working_set import WINDOWS_S, Look, Pace

__all__ = ["Damon"]

ADMIN = "sys/kernel/mm/damon/admin/kdamonds"
FOREVER_US = 3_600_000_000
MOST = (1 << 32) - 1
MAX_TARGETS = 32
LEAST_RSS = 1 << 20
MARK = "schemes/0/access_pattern/age/max"


class Damon:
    """DAMON over the mapped memory of each group's largest processes (Linux 6.7 and later).

    One kdamond with a target for each process and a region of its address space for each page to
    be sampled. After one sampling interval, the window, a scheme of action ``stat`` for each
    target has counted the regions whose page was accessed. Regions are neither merged nor split
    meanwhile (the aggregation interval is an hour), so that each stands for its size, and their
    sum is an unbiased estimate of what was touched.

    DAMON's interface is one for the whole machine: it is taken only where nobody has a kdamond,
    ours is marked by an age that nothing has, and only a marked one is removed: at the end, or by
    a child that waits for it when the recorder is killed.

    Kernel
    ------
    mm/damon/vaddr.c, core.c (kdamond_fn(), damos_apply_scheme()), sysfs.c.
    """

    method = "damon"

    def __init__(self, host: Host, top: str) -> None:
        self.host, self.top = host, top
        self.mark = str((0x43 << 24) + os.getpid())
        self.pace = Pace(size=512, least=96, most=4096)
        self.kernel_s = 0.0
        self.context = "0/contexts/0"
        self.schemes = 0
        self.round: _Round | None = None
        if self._read("nr_kdamonds") != "0":
            raise OSError("somebody has a kdamond")
        self._write("nr_kdamonds", 1)
        try:
            self._prepare()
            self.guard = self._guard()
        except OSError:
            self._remove(anyway=True)
            raise

    @staticmethod
    def missing(host: Host) -> str:
        """Why it cannot be had; empty: it can."""
        if not host.exists(ADMIN):
            return "no /sys/kernel/mm/damon/admin: a kernel without CONFIG_DAMON_SYSFS"
        count = host.read(f"{ADMIN}/nr_kdamonds", 32).strip()
        if not count or not os.access(host.path(f"{ADMIN}/nr_kdamonds"), os.W_OK):
            return "/sys/kernel/mm/damon/admin: root only"
        return "" if count == "0" else f"DAMON is in use ({count} kdamonds), and left alone"

    def _guard(self) -> tuple[int, int]:
        """A child that waits until this process has gone, however it went, and cleans up then.

        Its number, and the pipe that only this process holds open.
        """
        waits, held = os.pipe()
        pid = os.fork()
        if pid:
            os.close(waits)
            return pid, held
        try:
            os.setsid()  # a Ctrl-C is for the recorder, and so is a service manager's SIGTERM
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(signum, signal.SIG_IGN)
            for fd in (0, 1, 2, held):  # whoever reads what the recorder says must not wait
                with contextlib.suppress(OSError):
                    os.close(fd)
            os.read(waits, 1)
            self._remove()
        finally:
            os._exit(0)

    def _read(self, name: str) -> str:
        return self.host.read(f"{ADMIN}/{name}", 64).strip()

    def _write(self, name: str, value: object) -> None:
        fd = os.open(self.host.path(f"{ADMIN}/{name}"), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)

    def _prepare(self) -> None:
        """What stays the same in all rounds."""
        self._write("0/contexts/nr_contexts", 1)
        self._write(f"{self.context}/operations", "vaddr")
        intervals = f"{self.context}/monitoring_attrs/intervals"
        self._write(f"{intervals}/aggr_us", FOREVER_US)
        self._write(f"{intervals}/update_us", FOREVER_US)
        self._targets(1)

    def _targets(self, count: int) -> None:
        """As many targets, each with a scheme that counts what was accessed in it."""
        if count == self.schemes:
            return
        self._write(f"{self.context}/targets/nr_targets", count)
        self._write(f"{self.context}/schemes/nr_schemes", count)
        for i in range(count):
            scheme = f"{self.context}/schemes/{i}"
            self._write(f"{scheme}/action", "stat")
            for name, least, most in (
                ("sz", 0, (1 << 64) - 1), ("nr_accesses", 1, MOST), ("age", 0, self.mark),
            ):  # fmt: skip
                self._write(f"{scheme}/access_pattern/{name}/max", most)
                self._write(f"{scheme}/access_pattern/{name}/min", least)
            self._write(f"{scheme}/filters/nr_filters", 1)
            self._write(f"{scheme}/filters/0/type", "target")
            self._write(f"{scheme}/filters/0/damon_target_idx", i)
            self._write(f"{scheme}/filters/0/matching", "N")  # others are filtered out
        self.schemes = count

    def poll(self, groups: Iterable[str]) -> list[Look]:
        now, cpu = time.monotonic(), time.process_time()
        if self.round is None:
            if now >= self.pace.rest_until:
                self._begin(groups, cpu)
            return []
        if self.round.thread.is_alive():
            return []
        done, self.round = self.round, None
        found = list(self._found(done)) if done.in_time() else []
        took = self._kernel_s(done.kdamond)
        self.kernel_s += took
        self._command("off")
        self.pace.took(done.cpu_s + time.process_time() - cpu + took, done.begun)
        return found

    def _begin(self, groups: Iterable[str], cpu: float) -> None:
        targets = _largest(self.host, self.top, groups)
        if not targets:
            self.pace.rest_until = time.monotonic() + WINDOWS_S[-1]
            return
        window_s = self.pace.window_s()
        try:
            self._targets(len(targets))
            for i, target in enumerate(targets):
                self._write(f"{self.context}/targets/{i}/pid_target", target.pid)
                self._write(f"{self.context}/schemes/{i}/apply_interval_us", round(window_s * 1e6))
            regions = max(self.pace.size // len(targets), 3)
            attrs = f"{self.context}/monitoring_attrs"
            self._write(f"{attrs}/nr_regions/max", 16 * regions * len(targets))
            self._write(f"{attrs}/nr_regions/min", regions)
            self._write(f"{attrs}/intervals/sample_us", round(window_s * 1e6))
            self._write("0/state", "on")
        except OSError:  # a process went; another try after a while
            self.pace.rest_until = time.monotonic() + WINDOWS_S[0]
            return
        self.round = _Round(self, window_s, targets, self._read("0/pid"))
        self.round.cpu_s = time.process_time() - cpu
        self.round.thread.start()

    def _found(self, done: _Round) -> Iterator[Look]:
        """The schemes' counts, added up by group."""
        sums: dict[str, list[float]] = {}
        for i, target in enumerate(done.targets):
            stats = f"{self.context}/schemes/{i}/stats"
            hits, size = (
                number(self._read(f"{stats}/nr_tried")),
                number(self._read(f"{stats}/sz_tried")),
            )
            if hits is None or size is None:
                continue
            found = sums.setdefault(target.group, [0.0] * 3)
            # hits are at most as spread as a Poisson count; none: less than one region
            region = (
                size / hits if hits else target.mapped / max(self.pace.size / len(done.targets), 3)
            )
            for k, value in enumerate((size, target.rss, region * region * max(hits, 1))):
                found[k] += value
        for group, (touched, watched, squares) in sums.items():
            yield Look(
                group, self.method, "mapped", done.window_s, min(touched, watched), watched,
                squares**0.5,
            )  # fmt: skip

    def _kernel_s(self, pid: str) -> float:
        """CPU time of a kernel thread: schedstat's first figure. [s]"""
        text = Host(self.host.root).read(f"proc/{pid}/schedstat", 64).split()
        return (number(text[0]) or 0) / 1e9 if text else 0.0

    def _command(self, text: str) -> None:
        """Write a command; the kernel says EBUSY while it is about another one."""
        for _ in range(20):
            try:
                self._write("0/state", text)
                return
            except OSError:
                if self._read("0/state") == text:
                    return
                time.sleep(0.05)

    def _remove(self, *, anyway: bool = False) -> None:
        if not anyway and self._read(f"{self.context}/{MARK}") != self.mark:
            return
        self._command("off")
        for _ in range(20):
            with contextlib.suppress(OSError):
                self._write("nr_kdamonds", 0)
                return
            time.sleep(0.05)

    def close(self) -> float:
        if self.round is not None:
            self.kernel_s += self._kernel_s(self.round.kdamond)
        self._remove()
        if self.round is not None:
            self.round.thread.join(timeout=2.0)
        pid, pipe = self.guard
        os.close(pipe)
        os.waitpid(pid, 0)
        return self.kernel_s


@dataclass(frozen=True)
class _Target:
    """A process that is watched. [bytes]"""

    pid: int
    group: str
    rss: int
    mapped: int


class _Round:
    """A round of DAMON's, and the thread that waits for the kernel's counts."""

    def __init__(self, damon: Damon, window_s: float, targets: list[_Target], kdamond: str) -> None:
        self.damon, self.window_s, self.targets, self.kdamond = damon, window_s, targets, kdamond
        self.begun = self.ended = time.monotonic()
        self.cpu_s = 0.0
        self.thread = threading.Thread(target=self._wait, daemon=True)

    def _wait(self) -> None:
        """Ask in the middle of the window: it is answered when the window has ended."""
        time.sleep(self.window_s / 2)
        with contextlib.suppress(OSError):
            self.damon._write("0/state", "update_schemes_stats")
            self.ended = time.monotonic()

    def in_time(self) -> bool:
        """Whether the counts are those of the first window, and of no later one."""
        return self.begun < self.ended < self.begun + 2 * self.window_s


def _largest(host: Host, top: str, groups: Iterable[str]) -> list[_Target]:
    """The largest processes of the groups that are recorded."""
    found = []
    for group in groups:
        for line in host.read(f"{top}/{group}/cgroup.procs", 1 << 16).split():
            pid = number(line)
            status = parse_meminfo(host.read(f"proc/{pid}/status", 1 << 14)) if pid else {}
            rss, mapped = status.get("VmRSS", 0) << 10, status.get("VmSize", 0) << 10
            if pid and rss >= LEAST_RSS:
                found.append(_Target(pid, group, rss, mapped))
    return sorted(found, key=lambda target: -target.rss)[:MAX_TARGETS]
