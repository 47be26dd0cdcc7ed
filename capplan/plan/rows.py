"""Rows of replicates under settings: what the searches of headroom and recommend ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from capplan.plan.executor import run_points
from capplan.plan.intervals import Proportion, proportion
from capplan.plan.point import Variant, points

if TYPE_CHECKING:
    from capplan.plan.executor import Pool
    from capplan.plan.store import Store

__all__ = ["MakeVariant", "Row", "Rows", "Settings", "well", "well_and_unthrottled"]

Settings = dict[str, str]
Row = dict[str, Any]
MakeVariant = Callable[[Settings], Variant]

BAD = ("node.kills", "node.pauses", "node.evictions")


def well(row: Row) -> bool:
    """Whether a run ended without a kill, a pause, an eviction or a panic."""
    # a panic at 0 s is one too: its time is what tells, not its truth
    return "error" not in row and not any(row[k] for k in BAD) and row["node.panic_t"] is None


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

    def under(self, settings: Settings, replicates: Sequence[int]) -> list[tuple[int, Row]]:
        """Each replicate's row, in their order; an error's where the settings cannot be run."""
        made = self.make(settings)
        if made.error:
            return [(replicate, {"error": made.error}) for replicate in replicates]
        found = []
        some = points([made], replicates, self.seed)
        for point, row in run_points(some, self.store, pool=self.pool):
            self.done += 1
            if self.progress is not None:
                self.progress(self.doing, self.done)
            found.append((point.replicate, row))
        return sorted(found, key=lambda pair: pair[0])  # in which order they end is chance

    def wells(
        self,
        settings: Settings,
        replicates: Sequence[int],
        rule: Callable[[Row], bool] = well,
    ) -> list[tuple[int, bool]]:
        """Each replicate with whether it went well, as a search asks."""
        return [(replicate, rule(row)) for replicate, row in self.under(settings, replicates)]

    def bad(self, settings: Settings, replicates: Sequence[int]) -> Proportion:
        """The share of the replicates that did not go well."""
        return proportion(
            sum(not fine for _, fine in self.wells(settings, replicates)), len(replicates)
        )
