"""A gate for CI: each rule of a node's gate against what many runs showed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from capplan.plan.intervals import clean_runs, percent
from capplan.plan.risk import KINDS, gate_bars
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from capplan.plan.intervals import Proportion
    from capplan.plan.risk import ContainerRisk, Risk
    from capplan.plan.tally import Spread
    from capplan.spec import NodeSpec

__all__ = ["Check", "Rule", "check"]

NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Rule:
    """One rule, for the node or a container's replica.

    Attributes
    ----------
    name : str
        The gate's key.
    who : str
        The node's name, or a replica's.
    passed : bool, optional
        None: the runs do not decide it.
    message : str
        What was found, and what is allowed.
    """

    name: str
    who: str
    passed: bool | None
    message: str


@dataclass(frozen=True)
class Check:
    """All rules; the gate is passed when each of them is."""

    fits: bool
    verdict: str
    name: str
    runs: int
    duration_s: float
    rules: tuple[Rule, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, verdict first."""
        return asdict(self)


def check(spec: NodeSpec, risk: Risk) -> Check:
    """Hold a risk run against the node's gate.

    A risk passes when its whole interval lies within the bar and fails when all of it lies beyond;
    between the two it is undecided, which does not pass: the message says how many runs decide.
    """
    rules = (*_risks(risk, spec), *_containers(risk, spec))
    failed = [rule for rule in rules if rule.passed is False]
    undecided = [rule for rule in rules if rule.passed is None]
    return Check(
        fits=not failed and not undecided,
        verdict=_verdict(rules, failed, undecided, risk),
        name=spec.name,
        runs=risk.runs,
        duration_s=risk.duration_s,
        rules=rules,
    )


def _risks(risk: Risk, spec: NodeSpec) -> Iterator[Rule]:
    for what, bar in gate_bars(spec.gate).items():
        yield _risk(f"max_{what}_risk", risk.name, risk.node[what], bar, what)


def _risk(name: str, who: str, found: Proportion, bar: float, what: str) -> Rule:
    passed = None
    if found.low > bar:
        passed = False
    elif found.high <= bar:
        passed = True
    message = f"risk of being {KINDS[what]}: {found}, at most {percent(bar)} % is allowed"
    if passed is None and found.count == 0 and 0 < bar < 1:
        message += f"; {clean_runs(bar):,} runs without one would show it"
    elif passed is None:
        message += "; more runs would decide it"
    return Rule(name, who, passed, message)


def _containers(risk: Risk, spec: NodeSpec) -> Iterator[Rule]:
    gate = spec.gate
    for replica in risk.replicas:
        throttled = replica.spread.get("throttle_share")
        if throttled is not None:
            allowed = gate.max_throttle_share
            message = (
                f"throttled {percent(_late(throttled))} % of its time (95 % of the runs less), "
                f"at most {percent(allowed)} % is allowed"
            )
            yield Rule("max_throttle_share", replica.name, _late(throttled) <= allowed, message)
        if gate.max_lateness is not None:
            yield from _lateness(replica, gate.max_lateness)
        if gate.min_headroom is not None:
            yield from _headroom(replica, gate.min_headroom, spec)


def _late(spread: Spread) -> float:
    """The value that 95 % of the runs stay below."""
    return spread.quantiles[4]


def _lateness(replica: ContainerRisk, allowed_ns: int) -> Iterator[Rule]:
    found = replica.spread.get("late_s")
    if found is not None:
        late = _late(found) * NS_PER_S
        message = (
            f"up to {format_duration(late)} late (95 % of the runs less), "
            f"at most {format_duration(allowed_ns)} is allowed"
        )
        yield Rule("max_lateness", replica.name, late <= allowed_ns, message)


def _headroom(replica: ContainerRisk, least: int | float, spec: NodeSpec) -> Iterator[Rule]:
    found = replica.spread.get("headroom")
    if found is None:
        return  # no limit on the way to the root
    room = found.quantiles[0]
    if isinstance(least, float):
        peak = replica.spread.get("peak")
        limit = room + (0.0 if peak is None else peak.quantiles[4])
        share = room / limit if limit else 0.0
        message = (
            f"headroom {percent(share)} % of its limit (95 % of the runs more), "
            f"at least {percent(least)} % is asked for"
        )
        yield Rule("min_headroom", replica.name, share >= least, message)
    else:
        message = (
            f"headroom {format_bytes(room)} (95 % of the runs more), "
            f"at least {format_bytes(least)} is asked for"
        )
        yield Rule("min_headroom", replica.name, room >= least, message)


def _verdict(rules: tuple[Rule, ...], failed: list[Rule], undecided: list[Rule], risk: Risk) -> str:
    span = f"{risk.runs:,} runs of {format_duration(risk.duration_s * NS_PER_S)}"
    if failed:
        first = failed[0]
        left = len(failed) - 1
        more = f" ({left} more rule{'s fail' if left > 1 else ' fails'})" if left else ""
        return f"Fails: {first.who}: {first.message}{more}."
    if undecided:
        first = undecided[0]
        return f"Not decided by {span}: {first.who}: {first.message}."
    return f"Passes: all {len(rules)} rules hold in {span}."
