"""What a worker does, wherever it runs: a chunk of points in, their rows out."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capplan.errors import CapplanError
from capplan.plan import metrics
from capplan.plan.point import Point, unpack, unpacked
from capplan.plan.stock import pause_is_assumed, stock_kernel
from capplan.sim.expand_draws import Blend

if TYPE_CHECKING:
    from capplan.spec import NodeSpec

__all__ = ["Chunk", "Done", "Job", "chunk_of", "compute", "run_point"]

Done = tuple[str, str, float]  # key, the row's text, seconds it took


@dataclass(frozen=True)
class Job:
    """One point, as a worker needs it."""

    key: str
    digest: str  # of the variant
    seed: int
    replicate: int
    error: str = ""  # why the variant cannot be run
    blend: Blend = ()
    until_bad: bool = False


@dataclass(frozen=True)
class Chunk:
    """Points that go to a worker together, with the input they need, each thing once."""

    jobs: tuple[Job, ...]
    texts: Mapping[str, str]  # variants by digest
    files: Mapping[str, bytes]


def chunk_of(points: Sequence[Point]) -> Chunk:
    """Pack points for a worker."""
    texts: dict[str, str] = {}
    files: dict[str, bytes] = {}
    jobs = []
    for point in points:
        made = point.variant
        texts[made.digest] = made.text
        files.update(made.files)
        jobs.append(
            Job(
                key=point.key,
                digest=made.digest,
                seed=point.seed,
                replicate=point.replicate,
                error=made.error,
                blend=point.blend,
                until_bad=point.until_bad,
            )
        )
    return Chunk(tuple(jobs), texts, files)


def compute(chunk: Chunk) -> list[Done]:
    """Run the points of a chunk; one that fails is a row with its error."""
    done = []
    for job in chunk.jobs:
        begin = time.perf_counter()
        made = metrics.failed(job.error) if job.error else _row(job, chunk)
        done.append((job.key, metrics.dump(made), time.perf_counter() - begin))
    return done


def _row(job: Job, chunk: Chunk) -> metrics.Row:
    try:
        if job.digest not in _SPECS:
            if len(_SPECS) >= _MOST_SPECS:
                _SPECS.pop(next(iter(_SPECS)))
            _SPECS[job.digest] = unpack(chunk.texts[job.digest], chunk.files)
        spec = _SPECS[job.digest]
        return run_point(spec, job.seed, job.replicate, job.blend, until_bad=job.until_bad)
    except (CapplanError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
        text = str(error).replace(f"{unpacked()}/", "")  # the same wherever it was computed
        return metrics.failed(f"{type(error).__name__}: {text}")


_SPECS: dict[str, NodeSpec] = {}  # unpacked in this process, the latest
_MOST_SPECS = 16


def run_point(
    spec: NodeSpec, seed: int, replicate: int, blend: Blend = (), *, until_bad: bool = False
) -> metrics.Row:
    """Run one replicate of a checked node and give back its row."""
    import capplan.sim.expand
    import capplan.sim.run

    scenario = capplan.sim.expand.expand(spec, seed, replicate, blend)
    run = functools.partial(capplan.sim.run.run, replicate=replicate)
    if until_bad:
        first = run(scenario, stop=metrics.went_badly)
        made = metrics.row(first, spec.gate)
        if not metrics.well(made):
            return metrics.stopped(made)
        if not metrics.went_badly(first.events):
            return made
    first = run(scenario)
    stock = run(stock_kernel(scenario)) if pause_is_assumed(first) else None
    return metrics.row(first, spec.gate, stock)
