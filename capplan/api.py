"""The verbs of the library: what the command line uses, and nothing more.

>>> import capplan
>>> result = capplan.simulate(capplan.load("node.yaml"))  # doctest: +SKIP
>>> result.verdict, result.timeseries  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from capplan.plan.executor import Executor
    from capplan.plan.outcome_model import Outcome
    from capplan.plan.point import Point, Variant
    from capplan.plan.risk import Risk
    from capplan.plan.store import Store
    from capplan.sim.result import Event, Run
    from capplan.sim.scenario import Scenario
    from capplan.spec import Loaded

__all__ = ["RiskResult", "Runs", "Simulation", "expand", "load", "risk", "simulate"]

Progress = Callable[[float], None]  # share done, 0 to 1
Count = Callable[[int], None]  # runs finished


def load(
    path: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    seed: int | None = None,
    duration: str | None = None,
) -> Loaded:
    """Read and check a node file and the profiles it names.

    Parameters
    ----------
    path : str or Path
        The node file.
    settings : mapping of str to str, optional
        Dotted keys and their new values, as after ``--set``:
        ``{"containers.web.memory.max": "512Mi"}``.
    seed : int, optional
        Instead of ``run.seed``.
    duration : str, optional
        Instead of ``run.duration``: "90s", "24h".

    Returns
    -------
    Loaded
        The checked input, with its warnings.

    Raises
    ------
    capplan.errors.CapplanError
        All that is wrong with the files, with places and repairs.
    """
    import capplan.spec

    changes = dict(settings or {})
    if seed is not None:
        changes["run.seed"] = str(seed)
    if duration is not None:
        changes["run.duration"] = duration
    return capplan.spec.load(Path(path), changes)


def expand(node: Loaded | Scenario | str | Path, *, replicate: int = 0) -> Scenario:
    """What ``node`` means in the kernel's units (pages, nanoseconds).

    ``replicate`` is the number of the run among many (its draws); 0 is the single run.
    """
    from capplan.sim.scenario import Scenario

    if isinstance(node, Scenario):
        return node
    if isinstance(node, str | Path):
        node = load(node)
    import capplan.sim.expand

    return capplan.sim.expand.expand(node, replicate=replicate)


@dataclasses.dataclass(frozen=True, repr=False)
class Simulation:
    """A finished simulation and what it means.

    Attributes
    ----------
    run : Run
        Events, series and totals as the engine left them.
    outcome : Outcome
        The verdict and its evidence.
    resolved : dict
        The input with every default filled in; empty when it came from a Scenario.
    """

    run: Run
    outcome: Outcome
    resolved: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """The verdict: what a prompt or a notebook shows."""
        return f"<{type(self).__name__}: {self.verdict}>"

    @property
    def fits(self) -> bool:
        """No kill, pause, eviction or unfinished work, and throttling within the gate."""
        return self.outcome.fits

    @property
    def verdict(self) -> str:
        """The verdict in one sentence."""
        return self.outcome.verdict

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, in order."""
        return self.run.events

    @functools.cached_property
    def timeseries(self) -> pd.DataFrame:
        """All series as a DataFrame indexed by time [s]."""
        return self.run.timeseries

    def summary(self, command: str = "") -> dict[str, Any]:
        """What summary.json holds."""
        from capplan.report import results

        return results.summary(
            self.outcome, self.run, command=command, resolved=self.resolved or None
        )

    def write(
        self,
        directory: str | Path,
        *,
        command: str = "",
        picture: bool = True,
        page: bool = False,
    ) -> None:
        """Write the result directory (see :func:`capplan.report.results.write`)."""
        from capplan.report import results

        results.write(
            self.outcome,
            self.run,
            Path(directory),
            command=command,
            resolved=self.resolved or None,
            picture=picture,
            page=page,
        )


def simulate(
    node: Loaded | Scenario | str | Path,
    *,
    replicate: int = 0,
    progress: Progress | None = None,
) -> Simulation:
    """Run ``node`` once.

    Parameters
    ----------
    node : Loaded, Scenario, str or Path
        What :func:`load` returned, a scenario, or a node file's path.
    replicate : int, default 0
        Which of the runs of a risk run or sweep: replicate 17 is the same alone as among others.
    progress : callable, optional
        Called with the share done (0 to 1) some ten times a second.

    Returns
    -------
    Simulation
        The run and its verdict.
    """
    import capplan.plan.outcome
    import capplan.sim.run
    from capplan.plan.reach_phases import unreached
    from capplan.plan.stock import pause_is_assumed, stock_kernel
    from capplan.sim.scenario import Scenario

    if isinstance(node, str | Path):
        node = load(node)
    scenario = expand(node, replicate=replicate)
    run = capplan.sim.run.run(scenario, progress, replicate)
    stock = None
    if pause_is_assumed(run):
        stock = capplan.sim.run.run(stock_kernel(scenario), replicate=replicate)
    outcome = capplan.plan.outcome.analyse(run, getattr(node, "gate", None), stock)
    if not isinstance(node, Scenario):
        notes = (*outcome.notes, *unreached(node))
        outcome = dataclasses.replace(outcome, notes=notes)
    return Simulation(run, outcome, getattr(node, "resolved", {}))


