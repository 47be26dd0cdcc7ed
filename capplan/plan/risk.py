"""How likely: the same node run many times, each time with other draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from capplan.plan import executor
from capplan.plan.intervals import (
    CONFIDENCE,
    Proportion,
    clean_runs,
    declared_looks,
    half_width,
    percent,
)
from capplan.plan.point import Point, Variant, point, points
from capplan.plan.rare import Rare, Sample, score, split
from capplan.plan.reach import Reach, reach
from capplan.plan.reach_phases import unreached
from capplan.plan.tally import (
    INCIDENT_COUNTS,
    SPREAD_OF_CONTAINER,
    SPREAD_OF_NODE,
    Spread,
    Tally,
    Victim,
    pair_table,
)
from capplan.units import format_duration

if TYPE_CHECKING:
    from capplan.plan.executor import Pool
    from capplan.plan.store import Store
    from capplan.spec.node import Gate

__all__ = [
    "ContainerRisk",
    "Risk",
    "Stop",
    "gate_bars",
    "rare_risk",
    "replicates_of",
    "risk",
    "with_rare",
    "within",
]

DEFAULT_REPLICATES = 1000
SHOWN_ORDERS = 20
WATCHED = ("kill", "pause", "throttle", "evict")  # whose interval --until looks at
NS_PER_S = 1_000_000_000
KINDS = {
    "kill": "OOM-killed", "pause": "paused", "throttle": "throttled", "evict": "evicted",
}  # fmt: skip


@dataclass(frozen=True)
class ContainerRisk:
    """What befalls one container, or one replica of it."""

    name: str
    container: str  # the key in the node file; a container with replicas stands for any of them
    replicas: int
    risks: dict[str, Proportion]
    spread: dict[str, Spread | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Stop:
    """Where the runs ended, and by which rule."""

    until: float | None  # half-width asked for
    looks: tuple[int, ...]  # numbers of runs at which it was looked, declared beforehand
    at: int
    reached: bool


@dataclass(frozen=True)
class Risk:
    """Probabilities over many runs of one node.

    Attributes
    ----------
    fits : bool, optional
        Whether the risks are within the gate; None: the runs do not decide it.
    verdict : str
        In one sentence.
    runs, failed : int
        Runs that count, and points that failed.
    node : dict of str to Proportion
        By incident: kill, pause, throttle, evict, unfinished, panic, stock_kill.
    containers : tuple of ContainerRisk
        As declared (any replica), the riskiest first.
    replicas : tuple of ContainerRisk
        Each replica by itself, with the spread of its metrics.
    first_kill : tuple
        Time [s], runs with a kill by then, share, low, high: 100 steps of the run.
    grown : tuple
        Who asked for memory, who was killed first for it, runs: "who dies when who grows".
    first_kill_t : Spread, optional
        Of the runs with a kill [s].
    """

    fits: bool | None
    verdict: str
    name: str
    settings: dict[str, str]
    duration_s: float
    runs: int
    failed: int
    confidence: float
    stop: Stop
    gate: dict[str, float]
    node: dict[str, Proportion]
    fitting: Proportion
    containers: tuple[ContainerRisk, ...]
    replicas: tuple[ContainerRisk, ...]
    spread: dict[str, Spread | None]
    first_kill: tuple[tuple[float, int, float, float, float], ...]
    first_kill_t: Spread | None
    victims: tuple[Victim, ...]
    grown: tuple[tuple[str, str, int], ...]
    orders: tuple[tuple[str, int], ...]
    reach: tuple[Reach, ...]
    errors: tuple[tuple[str, int], ...]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rare: dict[str, Any] | None = None  # what splitting found (capplan.plan.rare.Rare)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, verdict first."""
        return asdict(self)


def replicates_of(count: int) -> range:
    """Numbers of the replicates of a run of many: 1 and on; 0 is the single run."""
    return range(1, count + 1)


def gate_bars(gate: Gate) -> dict[str, float]:
    """The largest risk of each incident that the gate allows."""
    return {
        "kill": gate.max_kill_risk,
        "pause": gate.max_pause_risk,
        "evict": gate.max_evict_risk,
    }


