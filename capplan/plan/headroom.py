"""How much more a node carries: replicas, lower limits, memory, time for a leak.

Each question is one knob of the node file, turned until the risk of a kill, a pause or an eviction
leaves the bar (:mod:`capplan.plan.search`). One knob is turned at a time; the others stay as they
are written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from capplan.plan.intervals import CONFIDENCE, percent
from capplan.plan.reach_phases import unreached
from capplan.plan.rows import MakeVariant, Rows
from capplan.plan.search import Found, runs_needed, search
from capplan.units import MIB, format_bytes, format_duration, format_k8s

if TYPE_CHECKING:
    from capplan.plan.executor import Pool
    from capplan.plan.store import Store
    from capplan.spec import NodeSpec
    from capplan.spec.profile import PhaseBody, Profile

__all__ = ["KINDS", "Headroom", "Knob", "Room", "headroom", "knobs"]

KINDS = ("replicas", "limit", "memory", "leak")
LIMITS = ("memory.max", "memory.limit_in_bytes")
MOST_REPLICAS = 256
MEMORY = "node.system.daemons.memory"
DURATION = "run.duration"
LONGEST = 10  # times the run's duration that a leak is followed


@dataclass(frozen=True)
class Knob:
    """Something that can be asked more of the node.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    container : str
        Whose; "" is the node.
    key : str
        The setting that is turned.
    highest : int
        Level that the search does not go beyond.
    value : callable
        The setting's value at a level.
    """

    kind: str
    container: str
    key: str
    highest: int
    value: Callable[[int], str]


@dataclass(frozen=True)
class Room:
    """What the search found for a knob.

    Attributes
    ----------
    present, value : str
        The setting as it is written, and the furthest that is borne (None: not even the present).
    statement : str
        In a sentence.
    """

    kind: str
    container: str
    key: str
    present: str
    value: str | None
    found: Found
    statement: str


@dataclass(frozen=True)
class Headroom:
    """How much more a node carries at a bar of risk."""

    fits: bool
    verdict: str
    name: str
    max_risk: float
    confidence: float
    replicates: int
    runs: int
    rooms: tuple[Room, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, verdict first."""
        return asdict(self)


# --- the knobs -----------------------------------------------------------------------------


def knobs(
    spec: NodeSpec, kinds: Sequence[str] = KINDS, containers: Sequence[str] = ()
) -> Iterator[Knob]:
    """The knobs of a node: its own, then each container's.

    Parameters
    ----------
    spec : NodeSpec
    kinds : sequence of str
        Which of :data:`KINDS`.
    containers : sequence of str
        Whose; empty: all.
    """
    if "memory" in kinds and not containers:
        yield _memory(spec)
    if "leak" in kinds and not containers and any(map(_leaks, spec.profiles.values())):
        yield _leak(spec)
    for name in containers or spec.containers:
        container = spec.containers[name]
        if "replicas" in kinds:
            key, now = f"containers.{name}.replicas", container.replicas
            yield Knob("replicas", name, key, MOST_REPLICAS, functools.partial(_more, now))
        limit = next((key for key in LIMITS if _bytes(container.written().get(key))), None)
        if "limit" in kinds and limit is not None:
            yield _limit(name, limit, _bytes(container.written()[limit]))


def _more(now: int, level: int) -> str:
    return str(now + level)


def _bytes(value: int | bool | None) -> int:
    """A limit's size; 0 for none, or max."""
    return 0 if value is None or value < 0 or value >= 1 << 60 else int(value)


