"""Running many points: what the store has is not computed again, the rest goes to workers.

Which worker computes a row, in which order and in chunks of which size leaves no trace in the
rows. Threads or processes: see docs/risk-and-sweeps.md (measured by benchmarks/many_runs.py).
"""

from __future__ import annotations

import concurrent.futures
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol

from capplan.errors import CapplanError
from capplan.plan.point import Point
from capplan.plan.store import Store
from capplan.plan.work import Chunk, Done, chunk_of

__all__ = ["Executor", "LazyPool", "Pool", "Progress", "beyond", "open_pool", "run_points"]

Executor = Literal["local", "dask"]
Progress = Callable[[int], None]  # points finished so far, those of the store included
Row = dict[str, Any]

CHUNK_S = 0.5  # seconds of work that go to a worker at once: what a kill can lose
MAX_CHUNK = 64
AHEAD = 2  # chunks per worker that are under way: one at work, one waiting


class Pool(Protocol):
    """Something that computes chunks."""

    @property
    def size(self) -> int:
        """How many chunks it computes at a time."""

    def submit(self, chunk: Chunk) -> concurrent.futures.Future[list[Done]]:
        """Have a chunk computed."""

    def close(self) -> None:
        """Let go of the workers, busy or not."""


def open_pool(jobs: int | None, executor: Executor, address: str | None) -> Pool:
    """Start (or find) workers.

    Parameters
    ----------
    jobs : int, optional
        Worker processes; None: one per core. 1: the work is done in this process.
    executor : str
        ``local``, or ``dask``.
    address : str, optional
        Of a Dask scheduler; None: a local cluster is started.
    """
    from capplan.plan.local import Inline, Processes, cores

    if executor == "dask":
        from capplan.plan.cluster import Cluster

        return Cluster(address, jobs)
    count = cores() if jobs is None else jobs
    return Inline() if count == 1 else Processes(count)


