"""The shapes of a recommendation: plain frozen records that go to JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capplan.plan.intervals import Proportion

__all__ = ["Advice", "Recommendation", "Reserved", "Rival"]


@dataclass(frozen=True)
class Advice:
    """What to write for one container.

    Attributes
    ----------
    container, replicas : str, int
    limit_key : str
        ``memory.max``, or ``memory.limit_in_bytes`` under v1.
    present_limit : int, optional
        As it is written; None: none. [bytes]
    limit : int
        The least that stays within the bar. [bytes]
    high : int, optional
        memory.high: below it the container would be throttled; None under v1. [bytes]
    request : int
        What it uses in half of the runs at its peak. [bytes]
    peak : int
        Largest usage in 95 % of the runs, unlimited. [bytes]
    confidence : float
        That the risk at ``limit`` is within the bar.
    reason : str
        What the choice costs and buys.
    """

    container: str
    replicas: int
    limit_key: str
    present_limit: int | None
    limit: int
    high: int | None
    request: int
    peak: int
    confidence: float
    reason: str


@dataclass(frozen=True)
class Reserved:
    """Memory that pods cannot have [bytes]."""

    kernel: int
    daemons: int
    high_mark: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.kernel + self.daemons + self.high_mark


@dataclass(frozen=True)
class Rival:
    """What a recommender that knows only percentiles would have said, and how that does.

    Attributes
    ----------
    name : str
        The rule.
    limits : dict of str to int
        By container. [bytes]
    total_bytes : int
        All replicas together.
    bad : Proportion
        Runs with a kill, a pause or an eviction.
    """

    name: str
    limits: dict[str, int]
    total_bytes: int
    bad: Proportion


@dataclass(frozen=True)
class Recommendation:
    """Limits, requests, reserves and sysctls that meet a bar of risk at the least memory."""

    fits: bool
    verdict: str
    name: str
    max_risk: float
    replicates: int
    settings: dict[str, str]
    containers: tuple[Advice, ...]
    total_bytes: int
    present_bytes: int | None
    bad: Proportion
    present_bad: Proportion
    sysctl: dict[str, int]
    sysctl_reason: str
    reserved: Reserved
    rivals: tuple[Rival, ...]
    notes: tuple[str, ...] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, verdict first."""
        made = asdict(self)
        made["reserved"]["total"] = self.reserved.total
        return made