# --- many runs -----------------------------------------------------------------------------


class Runs:
    """Finished runs of many points, and their tables.

    Attributes
    ----------
    store : Store
        Where the rows are: a file of the caller's, or one that is gone with this object.
    """

    def __init__(self, store: str | Path | None) -> None:
        import tempfile

        from capplan.plan.store import Store
        from capplan.report.many import STORE

        own = tempfile.mkdtemp(prefix="capplan-") if store is None else None
        place = Path(own or store or ".")
        self.store: Store = Store(place if place.suffix == ".sqlite" else place / STORE)
        weakref.finalize(self, _let_go, self.store, own)
        self.points: Iterable[Point] = ()
        self.settings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The verdict: what a prompt or a notebook shows."""
        return f"<{type(self).__name__}: {getattr(self, 'verdict', 'no verdict')}>"

    @functools.cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run: what was set, the node's metrics (``capplan.plan.metrics``)."""
        from capplan.report import many

        rows = many.run_rows(self.points, self.store, self.settings)
        return many.frame(many.run_columns(self.settings), rows)

    @functools.cached_property
    def containers(self) -> pd.DataFrame:
        """One row per run and container's replica."""
        from capplan.report import many

        rows = many.container_rows(self.points, self.store)
        return many.frame(many.container_columns(), rows)


def _let_go(store: Store, own: str | None) -> None:
    """Close a store; remove the folder that was made for it."""
    import shutil

    store.close()
    if own is not None:
        shutil.rmtree(own, ignore_errors=True)


class RiskResult(Runs):
    """A finished risk run.

    Attributes
    ----------
    risk : Risk
        Probabilities, times, victims and their evidence.
    """

    def __init__(self, variant: Variant, seed: int, store: str | Path | None) -> None:
        super().__init__(store)
        self.variant = variant
        self.seed = seed
        self.risk: Risk

    @property
    def fits(self) -> bool | None:
        """Whether the risks are within the gate; None: the runs do not decide it."""
        return self.risk.fits

    @property
    def verdict(self) -> str:
        """The verdict in one sentence."""
        return self.risk.verdict

    def text(self) -> str:
        """The result as plain text."""
        from capplan.report import many_text

        return many_text.risk_text(self.risk)

    def write(self, directory: str | Path, *, command: str = "", parquet: bool = False) -> None:
        """Write summary.json and the tables (docs/results.md)."""
        from capplan.report import many

        many.write_risk(
            self.risk,
            Path(directory),
            self.points,
            self.store,
            command=command,
            seed=self.seed,
            resolved={} if self.variant.spec is None else self.variant.spec.resolved,
            parquet=parquet,
        )


def risk(
    node: Loaded | str | Path,
    *,
    replicates: int = 1000,
    until: float | None = None,
    rare: str | None = None,
    jobs: int | None = None,
    executor: Executor = "local",
    address: str | None = None,
    store: str | Path | None = None,
    progress: Count | None = None,
) -> RiskResult:
    """Run ``node`` many times, each time with other draws.

    Parameters
    ----------
    node : Loaded, str or Path
        What :func:`load` returned, or a node file's path.
    replicates : int
        Runs; with ``until`` the most of them.
    until : float, optional
        Stop when the 95 % intervals of the node's risks have this half-width, looking only
        after 200, 400, 800, ... runs.
    rare : str, optional
        ``kill``, ``pause`` or ``evict``: split towards it, in at most ``replicates`` runs of which
        the first fifth are plain ones. Sees probabilities down to about 1 / ``replicates``.
    jobs : int, optional
        Worker processes; None: one per core.
    executor, address
        ``"dask"`` and a scheduler's address (None: a local cluster).
    store : str or Path, optional
        A directory or .sqlite file that keeps finished runs: what is there is not run again.
    progress : callable, optional
        Called with the number of runs finished.

    Returns
    -------
    RiskResult
    """
    import capplan.plan.risk as plan
    from capplan.plan.executor import LazyPool
    from capplan.plan.point import of_spec, points
    from capplan.plan.rare import first_level

    loaded = load(node) if isinstance(node, str | Path) else node
    variant, seed = of_spec(loaded), loaded.run.seed
    result = RiskResult(variant, seed, store)
    common: dict[str, Any] = {"seed": seed, "progress": progress}
    with LazyPool(jobs, executor, address) as pool:
        common["pool"] = pool
        plain = replicates if rare is None else first_level(replicates)
        found = plan.risk(variant, result.store, replicates=plain, until=until, **common)
        if rare is not None:
            small = plan.rare_risk(variant, result.store, incident=rare, runs=replicates, **common)
            found = plan.with_rare(found, small, rare)
    result.risk = found
    result.points = list(points([variant], plan.replicates_of(result.risk.stop.at), seed))
    return result
