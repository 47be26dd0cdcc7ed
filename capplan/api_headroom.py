"""The library's ``headroom`` and ``recommend``: how much more, how much less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from capplan.api import Runs, load

if TYPE_CHECKING:
    from capplan.plan.executor import Executor
    from capplan.plan.headroom import Headroom
    from capplan.plan.recommend_model import Recommendation
    from capplan.plan.rows import MakeVariant
    from capplan.spec import NodeSpec

__all__ = ["HeadroomResult", "RecommendationResult", "headroom", "recommend"]


class _Found(Protocol):
    """What a search found, whichever it was."""

    @property
    def fits(self) -> bool: ...

    @property
    def verdict(self) -> str: ...


A = TypeVar("A", bound=_Found)


class _Answer(Generic[A]):
    """An answer, with the seed and the input that it is of."""

    def __init__(self, found: A, seed: int, resolved: dict[str, Any]) -> None:
        self.found = found
        self.seed = seed
        self.resolved = resolved

    @property
    def fits(self) -> bool:
        """Whether the bar is met: by the node as it is written, or by what is recommended."""
        return self.found.fits

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        return self.found.verdict


class HeadroomResult(_Answer["Headroom"]):
    """How much more a node bears."""

    @property
    def headroom(self) -> Headroom:
        """What was found for each knob."""
        return self.found

    def text(self) -> str:
        """The result as plain text."""
        from capplan.report.headroom import headroom_text

        return headroom_text(self.found)

    def write(self, directory: str | Path, *, command: str = "") -> None:
        """Write summary.json and headroom.csv (docs/results.md)."""
        from capplan.report.headroom import write_headroom

        place = Path(directory)
        write_headroom(self.found, place, command=command, seed=self.seed, resolved=self.resolved)


class RecommendationResult(_Answer["Recommendation"]):
    """What to write for a node."""

    @property
    def recommendation(self) -> Recommendation:
        """Limits, requests, reserves, sysctls, and how percentile rules do."""
        return self.found

    def text(self) -> str:
        """The result as plain text."""
        from capplan.report.recommend import recommendation_text

        return recommendation_text(self.found)

    def write(self, directory: str | Path, *, command: str = "") -> None:
        """Write summary.json, recommendation.json and recommendation.csv (docs/results.md)."""
        from capplan.report.recommend import write_recommendation

        place = Path(directory)
        write_recommendation(
            self.found, place, command=command, seed=self.seed, resolved=self.resolved
        )


def headroom(
    node: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    seed: int | None = None,
    duration: str | None = None,
    max_risk: float | None = None,
    replicates: int | None = None,
    kinds: Sequence[str] | None = None,
    containers: Sequence[str] = (),
    jobs: int | None = None,
    executor: Executor = "local",
    address: str | None = None,
    store: str | Path | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> HeadroomResult:
    """Turn knobs of ``node`` until its risk leaves the bar.

    Parameters
    ----------
    node : str or Path
        A node file.
    settings, seed, duration
        As in :func:`load`.
    max_risk : float, optional
        Bar of the risk that anything is killed, paused or evicted; None: the gate's
        ``max_kill_risk``.
    replicates : int, optional
        Runs per value; None: as many as show the bar with 95 % confidence.
    kinds : sequence of str, optional
        Which of ``replicas``, ``limit``, ``memory``, ``leak``; None: all.
    containers : sequence of str
        Whose; empty: all.
    jobs, executor, address, store
        As in :func:`risk`.
    progress : callable, optional
        Called with the knob's key and the number of runs so far.

    Returns
    -------
    HeadroomResult
    """
    import capplan.plan.headroom as plan

    def search(make: MakeVariant, **given: Any) -> Headroom:
        return plan.headroom(make, kinds=plan.KINDS if kinds is None else kinds, **given)

    asked = _Asked(node, settings, seed, duration, max_risk, replicates, containers)
    return HeadroomResult(*asked.of(search, jobs, executor, address, store, progress))


def recommend(
    node: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    seed: int | None = None,
    duration: str | None = None,
    max_risk: float | None = None,
    replicates: int | None = None,
    containers: Sequence[str] = (),
    jobs: int | None = None,
    executor: Executor = "local",
    address: str | None = None,
    store: str | Path | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> RecommendationResult:
    """Find the least limits of ``node`` within a bar of risk, and what goes with them.

    Parameters
    ----------
    node : str or Path
        A node file.
    settings, seed, duration
        As in :func:`load`.
    max_risk : float, optional
        Bar of the risk that anything is killed, paused or evicted; None: the gate's
        ``max_kill_risk``.
    replicates : int, optional
        Runs per value; None: as many as show the bar with 95 % confidence.
    containers : sequence of str
        Whose; empty: all.
    jobs, executor, address, store
        As in :func:`risk`.
    progress : callable, optional
        Called with what is being found and the number of runs so far.

    Returns
    -------
    RecommendationResult
    """
    import capplan.plan.recommend as plan

    asked = _Asked(node, settings, seed, duration, max_risk, replicates, containers)
    return RecommendationResult(*asked.of(plan.recommend, jobs, executor, address, store, progress))


@dataclass(frozen=True)
class _Asked:
    """What a search is asked: see :func:`headroom`."""

    node: str | Path
    settings: Mapping[str, str] | None
    seed: int | None
    duration: str | None
    max_risk: float | None
    replicates: int | None
    containers: Sequence[str]

    def of(
        self,
        search: Callable[..., A],
        jobs: int | None,
        executor: Executor,
        address: str | None,
        store: str | Path | None,
        progress: Callable[[str, int], None] | None,
    ) -> tuple[A, int, dict[str, Any]]:
        """The answer, the seed and the resolved input."""
        from capplan.plan.executor import LazyPool
        from capplan.plan.point import Variant, variant

        base = load(self.node, settings=self.settings, seed=self.seed, duration=self.duration)
        _known(base, self.containers)
        lasting = {} if self.duration is None else {"run.duration": self.duration}
        given = {**(self.settings or {}), **lasting}

        def make(more: dict[str, str]) -> Variant:
            return variant(self.node, {**given, **more}, keep_errors=bool(more))

        runs = Runs(store)
        with LazyPool(jobs, executor, address) as pool:
            found = search(
                make,
                store=runs.store,
                seed=base.run.seed,
                max_risk=base.gate.max_kill_risk if self.max_risk is None else self.max_risk,
                replicates=self.replicates,
                containers=self.containers,
                pool=pool,
                progress=progress,
            )
        return found, base.run.seed, base.resolved


def _known(spec: NodeSpec, containers: Sequence[str]) -> None:
    """Refuse a container that the node has not."""
    from capplan.errors import InputError, closest

    for name in containers:
        if name not in spec.containers:
            near = closest(name, spec.containers)
            meant = f"\n    did you mean '{near}'?" if near else ""
            raise InputError(f"{spec.path}: no container '{name}'{meant}")