def risk(
    variant: Variant,
    store: Store,
    *,
    seed: int,
    replicates: int = DEFAULT_REPLICATES,
    until: float | None = None,
    confidence: float = CONFIDENCE,
    pool: Pool | None = None,
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Risk:
    """Run a node many times and count.

    Parameters
    ----------
    variant : Variant
        The node, settings applied.
    store : Store
        Where rows are kept; those that are there are not computed again.
    seed : int
        Of all draws.
    replicates : int
        Runs; with ``until`` the most of them.
    until : float, optional
        Stop at the first declared number of runs at which the intervals of the node's kill,
        pause, throttle and evict probabilities all have at most this half-width.
    confidence : float
        Of the intervals.
    pool, jobs : optional
        Workers: see :func:`capplan.plan.executor.run_points`.
    progress : callable, optional
        Called with the number of runs finished.

    Raises
    ------
    CapplanError
        Every run failed.
    """
    spec = variant.spec
    assert spec is not None
    tally = Tally(variant.containers, spec.run.duration / NS_PER_S, spec.gate.max_throttle_share)
    looks = declared_looks(replicates, until)
    done, reached = 0, False
    for look in looks:
        some = list(points([variant], range(done + 1, look + 1), seed))
        _run(some, store, pool, jobs, executor.beyond(progress, done))
        # in the order of the replicates, whatever the order they were finished in
        tally.add_all(row for _, row in store.rows(point.key for point in some))
        done = look
        if until is not None and tally.runs:
            reached = _widest(tally, confidence) <= until
            if reached:
                break
    executor.raise_if_all_failed(_only_errors(tally))
    return _result(variant, tally, Stop(until, looks, done, reached), confidence)


def _run(
    some: list[Point],
    store: Store,
    pool: Pool | None,
    jobs: int | None,
    progress: Callable[[int], None] | None,
) -> None:
    for _ in executor.run_points(some, store, jobs, pool=pool, progress=progress):
        pass


def _widest(tally: Tally, confidence: float) -> float:
    return max(half_width(tally.counts["", what], tally.runs, confidence) for what in WATCHED)


def _only_errors(tally: Tally) -> Iterator[dict[str, Any]]:
    if tally.runs == 0:
        yield from ({"error": error} for error in tally.errors)


def rare_risk(
    variant: Variant,
    store: Store,
    *,
    seed: int,
    incident: str,
    runs: int,
    pool: Pool | None = None,
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rare:
    """A small probability by splitting (:mod:`capplan.plan.rare`), in at most ``runs`` runs.

    Its first level are plain replicates: those of a risk run count.

    Raises
    ------
    CapplanError
        A run failed.
    """
    spec = variant.spec
    assert spec is not None
    duration_s = spec.run.duration / NS_PER_S
    done = 0

    def evaluate(samples: Sequence[Sample]) -> list[float]:
        nonlocal done
        some = [point(variant, seed, s.replicate, s.blend) for s in samples]
        _run(some, store, pool, jobs, executor.beyond(progress, done))
        done += len(some)
        found = []
        for _, row in store.rows(p.key for p in some):
            executor.raise_if_all_failed([row])
            found.append(score(row, incident, duration_s))
        return found

    return split(evaluate, runs, seed)


# --- what came of it -----------------------------------------------------------------------


def _result(variant: Variant, tally: Tally, stop: Stop, confidence: float) -> Risk:
    spec = variant.spec
    assert spec is not None
    bars = gate_bars(spec.gate)
    node = {what: tally.risk(what) for what in INCIDENT_COUNTS}
    containers = _containers(tally)
    fits = within(node, bars)
    span = format_duration(spec.run.duration)
    return Risk(
        fits=fits,
        verdict=_verdict(fits, node, containers, bars, tally, span),
        name=spec.name,
        settings=dict(variant.settings),
        duration_s=spec.run.duration / NS_PER_S,
        runs=tally.runs,
        failed=tally.errors.total(),
        confidence=confidence,
        stop=stop,
        gate=bars,
        node=node,
        fitting=tally.proportion_fitting(),
        containers=containers,
        replicas=_replicas(tally),
        spread={metric: tally.spread(metric) for metric in SPREAD_OF_NODE},
        first_kill=tuple(tally.first_kill_curve()),
        first_kill_t=tally.kill_times.spread(),
        victims=tally.victim_table(),
        grown=pair_table(tally.pairs),
        orders=tally.most_orders(SHOWN_ORDERS),
        reach=reach(spec),
        errors=tuple(tally.errors.most_common(10)),
        assumptions=_assumptions(variant),
        notes=(*_notes(tally, stop, bars), *unreached(spec)),
    )


def _containers(tally: Tally) -> tuple[ContainerRisk, ...]:
    made = [
        ContainerRisk(
            name,
            name,
            len(names),
            {what: tally.any_replica(what, name) for what in _of_container()},
        )
        for name, names in tally.containers.items()
    ]
    made.sort(key=lambda c: tuple(-(c.risks[what].p or 0.0) for what in WATCHED))
    return tuple(made)


def _replicas(tally: Tally) -> tuple[ContainerRisk, ...]:
    return tuple(
        ContainerRisk(
            name,
            container,
            1,
            {what: tally.risk(what, name) for what in _of_container()},
            {metric: tally.spread(metric, name) for metric in SPREAD_OF_CONTAINER},
        )
        for name, container in tally.group.items()
    )


def _of_container() -> list[str]:
    return [what for what, columns in INCIDENT_COUNTS.items() if columns[1]]


def within(node: dict[str, Proportion], bars: dict[str, float]) -> bool | None:
    """Whether all intervals lie within the bars; False: one lies beyond; None: neither."""
    if any(node[what].low > bar for what, bar in bars.items()):
        return False
    if all(node[what].high <= bar for what, bar in bars.items()):
        return True
    return None


def _verdict(
    fits: bool | None,
    node: dict[str, Proportion],
    containers: tuple[ContainerRisk, ...],
    bars: dict[str, float],
    tally: Tally,
    span: str,
) -> str:
    runs = f"{tally.runs:,} runs of {span}"
    if fits:
        what = max(bars, key=lambda kind: node[kind].high)
        return (
            f"Fits: in {runs} the risk that anything is {KINDS[what]} is {node[what]}, at most "
            f"{percent(bars[what])} % is allowed."
        )
    what = max(bars, key=lambda kind: (node[kind].low - bars[kind], node[kind].p or 0.0))
    worst = max(containers, key=lambda c: c.risks[what].p or 0.0, default=None)
    who = "anything"
    if worst is not None and worst.risks[what].count:
        who = worst.name
        who += f" (any of {worst.replicas})" if worst.replicas > 1 else ""
    risk_of = node[what] if who == "anything" or worst is None else worst.risks[what]
    allowed = f"at most {percent(bars[what])} % is allowed"
    if fits is None:
        return (
            f"Not decided: in {runs} the risk that anything is {KINDS[what]} is {node[what]}, "
            f"{allowed}; more replicates would say."
        )
    times = tally.kill_times.spread() if what == "kill" else None
    when = "" if times is None else _when(times)
    return f"Does not fit: {who} is {KINDS[what]} in {risk_of} of {runs}{when}; {allowed}."


def _when(times: Spread) -> str:
    middle = format_duration(times.quantiles[2] * NS_PER_S)
    return f", the node's first kill comes after {middle} (median)"


def _assumptions(variant: Variant) -> tuple[str, ...]:
    import capplan.sim.expand

    assert variant.spec is not None
    return capplan.sim.expand.expand(variant.spec).assumptions


def _notes(tally: Tally, stop: Stop, bars: dict[str, float]) -> tuple[str, ...]:
    notes = []
    if tally.errors:
        notes.append(f"{tally.errors.total()} points failed; the first: {next(iter(tally.errors))}")
    if stop.until is not None and not stop.reached:
        notes.append(
            f"the half-width of {percent(stop.until)} % was not reached in {stop.at:,} runs"
        )
    if tally.counts["", "stock_kill"]:
        share = tally.risk("stock_kill")
        notes.append(
            "pauses rest on an assumption (memory.oom_control is not written); a stock kernel "
            f"(oom_kill_disable 0) would kill in {share} of the runs"
        )
    for what, bar in bars.items():
        found = tally.risk(what)
        if found.count == 0 and found.high > bar > 0:
            enough = clean_runs(bar)
            notes.append(
                f"no run had {KINDS[what]} processes, but {tally.runs:,} runs cannot show a risk "
                f"of at most {percent(bar)} %: {enough:,} would"
            )
    return tuple(notes)


def with_rare(found: Risk, rare: Rare, incident: str) -> Risk:
    """The result with what splitting found beside it, also in the verdict."""
    span = format_duration(found.duration_s * NS_PER_S)
    if rare.reached:
        interval = f"{rare.p:.2g} (95 %: {rare.low:.2g} to {rare.high:.2g})"
    else:
        interval = f"below {rare.high:.2g} ({rare.note})"
    text = f"the risk that anything is {KINDS[incident]} within {span} is {interval}, "
    text += f"by splitting, in {rare.runs:,} runs"
    bar = found.gate.get(incident)
    fits = found.fits
    if fits is None and bar is not None and rare.high <= bar:
        others = {what: other for what, other in found.gate.items() if what != incident}
        fits = within(found.node, others)
    verdict = f"{found.verdict[:-1]}; {text}."
    return replace(found, fits=fits, verdict=verdict, rare={"incident": incident, **asdict(rare)})
