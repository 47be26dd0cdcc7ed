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


def expand(node: Loaded | Scenario | str | Path) -> Scenario:
    """What ``node`` means in the kernel's units (pages, nanoseconds)."""
    from capplan.sim.scenario import Scenario

    if isinstance(node, Scenario):
        return node
    if isinstance(node, str | Path):
        node = load(node)
    import capplan.sim.expand

    return capplan.sim.expand.expand(node)


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
    node: Loaded | Scenario | str | Path, *, progress: Progress | None = None
) -> Simulation:
    """Run ``node`` once.

    Parameters
    ----------
    node : Loaded, Scenario, str or Path
        What :func:`load` returned, a scenario, or a node file's path.
    progress : callable, optional
        Called with the share done (0 to 1) some ten times a second.

    Returns
    -------
    Simulation
        The run and its verdict.
    """
    import capplan.plan.outcome
    import capplan.sim.run

    if isinstance(node, str | Path):
        node = load(node)
    scenario = expand(node)
    run = capplan.sim.run.run(scenario, progress)
    stock = capplan.sim.run.run(_stock_kernel(scenario)) if _pause_is_assumed(run) else None
    outcome = capplan.plan.outcome.analyse(run, getattr(node, "gate", None), stock)
    return Simulation(run, outcome, getattr(node, "resolved", {}))


def _pause_is_assumed(run: Run) -> bool:
    """Whether anything was paused (cgroup v1) because ``oom_kill_disable`` was left out."""
    assumed = any(group.oom_kill_disable_assumed for group in run.scenario.cgroups)
    return assumed and any(event.event == "paused" for event in run.events)


def _stock_kernel(scenario: Scenario) -> Scenario:
    """The scenario with ``oom_kill_disable: 0``, a stock kernel's, where 1 was assumed."""
    cgroups = tuple(
        dataclasses.replace(group, oom_kill_disable=False)
        if group.oom_kill_disable_assumed
        else group
        for group in scenario.cgroups
    )
    return dataclasses.replace(scenario, cgroups=cgroups)
