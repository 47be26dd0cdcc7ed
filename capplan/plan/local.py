"""Worker processes on this machine: each one gets chunks through a pipe, one at a time.

They are started as commands of their own, not forked (the caller may have threads) nor by
multiprocessing (which imports the caller's main module again, guarded or not). A worker ends
when its input does: also when its parent was killed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import os
import pickle
import queue
import struct
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

import capplan
from capplan.errors import CapplanError, InternalError
from capplan.plan.work import Chunk, Done, compute

__all__ = ["Inline", "Processes", "cores"]

_LENGTH = struct.Struct("<Q")
# glibc keeps freed memory for the next run: fresh pages have to be cleared by the kernel, which
# took a tenth of a quiet day's time
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(256 << 20)}
Answer = concurrent.futures.Future[list[Done]]


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Inline:
    """No worker at all: chunks are computed when they are submitted."""

    size = 1

    def submit(self, chunk: Chunk) -> Answer:
        """Compute a chunk; the answer is there at once."""
        answer: Answer = concurrent.futures.Future()
        answer.set_result(compute(chunk))
        return answer

    def close(self) -> None:
        """Nothing to let go of."""


class Processes:
    """A number of worker processes, each fed by a thread of this one."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers = [_Worker() for _ in range(size)]
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = concurrent.futures.ThreadPoolExecutor(size, "capplan-worker")

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.pid for worker in self._workers]

    def submit(self, chunk: Chunk) -> Answer:
        """Have a chunk computed by the next worker that is free."""
        return self._threads.submit(self._ask, chunk)

    def _ask(self, chunk: Chunk) -> list[Done]:
        worker = self._idle.get()
        try:
            return worker.ask(chunk)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers, in the middle of a chunk if need be."""
        for worker in self._workers:
            worker.end()
        self._threads.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """A worker process, seen from its parent."""

    def __init__(self) -> None:
        paths = [str(Path(capplan.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "capplan.plan.local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ALLOCATOR, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,  # Ctrl-C is for the parent
        )
        self.pid = self._process.pid

    def ask(self, chunk: Chunk) -> list[Done]:
        """Send a chunk, wait for its rows."""
        to, out = self._process.stdin, self._process.stdout
        assert to is not None
        assert out is not None
        try:
            _send(to, chunk)
            answer = _receive(out)
        except (OSError, EOFError, ValueError) as error:
            code = self._process.poll()
            raise CapplanError(
                f"a worker process ended in the middle of its work (exit status {code}); if the "
                "host ran out of memory, use fewer --jobs. What was finished is kept: the same "
                "command goes on from there"
            ) from error
        if isinstance(answer, str):
            raise InternalError(f"a worker failed\n{answer}")
        return list(answer)

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _send(to: BinaryIO | Any, message: object) -> None:
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    to.write(_LENGTH.pack(len(content)) + content)
    to.flush()


def _receive(source: BinaryIO | Any) -> Any:
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    content = source.read(length)
    if len(content) < length:
        raise EOFError
    return pickle.loads(content)


def _serve() -> None:
    """Answer chunks until the input ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing else may write among the answers
    gc.disable()  # a run leaves no cycles; those of one that failed are looked for between chunks
    while True:
        try:
            chunk = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: list[Done] | str = compute(chunk)
        except Exception:
            answer = traceback.format_exc()
        _send(out, answer)
        gc.collect()
        if not gc.get_freeze_count():
            gc.freeze()  # modules and the first input are not looked through again


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        _serve()
