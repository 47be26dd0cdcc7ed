"""``capplan.sweep``: a sweep file in, its points and their figures out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.api import Runs

if TYPE_CHECKING:
    import pandas as pd

    from capplan.plan.executor import Executor
    from capplan.plan.sweep import Plan, Sweep

__all__ = ["SweepResult", "planned", "sweep"]


class SweepResult(Runs):
    """A finished sweep.

    Attributes
    ----------
    sweep : Sweep
        The points, which fit, and what moves the risk.
    """

    def __init__(self, plan: Plan, store: str | Path | None) -> None:
        super().__init__(store)
        self.plan = plan
        self.settings = tuple(knob.key for knob in plan.spec.knobs)
        self.sweep: Sweep

    @property
    def verdict(self) -> str:
        """The verdict in one sentence."""
        return self.sweep.verdict

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """One row per point: its settings, whether it fits, each risk, mean metrics."""
        import pandas as pd

        rows = []
        for point in self.sweep.points:
            risks = {what: found.p for what, found in point.risks.items()}
            rows.append({**point.settings, "fits": point.fits, **risks, **point.metrics})
        return pd.DataFrame(rows)

    def text(self) -> str:
        """The result as plain text."""
        from capplan.report.sweep_results import sweep_text

        return sweep_text(self.sweep)

    def write(self, directory: str | Path, *, command: str = "", parquet: bool = False) -> None:
        """Write summary.json and the tables (docs/results.md)."""
        from capplan.report.sweep_results import write_sweep

        spec = self.plan.first.spec
        resolved: dict[str, Any] = {} if spec is None else spec.resolved
        write_sweep(
            self.sweep, Path(directory), self.plan, self.store, command=command,
            resolved=resolved, parquet=parquet,
        )  # fmt: skip


def sweep(
    file: Plan | str | Path,
    *,
    jobs: int | None = None,
    executor: Executor = "local",
    address: str | None = None,
    store: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> SweepResult:
    """Run all points of a sweep file.

    Parameters
    ----------
    file : Plan, str or Path
        What :func:`planned` returned, or a sweep file's path.
    jobs, executor, address, store
        As in :func:`capplan.risk`.
    progress : callable, optional
        Called with the number of runs finished.

    Returns
    -------
    SweepResult

    Raises
    ------
    capplan.errors.CapplanError
        The files are wrong, or every run failed.
    """
    import capplan.plan.sweep
    from capplan.plan.executor import LazyPool

    plan = planned(file) if isinstance(file, str | Path) else file
    result = SweepResult(plan, store)
    with LazyPool(jobs, executor, address) as pool:
        result.sweep = capplan.plan.sweep.sweep(plan, result.store, pool=pool, progress=progress)
    result.points = plan
    return result


def planned(path: str | Path) -> Plan:
    """Read a sweep file and lay out its points; ``len`` of it is the number of runs.

    Raises
    ------
    capplan.errors.InputError
        What is wrong with the sweep file, or with the node file it names.
    """
    from capplan.api import load
    from capplan.plan.design import design
    from capplan.plan.sweep import Plan
    from capplan.spec.sweep import load_sweep

    spec = load_sweep(path)
    given = spec.model.seed
    seed = load(spec.node).run.seed if given is None else given
    return Plan(spec, design(spec, seed), seed)
