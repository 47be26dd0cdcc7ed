"""The gate: what an operator allows, and the incidents where a run goes beyond it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from capplan.plan.outcome_context import NS_PER_S, Context
from capplan.plan.outcome_model import DEFAULT_THROTTLE_SHARE, Incident
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from capplan.plan.outcome_model import ContainerOutcome, GateLike


@dataclass(frozen=True)
class Bars:
    """A gate's bars for one run; None where it has none."""

    max_throttle_share: float = DEFAULT_THROTTLE_SHARE
    max_lateness_s: float | None = None
    min_headroom: int | float | None = None  # int: bytes; float: share of the limit

    @classmethod
    def of(cls, gate: GateLike | None) -> Bars:
        """What a gate says; the rest by default."""
        if gate is None:
            return cls()
        share, late = gate.max_throttle_share, getattr(gate, "max_lateness", None)
        return cls(
            DEFAULT_THROTTLE_SHARE if share is None else float(share),
            None if late is None else late / NS_PER_S,
            getattr(gate, "min_headroom", None),
        )


def beyond(context: Context, found: tuple[ContainerOutcome, ...], bars: Bars) -> list[Incident]:
    """Incidents of containers that are later or closer to their limit than the gate allows."""
    made = []
    for c in found:
        allowed = bars.max_lateness_s
        if allowed is not None and c.late_max_s > allowed:
            late = format_duration(c.late_max_s * NS_PER_S)
            most = format_duration(allowed * NS_PER_S)
            stalled = format_duration(c.stall_s * NS_PER_S)
            chain = (
                f"the gate allows {most} of lateness",
                f"{c.name} was stalled for memory {stalled} in all, {100 * c.stall_share:.3g} %",
            )
            title = f"{c.name} is up to {late} behind its schedule"
            made.append(_incident("late", c, title, chain, context.duration))
        if _too_tight(c, bars):
            made.append(_tight(c, bars, context.duration))
    return made


def _too_tight(c: ContainerOutcome, bars: Bars) -> bool:
    if bars.min_headroom is None or c.headroom_bytes is None or c.headroom_share is None:
        return False
    if isinstance(bars.min_headroom, float):
        return c.headroom_share < bars.min_headroom
    return c.headroom_bytes < bars.min_headroom


def _tight(c: ContainerOutcome, bars: Bars, t: float) -> Incident:
    least = bars.min_headroom or 0
    asked = f"{100 * least:.3g} %" if isinstance(least, float) else format_bytes(least)
    left = f"{format_bytes(c.headroom_bytes or 0)} ({100 * (c.headroom_share or 0.0):.3g} %)"
    title = f"{c.name} has {left} of headroom"
    chain = (
        f"the gate asks for {asked} below its {c.limit_key} of {format_bytes(c.limit_bytes or 0)}",
    )
    return _incident("tight", c, title, chain, c.peak_t if c.peak_t is not None else t)


def _incident(
    kind: str, c: ContainerOutcome, title: str, chain: tuple[str, ...], t: float
) -> Incident:
    return Incident(
        number=0, kind=kind, t=t, end=None, name=c.name, container=c.name, cgroup=c.cgroup,
        title=title, chain=chain,
    )  # fmt: skip
