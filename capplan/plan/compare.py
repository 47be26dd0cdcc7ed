"""Settings side by side: the same workloads under each, and which setting one would pick.

Replicate r of every setting meets the same draws (common random numbers), so settings are compared
replicate by replicate: what differs between two of them is the setting's doing, and far fewer runs
tell them apart than independent ones would.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import capplan.sim.expand
import capplan.sim.run
from capplan.plan import executor
from capplan.plan.burst import Burst, burst, tightest
from capplan.plan.compare_model import Comparison, Setting
from capplan.plan.compare_pick import against, pick
from capplan.plan.intervals import CONFIDENCE
from capplan.plan.outcome_agents import threshold_notes
from capplan.plan.outcome_context import Context
from capplan.plan.point import Variant, points
from capplan.plan.reach_phases import unreached
from capplan.plan.risk import Risk, replicates_of, risk
from capplan.sim.scenario import PAGE_SIZE
from capplan.spec.marks import Marks

if TYPE_CHECKING:
    from capplan.plan.executor import Pool
    from capplan.plan.store import Store
    from capplan.sim.result import Run
    from capplan.sim.scenario import Scenario

__all__ = ["compare"]

DEFAULT_REPLICATES = 100


def compare(
    variants: Sequence[Variant],
    store: Store,
    *,
    seed: int,
    replicates: int = DEFAULT_REPLICATES,
    bursts: bool = True,
    pool: Pool | None = None,
    progress: Callable[[int], None] | None = None,
    written: str = "",
) -> Comparison:
    """Run all variants with the same draws; say which one to take.

    Parameters
    ----------
    variants : sequence of Variant
        The settings, the present one first.
    store : Store
        Keeps finished runs.
    seed, replicates : int
        Of every setting.
    bursts : bool
        Measure what each absorbs (some twenty runs more per setting).
    pool : Pool, optional
        Workers.
    progress : callable, optional
        Called with the number of runs finished, over all settings.
    written : str
        Digest of the node file without any setting: where nothing parts the settings, it stays.

    Raises
    ------
    CapplanError
        No setting could be run.
    """
    executor.raise_if_all_failed({"error": made.error} if made.error else {} for made in variants)
    risks: list[Risk | None] = []
    for number, made in enumerate(variants):
        told = executor.beyond(progress, number * replicates)
        risks.append(
            None
            if made.error
            else risk(made, store, seed=seed, replicates=replicates, pool=pool, progress=told)
        )
    scenarios = [_scenario(made, seed) for made in variants]
    runs = [None if scenario is None else capplan.sim.run.run(scenario) for scenario in scenarios]
    found = _bursts(scenarios, runs) if bursts else [None] * len(variants)
    fits = [_fitting(made, store, seed, replicates) for made in variants]
    settings = tuple(
        Setting(
            label=made.label,
            settings=dict(made.settings),
            error=made.error,
            marks=None if run is None else _marks(run),
            risk=of_setting,
            against=against(fits[number], fits[0]) if number else None,
            burst=taken,
            warnings=_warnings(made, run),
            name=made.name,
        )
        for number, (made, run, of_setting, taken) in enumerate(zip(variants, runs, risks, found))
    )
    same = (n for n, made in enumerate(variants) if written and made.digest == written)
    chosen, why = pick(settings, fits, next(same, None))
    named = next(made.spec.name for made in variants if made.spec is not None)
    keys = tuple(dict.fromkeys(key for made in variants for key in made.settings))
    return Comparison(why, chosen, named, replicates, CONFIDENCE, settings, keys)


def _scenario(made: Variant, seed: int) -> Scenario | None:
    return None if made.spec is None else capplan.sim.expand.expand(made.spec, seed=seed)


def _marks(run: Run) -> Marks:
    managed = sum(zone.managed for zone in run.scenario.node.zones)
    sums = (sum(marks[n] for marks in run.wmarks.values()) for n in range(3))
    return Marks(managed * PAGE_SIZE, *(pages * PAGE_SIZE for pages in sums))


def _warnings(made: Variant, run: Run | None) -> tuple[str, ...]:
    """What its input is warned of, what the run is too short for, and idle eviction thresholds."""
    told: list[str] = []
    if made.spec is not None:
        told = [*map(str, made.spec.warnings), *unreached(made.spec)]
    return (*told, *([] if run is None else threshold_notes(Context(run))))


def _bursts(scenarios: Sequence[Scenario | None], runs: Sequence[Run | None]) -> list[Burst | None]:
    """Bursts at the moment that was tightest under the first setting that runs."""
    first = next(run for run in runs if run is not None)
    at_ns, available = tightest(first)
    with concurrent.futures.ThreadPoolExecutor() as threads:  # compiled code holds no GIL
        return list(
            threads.map(lambda s: None if s is None else burst(s, at_ns, available), scenarios)
        )


def _fitting(made: Variant, store: Store, seed: int, replicates: int) -> dict[int, bool]:
    """Whether each replicate went without incident; failed ones are left out."""
    by_key = {p.key: p.replicate for p in points([made], replicates_of(replicates), seed)}
    rows = store.rows(by_key)
    return {by_key[key]: bool(row["node.fits"]) for key, row in rows if "node.fits" in row}
