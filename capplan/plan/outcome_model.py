"""The shapes of an outcome: plain frozen records that go to JSON and come back.

Sizes are bytes, times are seconds of run time, shares are fractions of one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, Protocol, Union, get_args, get_origin, get_type_hints

from capplan.validate.fidelity import Fidelity

DEFAULT_THROTTLE_SHARE = 0.01  # the gate's default: 1 % of a process's time


class GateLike(Protocol):
    """What :func:`capplan.plan.outcome.analyse` reads of a gate."""

    @property
    def max_throttle_share(self) -> float | None:
        """Largest share of a process's life asleep in a throttle; None: the default."""


@dataclass(frozen=True)
class Span:
    """From ``begin`` to ``end`` [s]; ``end`` is None when it lasts to the end of the run."""

    begin: float
    end: float | None


@dataclass(frozen=True)
class Sign:
    """A sign that was there before an incident, ``lead_s`` ahead of it."""

    name: str
    t: float
    lead_s: float
    text: str


@dataclass(frozen=True)
class Candidate:
    """A process as the OOM killer weighs it; ``points`` in pages, the kernel's badness."""

    process: str
    points: int
    oom_score_adj: int
    rss_bytes: int
    swap_bytes: int
    pgtables_bytes: int
    source: str = ""  # "kernel" (of the event itself) or "series" (recomputed at the last sample)


@dataclass(frozen=True)
class Ranking:
    """How a killer in user space ranked its candidates, as a table of texts."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Incident:
    """One thing that went wrong, with its cause as a chain and the signs before it."""

    number: int
    kind: str  # oom_kill, paused, throttled, evicted, unfinished, swap_full, panic, ...
    t: float
    end: float | None
    name: str  # the process (or cgroup)
    container: str
    cgroup: str
    title: str
    chain: tuple[str, ...]
    signs: tuple[Sign, ...] = ()
    victim: Candidate | None = None
    runners_up: tuple[Candidate, ...] = ()
    count: int = 1  # how many alike were folded into this one
    breaks: bool = True  # whether it stands against the verdict "fits"
    ranking: Ranking | None = None  # of an agent in user space


@dataclass(frozen=True)
class ContainerOutcome:
    """What became of one container."""

    name: str
    cgroup: str
    processes: int
    peak_bytes: int | None
    peak_t: float | None
    peak_cache_bytes: int  # page cache in the peak: reclaim can take it
    limit_bytes: int | None  # None: no limit on the way to the root
    limit_key: str  # memory.max or memory.limit_in_bytes
    limit_cgroup: str  # the group that holds the nearest limit
    headroom_bytes: int | None  # least room under the limit, page cache counted as room
    headroom_share: float | None  # of the limit
    late_s: float
    late_max_s: float
    throttle_s: float
    throttle_share: float
    pause_s: float
    stall_s: float
    stall_share: float
    majfaults: int
    restarts: int
    throttled: tuple[Span, ...] = ()
    paused: tuple[Span, ...] = ()
    killed: tuple[float, ...] = ()  # by the kernel's OOM killer
    evicted: tuple[float, ...] = ()  # by an agent: kubelet, systemd-oomd, earlyoom
    unfinished: tuple[str, ...] = ()  # a sentence each

    @property
    def troubled(self) -> bool:
        """Whether anything that stands against "fits" befell it, throttling aside."""
        return bool(self.killed or self.paused or self.evicted or self.unfinished)


@dataclass(frozen=True)
class ZoneOutcome:
    """A zone's lowest free memory against its marks."""

    name: str
    managed_bytes: int
    lowest_free_bytes: int | None
    lowest_t: float | None
    min_bytes: int
    low_bytes: int
    high_bytes: int
    where: str  # in words: "below min", "between low and high", ...


@dataclass(frozen=True)
class NodeOutcome:
    """What became of the node."""

    memory_bytes: int
    zones: tuple[ZoneOutcome, ...]
    lowest_available_bytes: int | None
    lowest_available_t: float | None
    kswapd_wakes: int
    kswapd_awake_s: float
    kswapd_scanned_bytes: int
    kswapd_reclaimed_bytes: int
    direct_stalls: int
    direct_scanned_bytes: int
    direct_reclaimed_bytes: int
    refault_bytes: int
    swap_total_bytes: int
    swap_peak_bytes: int
    swap_in_bytes: int
    swap_out_bytes: int
    zswap_peak_bytes: int  # pool, in memory
    zswapped_peak_bytes: int  # what the pool holds, uncompressed
    zswap_full: int
    zram_peak_bytes: int  # of all zram devices, in memory
    psi_some_share: float
    psi_full_share: float
    psi_some_peak: float  # highest avg10-like share
    psi_some_peak_t: float | None
    majfaults: int
    compact_stalls: int
    least_huge_blocks: dict[str, int] = field(default_factory=dict)  # zone -> free 2 MiB blocks
    order_available: tuple[float, ...] = ()  # by order: share of samples at which one could be had
    order9_unusable: float | None = None  # most of the free memory that huge pages could not use


@dataclass(frozen=True)
class Outcome:
    """What a run shows: the verdict first, then the evidence."""

    fits: bool
    verdict: str
    name: str
    duration_s: float
    throttle_share: float  # of the process that was throttled most
    max_throttle_share: float  # the gate's
    containers: tuple[ContainerOutcome, ...]
    node: NodeOutcome
    incidents: tuple[Incident, ...]
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    first_killer: str = ""  # with agents: kernel's OOM killer, kubelet, systemd-oomd, earlyoom
    stock_verdict: str = ""  # v1, oom_kill_disable assumed: what a stock kernel (0) would do
    fidelity: tuple[Fidelity, ...] = ()  # of the mechanisms that decided, against real kernels

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings, in field order (verdict first)."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        """The inverse of :meth:`to_dict`; unknown keys are ignored (newer minor formats)."""
        made: Outcome = build(cls, data)
        return made


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _meant(kinds: list[Any], value: Any) -> Any:
    """Of several dataclasses the one that has all of the value's keys; else the first."""
    for kind in kinds if isinstance(value, dict) else ():
        if set(value) <= set(getattr(kind, "__dataclass_fields__", ())):
            return kind
    return kinds[0]


def build(kind: Any, value: Any) -> Any:
    """``value`` (of JSON) as ``kind``: a dataclass, a tuple of them, an optional, or as is."""
    origin, args = get_origin(kind), get_args(kind)
    if value is None:
        return None
    if origin in (Union, UnionType):
        return build(_meant([a for a in args if a is not type(None)], value), value)
    if origin is tuple:
        return tuple(build(args[0], item) for item in value)
    if hasattr(kind, "__dataclass_fields__"):
        hints = get_type_hints(kind)
        return kind(**{k: build(hints[k], v) for k, v in value.items() if k in hints})
    if kind is float and isinstance(value, int):
        return float(value)
    return value