def _limit(name: str, key: str, size: int) -> Knob:
    """A limit in steps of 1 % (at least 1 MiB), downwards."""
    step = max(size // 100, MIB) // MIB * MIB
    most = max((size - 1) // step, 0)
    return Knob(
        "limit", name, f"containers.{name}.{key}", most, lambda n: format_k8s(size - n * step)
    )


def _memory(spec: NodeSpec) -> Knob:
    """Anonymous memory of daemons that nobody kills, in steps of 1 % of RAM (at least 1 MiB)."""
    total = spec.node.memory or sum(zone.managed for zone in spec.node.zones or ()) * 4096
    step = max(total // 100, MIB) // MIB * MIB
    now = int(spec.node.system.daemons.memory)
    return Knob("memory", "", MEMORY, 99, lambda n: format_k8s(now + n * step))


def _leak(spec: NodeSpec) -> Knob:
    """The run's length, in steps of a tenth."""
    base = spec.run.duration
    return Knob("leak", "", DURATION, 10 * (LONGEST - 1), lambda n: f"{base + base * n // 10}ns")


def _leaks(profile: Profile) -> bool:
    """Whether anything in a profile grows for ever."""
    return any(
        any(region.growth for region in process.regions.values())
        or any(phase.leak is not None for phase in _flat(process.phases))
        for process in profile.processes.values()
    )


def _flat(phases: Iterable[PhaseBody]) -> Iterator[PhaseBody]:
    """Phases with those that are repeated in them."""
    for phase in phases:
        yield phase
        if phase.repeat is not None:
            yield from _flat(phase.repeat.phases)


# --- the search ----------------------------------------------------------------------------


def headroom(
    make: MakeVariant,
    store: Store,
    *,
    seed: int,
    max_risk: float,
    replicates: int | None = None,
    kinds: Sequence[str] = KINDS,
    containers: Sequence[str] = (),
    pool: Pool | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Headroom:
    """Turn each knob until the risk leaves the bar.

    Parameters
    ----------
    make : callable
        The variant of settings; one that cannot be run has its error.
    store : Store
        Keeps finished runs.
    max_risk : float
        Bar of the risk that anything is killed, paused or evicted in a run.
    replicates : int, optional
        Runs per level at most; None: as many as show the bar with 95 % confidence.
    kinds, containers
        As in :func:`knobs`.
    progress : callable, optional
        Called with the knob's key and the number of runs so far.
    """
    base = make({})
    assert base.spec is not None
    count = replicates or runs_needed(max_risk, CONFIDENCE)
    rows = Rows(make, store, seed, pool, progress)
    rooms = [
        _room(knob, rows, base.spec, range(1, count + 1), max_risk)
        for knob in knobs(base.spec, kinds, containers)
    ]
    fits = all(room.value is not None for room in rooms)
    return Headroom(
        fits=fits,
        verdict=_verdict(fits, rooms, base.spec, max_risk),
        name=base.spec.name,
        max_risk=max_risk,
        confidence=CONFIDENCE,
        replicates=count,
        runs=rows.done,
        rooms=tuple(rooms),
        notes=(*_notes(rooms, count, max_risk), *unreached(base.spec)),
    )


def _room(
    knob: Knob, rows: Rows, spec: NodeSpec, replicates: Sequence[int], max_risk: float
) -> Room:
    rows.doing = knob.key
    found = search(
        lambda level, some: rows.wells({knob.key: knob.value(level)} if level else {}, some),
        replicates,
        knob.highest,
        max_risk,
        CONFIDENCE,
    )
    present = knob.value(0)
    value = None if found.level is None else knob.value(found.level)
    return Room(
        kind=knob.kind,
        container=knob.container,
        key=knob.key,
        present=present,
        value=value,
        found=found,
        statement=_statement(knob, found, spec),
    )


# --- in words ------------------------------------------------------------------------------


def _statement(knob: Knob, found: Found, spec: NodeSpec) -> str:
    who = knob.container or "the node"
    if found.level is None:
        return f"{who} does not fit as it is: {found.failures} runs fail"
    more = " or more" if found.limited else ""
    if knob.kind == "replicas":
        now = spec.containers[knob.container].replicas
        return f"{who} has {now}, {found.level}{more} more fit"
    if knob.kind == "limit":
        return f"{who}'s limit can come down from {knob.value(0)} to {knob.value(found.level)}"
    if knob.kind == "memory":
        total = spec.node.memory or sum(zone.managed for zone in spec.node.zones or ()) * 4096
        size = found.level * (max(total // 100, MIB) // MIB * MIB)
        return f"the node carries {format_bytes(size)}{more} more anonymous memory"
    longest = int(knob.value(found.level).removesuffix("ns"))
    return f"the leaks may run for {format_duration(longest)}{more}"


def _verdict(fits: bool, rooms: Sequence[Room], spec: NodeSpec, max_risk: float) -> str:
    bar = f"a risk of {percent(max_risk)} % within {format_duration(spec.run.duration)}"
    if not fits:
        return f"No headroom: as it is written the node does not stay within {bar}."
    most = [room for room in rooms if room.found.level]
    if not most:
        return f"No headroom: the node stays within {bar}, and bears nothing more."
    order = {kind: n for n, kind in enumerate(("memory", "replicas", "limit", "leak"))}
    told = sorted(most, key=lambda room: order[room.kind])[:2]
    return f"Within {bar}: {'; '.join(room.statement for room in told)}."


def _notes(rooms: Sequence[Room], count: int, max_risk: float) -> Iterator[str]:
    needed = runs_needed(max_risk, CONFIDENCE)
    if count < needed:
        sure = max((room.found.confidence for room in rooms), default=0.0)
        yield (
            f"{count} runs a level show a risk of at most {percent(max_risk)} % with "
            f"{100 * sure:.0f} % confidence only; {needed} would with 95 %"
        )
    for room in rooms:
        found = room.found
        if found.violations:
            yield (
                f"{room.key}: {found.violations} of {found.checked} runs that went well at "
                f"{room.value} failed at a lower level: more is not always worse here"
            )
