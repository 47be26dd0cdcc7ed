"""Each cost changed by 20 % up and down: no claim may hang on one constant."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from capplan.sim.scenario import Disk, Scenario
from capplan.validate.judge import judge
from capplan.validate.page_cache import Recorded, compare, missed, to_scenario
from capplan.validate.pool import workers
from capplan.validate.recording import scenario_of
from capplan.validate.truth import Recording

FACTORS = (0.8, 1.2)
DISK_SPEEDS = (
    "read_latency_ns",
    "write_latency_ns",
    "read_ns_per_page",
    "write_ns_per_page",
    "random_read_ns",
)


@dataclass(frozen=True)
class Outcome:
    """What passes when one cost is changed."""

    cost: str
    factor: float
    passed: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class PageCacheOutcome:
    """How near the model comes to the page cache runs when one cost is changed: means."""

    cost: str  # empty: none was changed
    factor: float
    operations: float  # relative error of an operation's time
    cache: float  # of RAM, as are used and dirty
    used: float
    dirty: float
    missed: tuple[str, ...]  # quantities that miss a bar


def costs_of_all(recordings: Sequence[Recording], defaults: Mapping[str, float]) -> list[str]:
    """Names of all costs that are in force in any of the recordings, disks' speeds included."""
    return _costs_of([scenario_of(recording.raw) for recording in recordings], defaults)


def _costs_of(scenarios: Sequence[Scenario], defaults: Mapping[str, float]) -> list[str]:
    names = set(defaults).union(*(scenario.node.costs for scenario in scenarios))
    return [*sorted(names), *(f"disk.{speed}" for speed in DISK_SPEEDS)]


def scale_cost(
    scenario: Scenario, cost: str, factor: float, defaults: Mapping[str, float]
) -> Scenario:
    """The scenario with one cost, or one speed of every disk, multiplied.

    ``contention`` is a factor itself: what it adds to 1 is scaled.
    """
    node = scenario.node
    if cost.startswith("disk."):
        name = cost.removeprefix("disk.")
        disks = tuple(_scale_disk(disk, name, factor) for disk in node.disks)
        return dataclasses.replace(scenario, node=dataclasses.replace(node, disks=disks))
    value = node.costs.get(cost, defaults.get(cost, 0.0))
    changed = 1 + (value - 1) * factor if cost == "contention" else value * factor
    costs = {**node.costs, cost: changed}
    return dataclasses.replace(scenario, node=dataclasses.replace(node, costs=costs))


def _scale_disk(disk: Disk, speed: str, factor: float) -> Disk:
    value = getattr(disk, speed) * factor
    whole = isinstance(getattr(disk, speed), int)
    changed: dict[str, Any] = {speed: round(value) if whole else value}
    return dataclasses.replace(disk, **changed)


def study(
    recordings: Sequence[Recording], defaults: Mapping[str, float], jobs: int = 1
) -> Iterator[Outcome]:
    """Judge all recordings once for each cost and factor."""
    cases = [(cost, factor) for cost in costs_of_all(recordings, defaults) for factor in FACTORS]
    work = functools.partial(_judge_case, tuple(recordings), dict(defaults))
    if jobs <= 1:
        yield from map(work, cases)
        return
    with workers(jobs) as pool:
        yield from pool.map(work, cases)


def _judge_case(
    recordings: tuple[Recording, ...], defaults: dict[str, float], case: tuple[str, float]
) -> Outcome:
    cost, factor = case

    def change(scenario: Scenario) -> Scenario:
        return scale_cost(scenario, cost, factor, defaults)

    verdicts = [judge(recording, change) for recording in recordings]
    return Outcome(
        cost,
        factor,
        tuple(v.name for v in verdicts if v.passed),
        tuple(v.name for v in verdicts if not v.passed),
    )


def study_page_cache(
    runs: Sequence[Recorded], defaults: Mapping[str, float]
) -> Iterator[PageCacheOutcome]:
    """Lay the model beside the page cache runs: as it is, then once for each cost and factor."""
    yield _page_cache_case(runs, defaults, "", 1.0)
    for cost in _costs_of([to_scenario(run) for run in runs], defaults):
        for factor in FACTORS:
            yield _page_cache_case(runs, defaults, cost, factor)


def _page_cache_case(
    runs: Sequence[Recorded], defaults: Mapping[str, float], cost: str, factor: float
) -> PageCacheOutcome:
    def change(scenario: Scenario) -> Scenario:
        return scale_cost(scenario, cost, factor, defaults) if cost else scenario

    found = [compare(run, change) for run in runs]
    return PageCacheOutcome(
        cost,
        factor,
        operations=float(np.mean([run.operation_error for run in found])),
        cache=float(np.mean([run.cache_error for run in found])),
        used=float(np.mean([run.used_error for run in found])),
        dirty=float(np.mean([run.dirty_error for run in found])),
        missed=tuple(sorted({bar for _, bar in missed(found)})),
    )