class LazyPool:
    """A pool that is opened when the first chunk is submitted, and closed with the block.

    Where the store has every row, no worker is started.
    """

    def __init__(
        self,
        jobs: int | None = None,
        executor: Executor = "local",
        address: str | None = None,
    ) -> None:
        self._options = (jobs, executor, address)
        self._pool: Pool | None = None

    @property
    def size(self) -> int:
        """How many chunks are computed at a time."""
        return self._open().size

    def submit(self, chunk: Chunk) -> concurrent.futures.Future[list[Done]]:
        """Have a chunk computed."""
        return self._open().submit(chunk)

    def _open(self) -> Pool:
        if self._pool is None:
            self._pool = open_pool(*self._options)
        return self._pool

    def close(self) -> None:
        """Let go of the workers, if there are any."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> LazyPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def run_points(
    points: Iterable[Point],
    store: Store,
    jobs: int | None = None,
    *,
    executor: Executor = "local",
    address: str | None = None,
    pool: Pool | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Point, Row]]:
    """Run points; give back each with its row, as they are finished.

    Parameters
    ----------
    points : iterable of Point
        Taken as they are needed; a few dozen are held at a time.
    store : Store
        Rows that are there are given back at once; new ones are added, a chunk at a time.
    jobs, executor, address
        As in :func:`open_pool`.
    pool : Pool, optional
        Workers that are there already; left open.
    progress : callable, optional
        Called with the number of points finished.

    Yields
    ------
    Point, dict
        In the order in which they are finished. A point that failed has ``error`` in its row.
    """
    work = _Work(store, progress)
    own = pool is None
    pool = pool or LazyPool(jobs, executor, address)
    try:
        for point in points:
            yield from work.take(point)
            if work.has_a_chunk:
                work.submit(pool, work.chunk_size)
                while work.busy(pool):
                    yield from work.collect()
        while work.waiting:
            work.submit(pool, work.last_size)
            while work.busy(pool):
                yield from work.collect()
        while work.under_way:
            yield from work.collect()
    finally:
        work.keep_finished()
        if own:
            pool.close()


class _Work:
    """Points between being asked for and being finished."""

    def __init__(self, store: Store, progress: Progress | None) -> None:
        self.store = store
        self.progress = progress
        self.finished = 0
        self.waiting: dict[str, list[Point]] = {}  # by key; equal points are computed once
        self.sent: dict[str, list[Point]] = {}
        self.under_way: set[concurrent.futures.Future[list[Done]]] = set()
        self.seconds: float | None = None  # of one point, about
        self.workers = 1

    @property
    def chunk_size(self) -> int:
        """Points of a chunk; the first one shows how long one takes."""
        if self.seconds is None:
            return 1
        return min(max(int(CHUNK_S / max(self.seconds, 1e-6)), 1), MAX_CHUNK)

    @property
    def has_a_chunk(self) -> bool:
        """Whether a chunk can go: another for each worker stays, to be shared out at the end."""
        kept = 0 if self.seconds is None else self.workers * self.chunk_size
        return len(self.waiting) >= self.chunk_size + kept

    @property
    def last_size(self) -> int:
        """Points to send when no more will come: ever fewer, so that all workers end together."""
        return min(max(len(self.waiting) // (2 * self.workers), 1), self.chunk_size)

    def take(self, point: Point) -> Iterator[tuple[Point, Row]]:
        """Give a point back if it is in the store; else remember it."""
        for held in (self.waiting, self.sent):
            if point.key in held:
                held[point.key].append(point)
                return
        row = self.store.get(point.key)
        if row is None:
            self.waiting[point.key] = [point]
            return
        yield self._done(point, row)

    def submit(self, pool: Pool, size: int) -> None:
        """Send so many of those that are waiting."""
        keys = list(itertools.islice(self.waiting, size))
        going = {key: self.waiting.pop(key) for key in keys}
        self.sent |= going
        self.workers = pool.size
        self.under_way.add(pool.submit(chunk_of([points[0] for points in going.values()])))

    def busy(self, pool: Pool) -> bool:
        """Whether the workers have enough to do; until one point's time is known, one chunk."""
        most = 1 if self.seconds is None else AHEAD * pool.size
        return len(self.under_way) >= most

    def collect(self) -> Iterator[tuple[Point, Row]]:
        """Wait for chunks; store them, then give back their rows."""
        ready, self.under_way = concurrent.futures.wait(
            self.under_way, return_when=concurrent.futures.FIRST_COMPLETED
        )
        done = [one for answer in ready for one in answer.result()]
        self.store.put(done)
        mean = sum(seconds for _, _, seconds in done) / len(done)
        # the first point may have compiled the engine: the latest count
        self.seconds = mean if self.seconds is None else min(mean, 0.5 * (mean + self.seconds))
        for key, text, _ in done:
            for point in self.sent.pop(key):
                yield self._done(point, json.loads(text))

    def keep_finished(self) -> None:
        """Store what workers finished after nobody asked any more (Ctrl-C)."""
        for answer in self.under_way:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self.store.put(answer.result())

    def _done(self, point: Point, row: Row) -> tuple[Point, Row]:
        self.finished += 1
        if self.progress is not None:
            self.progress(self.finished)
        return point, row


def beyond(progress: Progress | None, done: int) -> Progress | None:
    """The progress of one batch of several, ``done`` points being finished before it."""
    return None if progress is None else lambda count: progress(done + count)


def failure_of(row: Row) -> str | None:
    """Why a point failed; None: it did not."""
    found = row.get("error")
    return None if found is None else str(found)


def raise_if_all_failed(rows: Iterable[Row]) -> None:
    """Raise when not one of the rows is a result: then something is wrong with the input.

    Raises
    ------
    CapplanError
        With the first row's error.
    """
    first = None
    for row in rows:
        error = failure_of(row)
        if error is None:
            return
        first = first or error
    if first is not None:
        raise CapplanError(f"every point failed; the first: {first}")
