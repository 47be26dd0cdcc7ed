"""Limits, requests, reserves and sysctls that meet a bar of risk at the least memory.

Each container's limit is lowered, the others lifted, until the risk leaves the bar: the kernel's
own reclaim decides how much page cache a container can do without, which no percentile of its usage
says. Then all limits are taken together and run again; where that is not within the bar, they are
raised. Percentile rules, given the same unlimited runs, are run beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

import capplan.sim.expand
import capplan.sim.run
from capplan.plan.compare_model import Setting
from capplan.plan.compare_pick import pick
from capplan.plan.intervals import CONFIDENCE, Proportion, percent
from capplan.plan.reach_phases import unreached
from capplan.plan.recommend_model import Advice, Recommendation, Reserved, Rival
from capplan.plan.rows import MakeVariant, Row, Rows, Settings, well_and_unthrottled
from capplan.plan.search import Found, allowed_failures, runs_needed, search
from capplan.sim.scenario import PAGE_SIZE
from capplan.units import MIB, format_bytes, format_k8s

if TYPE_CHECKING:
    from capplan.plan.executor import Pool
    from capplan.plan.point import Variant
    from capplan.plan.store import Store
    from capplan.sim.scenario import Scenario
    from capplan.spec import NodeSpec

__all__ = ["recommend"]

FINER = 0.98  # a step of a limit: 2 %
STEPS = 200  # 0.98 ** 200: a fiftieth of the first value
RAISE = 1.05  # when all limits together fail
RAISES = 6
SPARE = 1.15  # of both percentile rules: KRR's and VPA's default margin
DAY_S = 86_400.0


def recommend(
    make: MakeVariant,
    store: Store,
    *,
    seed: int,
    max_risk: float,
    replicates: int | None = None,
    containers: Sequence[str] = (),
    pool: Pool | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Recommendation:
    """Find the least limits within a bar of risk, and what goes with them.

    Parameters
    ----------
    make, store, seed, max_risk, pool
        As in :func:`capplan.plan.headroom.headroom`.
    replicates : int, optional
        Runs per setting; None: as many as show the bar with 95 % confidence.
    containers : sequence of str
        Whose limits; empty: all.
    progress : callable, optional
        Called with what is being found and the number of runs so far.
    """
    base = make({})
    spec = _spec_of(base)
    count = range(1, (replicates or runs_needed(max_risk, CONFIDENCE)) + 1)
    runs = Rows(make, store, seed, pool, progress)
    names = tuple(containers or spec.containers)
    peaks = _unlimited(runs, spec, {name: base.containers[name] for name in names}, count)
    limits, found = _limits(runs, spec, names, peaks, count, max_risk)
    limits, bad = _together(runs, spec, limits, count, max_risk)
    settings = {_key(spec, name): format_k8s(size) for name, size in limits.items()}
    highs = _highs(runs, base, limits, settings, count)
    settings |= {f"containers.{n}.memory.high": format_k8s(size) for n, size in highs.items()}
    sysctl, why = _sysctl(runs, spec, settings, count)
    settings |= {f"node.sysctl.{key}": str(value) for key, value in sysctl.items()}
    advice = tuple(_advice(spec, n, limits[n], highs.get(n), peaks[n], found[n]) for n in names)
    present = runs.bad({}, count)
    fits = bad.count <= allowed_failures(len(count), max_risk, CONFIDENCE)
    return Recommendation(
        fits=fits,
        verdict=_verdict(fits, advice, bad, present, max_risk),
        name=spec.name,
        max_risk=max_risk,
        replicates=len(count),
        settings=settings,
        containers=advice,
        total_bytes=sum(one.limit * one.replicas for one in advice),
        present_bytes=_present(advice),
        bad=bad,
        present_bad=present,
        sysctl=sysctl,
        sysctl_reason=why,
        reserved=_reserved(spec, seed),
        rivals=tuple(_rivals(runs, spec, peaks, count)),
        notes=(*_notes(found, len(count), max_risk), *unreached(spec)),
    )


def _spec_of(made: Variant) -> NodeSpec:
    assert made.spec is not None
    return made.spec


def _key(spec: NodeSpec, name: str) -> str:
    return f"containers.{name}.{_limit_file(spec)}"


def _limit_file(spec: NodeSpec) -> str:
    return "memory.limit_in_bytes" if spec.cgroup.version == "v1" else "memory.max"


def _unlimited(
    runs: Rows, spec: NodeSpec, containers: Mapping[str, Sequence[str]], count: Sequence[int]
) -> dict[str, list[float]]:
    """Each container's peak in each run without limits of its own."""
    runs.doing = "unlimited"
    free = [row for _, row in runs.under({_key(spec, name): "max" for name in containers}, count)]
    return {name: _peaks(free, replicas) for name, replicas in containers.items()}


