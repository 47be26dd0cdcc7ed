"""The verbs of the library: what the command line uses, and nothing more.

>>> import capplan
>>> result = capplan.simulate(capplan.load("node.yaml"))  # doctest: +SKIP
>>> result.verdict, result.timeseries  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from capplan.plan.outcome_model import Outcome
    from capplan.sim.result import Event, Run
    from capplan.sim.scenario import Scenario
    from capplan.spec import Loaded

__all__ = ["Simulation", "expand", "load", "simulate"]

Progress = Callable[[float], None]  # share done, 0 to 1


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


@dataclasses.dataclass(frozen=True)
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

    def write(self, directory: str | Path, *, command: str = "", picture: bool = True) -> None:
        """Write the result directory (see :func:`capplan.report.results.write`)."""
        from capplan.report import results

        results.write(
            self.outcome,
            self.run,
            Path(directory),
            command=command,
            resolved=self.resolved or None,
            picture=picture,
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
    from capplan.plan.stock import pause_is_assumed, stock_kernel

    if isinstance(node, str | Path):
        node = load(node)
    scenario = expand(node, replicate=replicate)
    run = capplan.sim.run.run(scenario, progress, replicate)
    stock = None
    if pause_is_assumed(run):
        stock = capplan.sim.run.run(stock_kernel(scenario), replicate=replicate)
    outcome = capplan.plan.outcome.analyse(run, getattr(node, "gate", None), stock)
    return Simulation(run, outcome, getattr(node, "resolved", {}))
