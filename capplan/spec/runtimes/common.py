"""What the runtimes' modules take and give."""

from __future__ import annotations

from dataclasses import dataclass, field

from capplan.spec.common import Dist
from capplan.spec.profile import Access, PhaseBody, Region
from capplan.spec.runtime import Live
from capplan.units import Size, format_bytes

__all__ = ["Expansion", "Facts", "busy", "region", "rounded_up", "scans"]

NS_PER_S = 1_000_000_000
# A collector that marks more often than this is written as one steady access at its mean rate
OFTEN_NS = 10 * NS_PER_S
STEADY_NS = 3600 * NS_PER_S


@dataclass(frozen=True)
class Facts:
    """What a program can see of the machine it runs on.

    Attributes
    ----------
    memory : int
        MemTotal, roughly. [bytes]
    limit : int or None
        The lowest hard limit of its group and those above. [bytes]
    high : int or None
        memory.high (v1: soft_limit_in_bytes) of its own group. [bytes]
    cpus : int
        CPUs it may run on.
    version : str
        v1 or v2.
    """

    memory: int
    limit: int | None
    high: int | None
    cpus: int
    version: str

    @property
    def physical(self) -> int:
        """What a program that looks at its cgroup takes for the machine's memory."""
        return self.memory if self.limit is None else min(self.memory, self.limit)

    @property
    def called(self) -> str:
        """Where ``physical`` comes from."""
        inside = self.limit is not None and self.limit < self.memory
        return "the limit" if inside else "the node's memory"


@dataclass
class Expansion:
    """What a runtime becomes.

    Attributes
    ----------
    regions, phases, threads
        Of the process.
    most : int
        All it may ever hold by its settings. [bytes]
    parts : list of str
        What ``most`` is made of, to be printed.
    notes : list of str
        The arithmetic.
    warnings : list of (message, expected)
    """

    regions: dict[str, Region] = field(default_factory=dict)
    phases: list[PhaseBody] = field(default_factory=list)
    threads: int = 1
    most: int = 0
    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def add(
        self, name: str, size: int, access: Access | None = None, most: int | None = None
    ) -> None:
        """Add a region of a size, and what it may grow to."""
        top = size if most is None else most
        if size > 0:
            self.regions[name] = region(size, access)
        if top > 0:
            self.most += top
            self.parts.append(f"{name} {format_bytes(top)}")

    def note_access(self, live: Live) -> None:
        """Say what was assumed of accesses and of the collector's speed."""
        if live.access_rate is None:
            self.notes.append("its live data are accessed as fast as it allocates (assumed)")
        if "scan_rate" not in live.model_fields_set:
            self.notes.append(f"one CPU marks {format_bytes(int(live.scan_rate))}/s (assumed)")


def region(
    size: int, access: Access | None = None, *, growth: float = 0.0, limit: int | None = None
) -> Region:
    """An anonymous region that is in place from the start."""
    return Region.model_validate(
        {"size": Size(size), "access": access or Access(), "growth": _per_second(growth),
         "limit": None if limit is None else Size(limit)}
    )  # fmt: skip


def busy(rate: float, pattern: str = "zipf") -> Access:
    """Accesses at a rate; none where it is 0."""
    if rate <= 0:
        return Access()
    return Access.model_validate({"pattern": pattern, "rate": _per_second(rate)})


def rounded_up(size: float, step: int) -> int:
    """The next multiple of a step."""
    return -(-int(size) // step) * step


def scans(name: str, size: int, every: Dist[int], rate: float) -> list[PhaseBody]:
    """The collector's passes over a region, one ``every`` so often [ns].

    Each pass accesses all of it, in order, at ``rate`` [bytes/s]. Where passes come more often
    than every ten seconds they are one access without end that is as fast on average: every page
    is met once in ``every`` all the same.

    Worked example
    --------------
    400 MiB each 60 s at 1 GiB/s: hold 59.6 s, touch for 0.39 s. Each 2 s: touch at 200 MiB/s.
    """
    took = round(size / rate * NS_PER_S)
    if every.middle <= max(OFTEN_NS, took):
        rate = size * NS_PER_S / max(every.middle, took, 1)
        body = [_touch(name, rate, STEADY_NS)]
    elif every.constant is None:
        body = [{"hold": {"for": every}}, _touch(name, rate, took)]
    else:
        body = [{"hold": f"{every.constant - took}ns"}, _touch(name, rate, took)]
    return [PhaseBody.model_validate({"repeat": {"phases": tuple(body)}})]


def _touch(name: str, rate: float, ns: int) -> dict[str, object]:
    return {"touch": {"region": name, "rate": _per_second(rate), "for": f"{ns}ns"}}


def _per_second(rate: float) -> str:
    """A rate as a file has it."""
    return f"{rate!r}/s"
