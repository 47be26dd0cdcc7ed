"""The library's ``compare``: settings side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.api import Count, Runs, load

if TYPE_CHECKING:
    from capplan.plan.compare_model import Comparison
    from capplan.plan.executor import Executor

__all__ = ["ComparisonResult", "combinations", "compare"]


class ComparisonResult(Runs):
    """Finished runs of several settings.

    Attributes
    ----------
    comparison : Comparison
        Risks, marks and bursts of each setting, and the pick.
    """

    def __init__(self, seed: int, resolved: dict[str, Any], store: str | Path | None) -> None:
        super().__init__(store)
        self.seed = seed
        self.resolved = resolved
        self.comparison: Comparison

    @property
    def fits(self) -> bool | None:
        """Whether the picked setting is within the gate; None: the runs do not decide it."""
        return self.comparison.fits

    @property
    def verdict(self) -> str:
        """Which setting to take, and why, in a sentence or two."""
        return self.comparison.verdict

    def text(self) -> str:
        """The result as plain text."""
        from capplan.report import compare_text

        return compare_text.comparison_text(self.comparison)

    def write(self, directory: str | Path, *, command: str = "", parquet: bool = False) -> None:
        """Write summary.json and the tables (docs/results.md)."""
        from capplan.report import compare as report

        report.write_comparison(
            self.comparison,
            Path(directory),
            self.points,
            self.store,
            command=command,
            seed=self.seed,
            resolved=self.resolved,
            parquet=parquet,
        )


def combinations(
    axes: Mapping[str, Sequence[str]], *, paired: bool = False
) -> list[dict[str, str]]:
    """The settings that lists of values make: every combination, or one by one.

    Raises
    ------
    InputError
        Lists of different lengths that are to be paired.
    """
    from capplan.errors import InputError
    from capplan.plan.point import grid

    if not paired:
        return grid(axes)
    lengths = {key: len(values) for key, values in axes.items() if len(values) > 1}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {count}" for key, count in lengths.items())
        raise InputError(f"--paired needs lists of one length: {told}")
    count = max(lengths.values(), default=1)
    full = {key: list(values) * (count if len(values) == 1 else 1) for key, values in axes.items()}
    return [dict(zip(full, values)) for values in zip(*full.values())]


def compare(
    node: str | Path,
    settings: Mapping[str, Sequence[str]] | Sequence[Mapping[str, str]],
    *,
    names: Sequence[str] = (),
    seed: int | None = None,
    duration: str | None = None,
    replicates: int = 100,
    bursts: bool = True,
    jobs: int | None = None,
    executor: Executor = "local",
    address: str | None = None,
    store: str | Path | None = None,
    progress: Count | None = None,
) -> ComparisonResult:
    """Run ``node`` under several settings with the same draws; say which to take.

    Parameters
    ----------
    node : str or Path
        A node file.
    settings : mapping of str to list of str, or list of mappings
        The values of each key (every combination), or the settings themselves.
    names : sequence of str, optional
        What the settings are called, one by one.
    seed, duration
        As in :func:`load`.
    replicates : int
        Runs per setting.
    bursts : bool
        Measure the burst that each setting absorbs.
    jobs, executor, address, store, progress
        As in :func:`risk`.

    Returns
    -------
    ComparisonResult
    """
    import capplan.plan.compare as plan
    from capplan.plan.executor import LazyPool
    from capplan.plan.point import points, variant
    from capplan.plan.risk import replicates_of

    wanted = combinations(settings) if isinstance(settings, Mapping) else list(settings)
    base = load(node, seed=seed, duration=duration)
    given = {} if duration is None else {"run.duration": duration}
    variants = []
    for n, one in enumerate(wanted):
        made = variant(node, {**given, **one}, n, keep_errors=True)
        name = names[n] if names else ""
        variants.append(dataclasses.replace(made, settings=dict(one), name=name))
    result = ComparisonResult(base.run.seed, base.resolved, store)
    with LazyPool(jobs, executor, address) as pool:
        result.comparison = plan.compare(
            variants,
            result.store,
            seed=base.run.seed,
            replicates=replicates,
            bursts=bursts,
            pool=pool,
            progress=progress,
            written=variant(node, given, keep_errors=True).digest,
        )
    result.points = list(points(variants, replicates_of(replicates), base.run.seed))
    result.settings = result.comparison.keys
    return result
