"""A sweep: the points of a design, the same draws at each, a gate for each, and what moves them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.errors import InputError
from capplan.plan import executor
from capplan.plan.design import Design
from capplan.plan.intervals import Proportion, percent
from capplan.plan.point import Point, Variant, points, variant
from capplan.plan.risk import KINDS, gate_bars, replicates_of, within
from capplan.plan.sensitivity import Index, sensitivity
from capplan.plan.tally import INCIDENT_COUNTS, SPREAD_OF_NODE, Tally, pair_table

if TYPE_CHECKING:
    from capplan.plan.executor import Pool
    from capplan.plan.store import Store
    from capplan.spec.node import Gate
    from capplan.spec.sweep import SweepSpec

__all__ = ["Plan", "PointOutcome", "Sweep", "sweep"]

NS_PER_S = 1_000_000_000
RISKS = ("kill", "pause", "throttle", "evict")
METRICS = (
    "headroom_min",
    "available_min",
    "direct_stalls",
    "kswapd_cpu_share",
    "swap_out",
    "psi_some",
)


@dataclass(frozen=True)
class PointOutcome:
    """What one point of the design came to.

    ``fits``: whether its risks are within the gate; None: its runs do not decide it.
    """

    index: int
    settings: dict[str, str]
    fits: bool | None
    runs: int
    failed: int
    error: str
    risks: dict[str, Proportion]
    metrics: dict[str, float | None]  # mean over the runs


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    ``grown``: who asked for memory, who was killed first for it, runs over all points.
    """

    verdict: str
    name: str
    duration_s: float
    design: str
    knobs: tuple[dict[str, Any], ...]
    replicates: int
    points: tuple[PointOutcome, ...]
    gate: dict[str, float]
    fitting: tuple[int, ...]
    sensitivity: tuple[Index, ...]
    grown: tuple[tuple[str, str, int], ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, verdict first."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    """What is kept of a point once it was sent to be run."""

    variant: Variant  # without text, files and spec
    duration_s: float
    throttle_share: float
    bars: dict[str, float]

    @classmethod
    def of(cls, made: Variant) -> _Seen:
        light = replace(made, text="", files={}, spec=None)
        if made.spec is None:
            return cls(light, 1.0, 0.0, {})
        gate = made.spec.gate
        duration_s = made.spec.run.duration / NS_PER_S
        return cls(light, duration_s, gate.max_throttle_share, gate_bars(gate))


class Plan:
    """The points of a sweep, made when they are asked for.

    Parameters
    ----------
    spec : SweepSpec
        The sweep file.
    design : Design
        Its points.
    seed : int
        Of the runs' draws.
    """

    def __init__(self, spec: SweepSpec, design: Design, seed: int) -> None:
        self.spec = spec
        self.design = design
        self.seed = seed
        self._seen: list[_Seen] = []
        self.first = self._first()

    def _first(self) -> Variant:
        """The first point; what is wrong with all of them is said at once, with its place.

        Raises
        ------
        InputError
            The node file is wrong, a key does not exist, or no value of a knob can be read.
        """
        try:
            variant(self.spec.node, self.spec.settings)
            for settings in self.design.settings[:1]:
                made = self._variant(0, settings, keep_errors=False)
        except InputError as error:
            raise self.spec.placed(error) from error
        return made

    def _variant(self, index: int, settings: dict[str, str], *, keep_errors: bool) -> Variant:
        whole = {**self.spec.settings, **settings}
        return variant(self.spec.node, whole, index, keep_errors=keep_errors)

    def __iter__(self) -> Iterator[Point]:
        """Every replicate of every point; one that is wrong has its error."""
        for index, settings in enumerate(self.design.settings):
            if index < len(self._seen):
                made = self._seen[index].variant
            else:
                made = self._variant(index, settings, keep_errors=True)
                self._seen.append(_Seen.of(made))
            yield from self.of(made)

    def of(self, made: Variant) -> Iterator[Point]:
        """Every replicate of one point."""
        return points([made], replicates_of(self.spec.model.replicates), self.seed)

    @property
    def seen(self) -> Sequence[_Seen]:
        """The points that were made so far, without their input."""
        return self._seen

    def __len__(self) -> int:
        return len(self.design.settings) * self.spec.model.replicates


def sweep(
    plan: Plan,
    store: Store,
    *,
    pool: Pool | None = None,
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Sweep:
    """Run all points of a sweep and say which fit, and which knob moves the risk.

    Parameters
    ----------
    plan : Plan
        The points.
    store : Store
        Where rows are kept; those that are there are not computed again.
    pool, jobs : optional
        Workers: see :func:`capplan.plan.executor.run_points`.
    progress : callable, optional
        Called with the number of runs finished.

    Raises
    ------
    CapplanError
        Every run failed.
    """
    for _ in executor.run_points(plan, store, jobs, pool=pool, progress=progress):
        pass
    pairs: Counter[tuple[str, str]] = Counter()
    found = [_outcome(seen, plan, store, pairs) for seen in plan.seen]
    executor.raise_if_all_failed(_errors(found))
    assert plan.first.spec is not None
    gate = plan.first.spec.gate
    indices = _sensitivity(plan, found)
    fitting = tuple(point.index for point in found if point.fits)
    return Sweep(
        verdict=_verdict(found, indices, gate),
        name=plan.spec.name,
        duration_s=plan.first.spec.run.duration / NS_PER_S,
        design=plan.design.kind,
        knobs=tuple(_knobs(plan.spec)),
        replicates=plan.spec.model.replicates,
        points=tuple(found),
        gate=gate_bars(gate),
        fitting=fitting,
        sensitivity=tuple(indices),
        grown=pair_table(pairs),
        notes=_notes(found, plan),
    )


def _outcome(
    seen: _Seen, plan: Plan, store: Store, pairs: Counter[tuple[str, str]]
) -> PointOutcome:
    """Count the rows of one point, in the order of the replicates; add to who killed whom."""
    made = seen.variant
    tally = Tally(made.containers, seen.duration_s, seen.throttle_share)
    tally.add_all(row for _, row in store.rows(point.key for point in plan.of(made)))
    pairs.update(tally.pairs)
    risks = {what: tally.risk(what) for what in INCIDENT_COUNTS}
    means = {metric: tally.spread(metric) for metric in SPREAD_OF_NODE}
    return PointOutcome(
        index=made.index,
        settings=plan.design.settings[made.index],
        fits=within(risks, seen.bars) if tally.runs else None,
        runs=tally.runs,
        failed=tally.errors.total(),
        error=next(iter(tally.errors), ""),
        risks=risks,
        metrics={metric: None if s is None else s.mean for metric, s in means.items()},
    )


def _errors(found: Sequence[PointOutcome]) -> Iterator[dict[str, Any]]:
    for point in found:
        yield {} if point.runs else {"error": point.error}


def _sensitivity(plan: Plan, found: Sequence[PointOutcome]) -> list[Index]:
    knobs = [knob.key for knob in plan.spec.knobs]
    columns = {f"P({what})": [point.risks[what].p for point in found] for what in RISKS}
    columns |= {metric: [point.metrics[metric] for point in found] for metric in METRICS}
    made = []
    for metric, values in columns.items():
        numbers = np.array([math.nan if v is None else v for v in values])
        made += sensitivity(plan.design, knobs, metric, numbers, plan.seed)
    return made


def _knobs(spec: SweepSpec) -> Iterator[dict[str, Any]]:
    for knob in spec.knobs:
        if knob.range is None:
            yield {"key": knob.key, "values": list(knob.values)}
        else:
            given = knob.range
            yield {"key": knob.key, "low": given.low, "high": given.high, "scale": given.scale}


def _verdict(found: Sequence[PointOutcome], indices: Sequence[Index], gate: Gate) -> str:
    fitting = sum(point.fits is True for point in found)
    unknown = sum(point.fits is None and not point.error for point in found)
    text = f"{fitting} of {len(found)} points fit"
    if unknown:
        text += f", {unknown} are not decided by their runs"
    text += f" (at most {percent(gate.max_kill_risk)} % risk of an OOM kill)"
    for what in RISKS:
        moved = [i for i in indices if i.of == f"P({what})"]
        if moved:
            text += f"; {_strongest(moved[0], KINDS[what], len(found))}"
            break
    return text + "."


def _strongest(index: Index, who: str, points: int) -> str:
    """What moves a risk most; an interval that reaches 0 says that it may be none of them."""
    total = index.total is not None
    value, low = (index.total, index.total_low) if total else (index.first, index.first_low)
    if value is None or low is None or low <= 0:
        return f"{points} points do not tell which knob decides who is {who}"
    order = "total" if total else "first-order"
    return f"who is {who} depends most on {index.knob} ({order} index {value:.2f})"


def _notes(found: Sequence[PointOutcome], plan: Plan) -> tuple[str, ...]:
    notes = []
    failed = [point for point in found if point.error]
    if failed:
        notes.append(f"{len(failed)} points failed; the first: {failed[0].error}")
    if plan.design.kind == "paired":
        notes.append("paired knobs move together: an index says what moves with a knob, not by it")
    if plan.design.base and failed:
        notes.append("no sensitivity: a Saltelli design needs every point")
    return tuple(notes)