def _peaks(rows: Iterable[Row], replicas: Sequence[str]) -> list[float]:
    """A container's largest usage in each run: of the replica that used most [bytes]."""
    found = []
    for row in rows:
        sizes = [row.get(f"container.{name}.peak") for name in replicas]
        known = [float(size) for size in sizes if size is not None]
        if known:
            found.append(max(known))
    return found or [float(MIB)]


# --- limits --------------------------------------------------------------------------------


def _limits(
    runs: Rows, spec: NodeSpec, names: Sequence[str], peaks: Mapping[str, Sequence[float]],
    count: Sequence[int], max_risk: float,
) -> tuple[dict[str, int], dict[str, Found]]:  # fmt: skip
    """The least limit of each container by itself, the others at their unlimited peaks."""
    tops = {name: _round(1.05 * max(peaks[name])) for name in names}
    limits: dict[str, int] = {}
    found: dict[str, Found] = {}
    for name in names:
        runs.doing = _key(spec, name)
        others = {_key(spec, other): format_k8s(tops[other]) for other in names if other != name}

        def borne(
            level: int, some: Sequence[int], name: str = name, others: Settings = others
        ) -> Iterable[tuple[int, bool]]:
            size = _down(tops[name], level)
            return runs.wells({**others, _key(spec, name): format_k8s(size)}, some)

        found[name] = search(borne, count, STEPS, max_risk, CONFIDENCE)
        limits[name] = _down(tops[name], found[name].level or 0)
    return limits, found


def _down(top: int, level: int) -> int:
    return _round(top * FINER**level)


def _round(size: float) -> int:
    """Up to a whole MiB."""
    return max(math.ceil(size / MIB), 1) * MIB


def _together(
    runs: Rows, spec: NodeSpec, limits: dict[str, int], count: Sequence[int], max_risk: float
) -> tuple[dict[str, int], Proportion]:
    """All limits at once; raised while the risk is beyond the bar."""
    runs.doing = "all limits together"
    for _ in range(RAISES + 1):
        settings = {_key(spec, name): format_k8s(size) for name, size in limits.items()}
        bad = runs.bad(settings, count)
        if bad.count <= allowed_failures(len(count), max_risk, CONFIDENCE):
            break
        limits = {name: _round(RAISE * size) for name, size in limits.items()}
    return limits, bad


def _highs(
    runs: Rows, base: Variant, limits: Mapping[str, int], settings: Settings, count: Sequence[int]
) -> dict[str, int]:
    """memory.high of each container: the least at which nobody is throttled (v2).

    Nor less than what a run showed that it needs, page cache apart: who asks for nothing is not
    throttled however far above its memory.high it stands, but its next page would be.
    """
    highs: dict[str, int] = {}
    if _spec_of(base).cgroup.version == "v1":
        return highs
    for name, limit in limits.items():
        key = f"containers.{name}.memory.high"
        runs.doing = key

        def borne(
            level: int, some: Sequence[int], name: str = name, key: str = key, limit: int = limit
        ) -> Iterable[tuple[int, bool]]:
            high = _down(limit, level)
            rows = runs.under({**settings, key: format_k8s(high)}, some)
            return [
                (r, well_and_unthrottled(row) and _need(row, base.containers[name], limit) <= high)
                for r, row in rows
            ]

        found = search(borne, count, STEPS, 1 / len(count), CONFIDENCE)
        if found.level is not None and _down(limit, found.level) < limit:
            highs[name] = _down(limit, found.level)  # at the limit it would do nothing
    return highs


def _need(row: Row, replicas: Sequence[str], limit: int) -> float:
    """The most that any replica needed under its limit, page cache apart [bytes]."""
    rooms = (row.get(f"container.{name}.headroom") for name in replicas)
    return limit - min((room for room in rooms if room is not None), default=limit)


# --- the node ------------------------------------------------------------------------------


def _sysctl(
    runs: Rows, spec: NodeSpec, settings: Settings, count: Sequence[int]
) -> tuple[dict[str, int], str]:
    """vm.min_free_kbytes: the present one, twice or four times it, whichever one would pick."""
    from capplan.plan.compare import DEFAULT_REPLICATES
    from capplan.plan.risk import risk

    key = "vm.min_free_kbytes"
    runs.doing = key
    scenario = capplan.sim.expand.expand(spec)
    now = capplan.sim.run.run(_short(scenario)).wmarks
    present = sum(marks[0] for marks in now.values()) * PAGE_SIZE // 1024
    some = min(len(count), DEFAULT_REPLICATES)
    columns, fits = [], []
    for value in (present, 2 * present, 4 * present):
        made = runs.make({**settings, key: str(value)})
        if made.error:
            continue
        found = risk(made, runs.store, seed=runs.seed, replicates=some, pool=runs.pool)
        columns.append(Setting(f"{key}={value}", {key: str(value)}, risk=found))
        rows = runs.under({**settings, key: str(value)}, range(1, some + 1))
        fits.append({replicate: bool(row.get("node.fits")) for replicate, row in rows})
    chosen, why = pick(columns, fits)
    value = present if chosen is None else int(columns[chosen].settings[key])
    if value == present:
        return {}, f"{key} stays at {present}: {2 * present} and {4 * present} do no better"
    return {key: value}, why


