"""The phases of a profile become operations of a task.

A :class:`PhaseWriter` walks the phases once, in nominal time (as if nothing were ever late):
it draws sizes and arrivals, keeps each region's extent, and stops at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from capplan.errors import InputError
from capplan.sim.expand_draws import Draws
from capplan.sim.scenario import PAGE_SIZE, Op
from capplan.spec.common import Dist
from capplan.spec.profile import (
    Burst,
    Exit,
    Fork,
    Free,
    Grow,
    Hold,
    Leak,
    PhaseBody,
    Read,
    Repeat,
    Restart,
    Touch,
    Write,
)

NS_PER_S = 1_000_000_000
MAX_OPS = 500_000  # a repeat of milliseconds over a day would fill the memory of the planner


@dataclass
class Extent:
    """A mapping as the phases see it [pages]."""

    mapping: str
    kind: str
    pages: int = 0  # extent at this point of the phases
    initial: int = 0  # extent at the start of the process
    peak: int = 0
    limit: int | None = None  # a shmem object's, a file's

    def grow(self, pages: int) -> None:
        """Move the end, and remember how far it ever was."""
        self.pages = max(self.pages + pages, 0)
        self.peak = max(self.peak, self.pages)


def to_pages(size: float) -> int:
    """Whole pages that hold a demand of ``size`` bytes (memory is touched by the page)."""
    return -(-round(size) // PAGE_SIZE)


def nominal_ns(pages: int, rate: float) -> int:
    """Time that ``pages`` take at ``rate`` [pages/s]; 0 where there is no rate."""
    return round(pages / rate * NS_PER_S) if rate > 0 else 0


def pages_in(rate: float, ns: int) -> int:
    """Whole pages that ``rate`` [pages/s] brings in a time."""
    return int(rate * ns / NS_PER_S)


def write_ops(extent: Extent, pages: int, rate: float, ceiling: int) -> Iterator[Op]:
    """Ops that write ``pages`` to a file or a shmem object.

    A shmem object grows up to its limit. A file that is full is rotated: what was written is
    deleted, and writing begins anew.

    Worked example
    --------------
    A log of 100 pages, 80 of them written, gets 250 more: write 20, free 100, write 100,
    free 100, write 100, free 100, write 30.
    """
    top = ceiling if extent.limit is None else extent.limit
    if extent.kind != "file":
        pages = min(pages, max(top - extent.pages, 0))
    while pages > 0 and top > 0:
        if extent.pages >= top:
            yield Op("free", extent.mapping, extent.pages)
            extent.pages = 0
        part = min(pages, top - extent.pages)
        yield Op("write", extent.mapping, part, rate)
        extent.grow(part)
        pages -= part


def forked(phases: Sequence[PhaseBody]) -> set[str]:
    """Names of the processes that phases fork."""
    found: set[str] = set()
    for phase in phases:
        if isinstance(phase.body, Fork):
            found.add(phase.body.process)
        elif isinstance(phase.body, Repeat):
            found |= forked(phase.body.phases)
    return found


def written_regions(phases: Sequence[PhaseBody]) -> set[str]:
    """Names of the regions that phases write to."""
    found: set[str] = set()
    for phase in phases:
        if isinstance(phase.body, Write):
            found.add(phase.body.region)
        elif isinstance(phase.body, Repeat):
            found |= written_regions(phase.body.phases)
    return found


@dataclass
class PhaseWriter:
    """Writes the ops of one task.

    Parameters
    ----------
    draws
        The process instance's.
    regions
        What phases may name.
    end_ns
        Nominal end of the run, counted from the start of the process. [ns]
    ceiling
        Most pages a region can ever have: RAM and swap. [pages]
    where
        Key path, for errors.
    private
        Regions that end with the process (what a restart gives back).
    again
        The process runs these phases more than once (each time it is forked).
    children
        Names of the processes that each ``fork`` starts.
    """

    draws: Draws
    regions: dict[str, Extent]
    end_ns: int
    ceiling: int
    where: str
    private: frozenset[str] = frozenset()
    children: dict[str, tuple[str, ...]] = field(default_factory=dict)
    again: bool = False
    ops: list[Op] = field(default_factory=list)
    used: list[str] = field(default_factory=list)  # regions the phases name, in order
    t: int = 0
    ended: bool = False
    _ordinals: dict[tuple[str | int, ...], int] = field(default_factory=dict)

    def write(self, phases: Sequence[PhaseBody], *path: str | int) -> None:
        """Append the ops of ``phases``, until they end or the run does."""
        handlers: dict[type, Callable[..., None]] = {
            Grow: self._grow, Hold: self._hold, Read: self._read, Write: self._write,
            Touch: self._touch, Free: self._free, Burst: self._burst, Leak: self._leak,
            Fork: self._fork, Exit: self._exit, Repeat: self._repeat,
        }  # fmt: skip
        for index, phase in enumerate(phases):
            if self.ended or self.t >= self.end_ns:
                return
            body = phase.body
            here = (*path, index, phase.kind)
            if isinstance(body, Restart):
                self._restart(body, phases[:index], here)
            else:
                handlers[type(body)](body, here)

    def _add(self, op: Op, ns: int = 0) -> None:
        if len(self.ops) >= MAX_OPS:
            raise InputError(
                f"{self.where}.phases: more than {MAX_OPS} operations until the run's end; "
                "longer phases, a shorter run, or an access pattern instead of a repeat"
            )
        self.ops.append(op)
        self.t += ns

    def _draw(self, dist: Dist[Any], path: tuple[str | int, ...], what: str) -> float:
        """The next draw at this place of the profile."""
        key = (*path, what)
        ordinal = self._ordinals.get(key, 0)
        self._ordinals[key] = ordinal + 1
        return max(self.draws.sample(dist, "phases", *key, ordinal=ordinal), 0.0)

    def _extent(self, name: str) -> Extent:
        if name not in self.regions:
            raise InputError(f"{self.where}.phases: there is no region '{name}'")
        if name not in self.used:
            self.used.append(name)
        return self.regions[name]

    def _take(self, extent: Extent, pages: int, rate: float) -> None:
        """Grow, as far as there is memory in the world."""
        pages = min(pages, self.ceiling - extent.pages)
        if pages <= 0:
            return
        extent.grow(pages)
        self._add(Op("grow", extent.mapping, pages, rate), nominal_ns(pages, rate))

    def _grow(self, phase: Grow, path: tuple[str | int, ...]) -> None:
        extent = self._extent(phase.region)
        if phase.to is not None:
            pages = to_pages(self._draw(phase.to, path, "to")) - extent.pages
        else:
            assert phase.by is not None
            pages = to_pages(self._draw(phase.by, path, "by"))
        rate = (phase.rate or 0.0) / PAGE_SIZE
        if extent.kind == "file":
            # the first touch of a file's pages reads them; its length stays
            pages = min(pages + (extent.pages if phase.to is not None else 0), extent.pages)
            self._add_read(Op("read", extent.mapping, pages, rate), nominal_ns(pages, rate))
            return
        if phase.over:
            if pages <= 0:  # nothing to grow takes its time all the same
                self._wait(phase.over)
                return
            rate = pages * NS_PER_S / phase.over
        self._take(extent, pages, rate)

    def _hold(self, phase: Hold, path: tuple[str | int, ...]) -> None:
        self._wait(self._time(phase.duration, path))

    def _time(self, dist: Dist[int], path: tuple[str | int, ...], what: str = "for") -> int:
        return round(self._draw(dist, path, what))

    def _wait(self, ns: int) -> None:
        if ns > 0:
            self._add(Op("hold", ns=ns), ns)

    def _read(self, phase: Read, path: tuple[str | int, ...]) -> None:
        extent = self._extent(phase.region)
        pages = extent.pages
        if phase.size is not None:
            pages = min(pages, to_pages(self._draw(phase.size, path, "size")))
        rate = (phase.rate or 0.0) / PAGE_SIZE
        if phase.duration is None:
            self._add_read(Op("read", extent.mapping, pages, rate), nominal_ns(pages, rate))
            return
        ns = self._time(phase.duration, path)
        kind = "read_loop" if phase.pattern == "cyclic" else "read_rand"
        self._add_read(Op(kind, extent.mapping, pages, rate, ns=ns), ns)

    def _add_read(self, op: Op, ns: int) -> None:
        """Read, or let the time pass where the file is still empty."""
        if op.pages > 0:
            self._add(op, ns)
        else:
            self._wait(ns)

    def _write(self, phase: Write, path: tuple[str | int, ...]) -> None:
        extent = self._extent(phase.region)
        rate = (phase.rate or 0.0) / PAGE_SIZE
        if phase.size is not None:
            pages = to_pages(self._draw(phase.size, path, "size"))
        else:
            assert phase.duration is not None
            pages = pages_in(rate, self._time(phase.duration, path))
        for op in write_ops(extent, pages, rate, self.ceiling):
            self._add(op, nominal_ns(op.pages, rate) if op.op == "write" else 0)

    def _touch(self, phase: Touch, path: tuple[str | int, ...]) -> None:
        extent = self._extent(phase.region)
        ns = self._time(phase.duration, path)
        rate = phase.rate / PAGE_SIZE
        self._add(Op("touch", extent.mapping, rate=rate, ns=ns, pattern=phase.pattern), ns)

    def _free(self, phase: Free, path: tuple[str | int, ...]) -> None:
        extent = self._extent(phase.region)
        pages = max(extent.pages, self.ceiling if self.again else 0)  # also of the last time
        if phase.to is not None:
            pages = extent.pages - to_pages(self._draw(phase.to, path, "to"))
        elif phase.by is not None:
            pages = min(extent.pages, to_pages(self._draw(phase.by, path, "by")))
        self._give(extent, pages)

    def _give(self, extent: Extent, pages: int) -> None:
        if pages > 0:
            extent.grow(-pages)
            self._add(Op("free", extent.mapping, pages))

    def _burst(self, phase: Burst, path: tuple[str | int, ...]) -> None:
        """Arrivals at the sum of the gaps; one that comes during another waits for its end."""
        extent = self._extent(phase.region)
        begin = self.t
        end = self.end_ns if phase.during is None else min(begin + phase.during, self.end_ns)
        rate = (phase.rate or 0.0) / PAGE_SIZE
        arrival = begin
        count = 0
        while phase.times is None or count < phase.times:
            gap = self._time(phase.every, path, "every")
            arrival += gap
            if max(arrival, self.t) >= end:
                break
            self._wait(arrival - self.t)
            before, started = extent.pages, self.t
            self._take(extent, to_pages(self._draw(phase.by, path, "by")), rate)
            self._wait(self._time(phase.duration, path))
            self._give(extent, extent.pages - before)
            if gap == 0 and self.t == started:
                raise self._endless("burst")
            count += 1
        if phase.during is not None or phase.times is None:
            self._wait(end - self.t)

    def _leak(self, phase: Leak, path: tuple[str | int, ...]) -> None:
        extent = self._extent(phase.region)
        rate = self._draw(phase.rate, path, "rate") / PAGE_SIZE
        left = self.end_ns - self.t
        if phase.during is not None:
            left = min(left, phase.during)
        pages = pages_in(rate, left) + (phase.during is None)
        if phase.to is not None:
            pages = min(pages, to_pages(phase.to) - extent.pages)
        if rate > 0:
            self._take(extent, pages, rate)
        if rate <= 0 and phase.during is not None:
            self._wait(phase.during)

    def _fork(self, phase: Fork, path: tuple[str | int, ...]) -> None:
        for name in self.children[phase.process]:
            self._add(Op("fork", proc=name))

    def _exit(self, phase: Exit, path: tuple[str | int, ...]) -> None:
        self._add(Op("exit", code=phase.code))
        self.ended = True

    def _restart(
        self, phase: Restart, before: Sequence[PhaseBody], path: tuple[str | int, ...]
    ) -> None:
        """All memory back, the pause, the first extents again, and the phases from the top.

        Written out here because the engine's own restart is for ends that nobody planned.
        """
        own = [e for name, e in self.regions.items() if name in self.private and e.kind != "file"]
        while self.t < self.end_ns and not self.ended:
            began = self.t
            for extent in own:
                self._give(extent, extent.pages)
            self._wait(self._time(phase.after, path, "after"))
            for extent in own:
                self._take(extent, extent.initial - extent.pages, 0.0)
            self.write(before, *path[:-2])
            if self.t == began:
                raise self._endless("restart")
        self.ended = True

    def _repeat(self, phase: Repeat, path: tuple[str | int, ...]) -> None:
        count = 0
        while self.t < self.end_ns and not self.ended:
            if phase.times is not None and count >= phase.times:
                return
            began = self.t
            self.write(phase.phases, *path)
            if phase.times is None and self.t == began:
                raise self._endless("repeat")
            count += 1

    def _endless(self, kind: str) -> InputError:
        return InputError(
            f"{self.where}.phases: a {kind} without end takes no time; "
            "a hold, a rate or a number of times"
        )
