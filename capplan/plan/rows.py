"""Rows of replicates under settings: what the searches of headroom and recommend ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from capplan.plan.executor import run_points
from capplan.plan.intervals import Proportion, proportion
from capplan.plan.metrics import well
from capplan.plan.point import Variant, points

if TYPE_CHECKING:
    from capplan.plan.executor import Pool
    from capplan.plan.store import Store

__all__ = ["MakeVariant", "Row", "Rows", "Settings", "well_and_unthrottled"]

Settings = dict[str, str]
Row = dict[str, Any]
MakeVariant = Callable[[Settings], Variant]


def well_and_unthrottled(row: Row) -> bool:
    """Whether nothing was throttled beyond the gate either."""
    return well(row) and not row["node.throttles"]


class Rows:
    """Runs replicates under settings, and counts them.

    Parameters
    ----------
    make : callable
        The variant of settings; one that cannot be run has its error.
    store : Store
        Keeps finished runs.
    seed : int
        Of replicate 1.
    pool : Pool, optional
        Where they run; None: in this process.
    progress : callable, optional
        Called with :attr:`doing` and the number of runs so far.

    Attributes
    ----------
    doing : str
        What is being searched, for the progress.
    done : int
        Runs so far.
    """

    def __init__(
        self,
        make: MakeVariant,
        store: Store,
        seed: int,
        pool: Pool | None = None,
        progress: Callable[[str, int], None] | None = None,
    ) -> None:
        self.make, self.store, self.seed, self.pool = make, store, seed, pool
        self.progress = progress
        self.done = 0
        self.doing = ""

    def under(
        self, settings: Settings, replicates: Sequence[int], *, until_bad: bool = False
    ) -> list[tuple[int, Row]]:
        """Each replicate's row, in their order; an error's where the settings cannot be run."""
        made = self.make(settings)
        if made.error:
            return [(replicate, {"error": made.error}) for replicate in replicates]
        found = []
        some = points([made], replicates, self.seed, until_bad=until_bad)
        for point, row in run_points(some, self.store, pool=self.pool):
            self.done += 1
            if self.progress is not None:
                self.progress(self.doing, self.done)
            found.append((point.replicate, row))
        return sorted(found, key=lambda pair: pair[0])  # in which order they end is chance

    def wells(self, settings: Settings, replicates: Sequence[int]) -> list[tuple[int, bool]]:
        """Each replicate with whether it went well, as a search asks.

        A run is over when it went badly: what a kill and all that follows it cost is saved.
        """
        rows = self.under(settings, replicates, until_bad=True)
        return [(replicate, well(row)) for replicate, row in rows]

    def bad(self, settings: Settings, replicates: Sequence[int]) -> Proportion:
        """The share of the replicates that did not go well."""
        return proportion(
            sum(not fine for _, fine in self.wells(settings, replicates)), len(replicates)
        )