def _short(scenario: Scenario) -> Scenario:
    """The same node for a moment: its marks are set at the start."""
    return replace(scenario, duration_ns=1_000_000, sample_ns=1_000_000)


def _reserved(spec: NodeSpec, seed: int) -> Reserved:
    run = capplan.sim.run.run(_short(capplan.sim.expand.expand(spec, seed=seed)))
    system = spec.node.system
    high = sum(marks[2] for marks in run.wmarks.values()) * PAGE_SIZE
    daemons = int(system.daemons.memory) + int(system.daemons.shmem)
    return Reserved(int(system.kernel), daemons, high)


# --- percentile rules ----------------------------------------------------------------------


def _rivals(
    runs: Rows, spec: NodeSpec, peaks: Mapping[str, Sequence[float]], count: Sequence[int]
) -> Iterable[Rival]:
    """The two rules that recommenders of today use, from one recorded (unlimited) run."""
    days = max(round(spec.run.duration / 1e9 / DAY_S), 1)
    recorded = {name: list(sizes[:days]) for name, sizes in peaks.items()}
    rules: tuple[tuple[str, Callable[[list[float]], float]], ...] = (
        ("the recorded maximum + 15 %", max),
        ("p90 of daily peaks x 1.15", lambda sizes: float(np.quantile(sizes, 0.9))),
    )
    for name, rule in rules:
        runs.doing = name
        limits = {c: _round(SPARE * rule(sizes)) for c, sizes in recorded.items()}
        settings = {_key(spec, c): format_k8s(size) for c, size in limits.items()}
        total = sum(size * spec.containers[c].replicas for c, size in limits.items())
        yield Rival(name, limits, total, runs.bad(settings, count))


# --- in words ------------------------------------------------------------------------------


def _advice(
    spec: NodeSpec, name: str, limit: int, high: int | None, peaks: Sequence[float], found: Found
) -> Advice:
    container = spec.containers[name]
    written = container.written().get(_limit_file(spec))
    present = None if written is None or written < 0 or written >= 1 << 60 else int(written)
    peak = int(np.quantile(peaks, 0.95))
    middle = int(np.quantile(peaks, 0.5))
    return Advice(
        container=name,
        replicas=container.replicas,
        limit_key=_limit_file(spec),
        present_limit=present,
        limit=limit,
        high=high,
        request=min(_round(middle), high or limit),
        peak=peak,
        confidence=found.confidence,
        reason=_reason(present, limit, peak, container.replicas),
    )


def _reason(present: int | None, limit: int, peak: int, replicas: int) -> str:
    each = "" if replicas == 1 else f", {replicas} times"
    if present is None:
        bought = "there was no limit; now a leak ends here"
    elif limit < present:
        bought = f"gives back {format_bytes(present - limit)}{each}"
    elif limit > present:
        bought = f"costs {format_bytes(limit - present)} more{each}"
    else:
        bought = "stays as it is"
    cache = (
        "" if limit >= peak else f"; of its unlimited peak {format_bytes(peak - limit)} is cache"
    )
    return bought + cache


def _present(advice: Sequence[Advice]) -> int | None:
    sizes = [one.present_limit for one in advice]
    if any(size is None for size in sizes):
        return None
    return sum((one.present_limit or 0) * one.replicas for one in advice)


def _verdict(
    fits: bool, advice: Sequence[Advice], bad: Proportion, present: Proportion, max_risk: float
) -> str:
    total = format_bytes(sum(one.limit * one.replicas for one in advice))
    if not fits:
        return (
            f"No limits meet a risk of {percent(max_risk)} %: with all of them at {total} it is "
            f"{bad}; the node is too small, or something grows without end."
        )
    now = _present(advice)
    saved = ""
    if now is not None:
        saved = f" instead of {format_bytes(now)}"
    return (
        f"Limits of {total} in all{saved} keep the risk within {percent(max_risk)} %: "
        f"{bad} in {bad.runs:,} runs (as it is written: {present})."
    )


def _notes(found: Mapping[str, Found], count: int, max_risk: float) -> Iterable[str]:
    if count < runs_needed(max_risk, CONFIDENCE):
        sure = min(one.confidence for one in found.values())
        yield (
            f"{count} runs show a risk of at most {percent(max_risk)} % with {100 * sure:.0f} % "
            f"confidence only; {runs_needed(max_risk, CONFIDENCE)} would with 95 %"
        )
    for name, one in found.items():
        if one.level is None:
            yield f"{name}: fails without a limit of its own too: the node is short of memory"
        if one.violations:
            yield (
                f"{name}: {one.violations} of {one.checked} runs that went well at its limit "
                "failed at a larger one: more is not always better here"
            )
