"""Worker processes of `capplan validate`: they end when the command does, however it ends."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait

__all__ = ["workers"]


def workers(jobs: int) -> ProcessPoolExecutor:
    """Return a pool of ``jobs`` processes that are started afresh (nothing is inherited)."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Watch the parent from a thread: one that was killed cannot tell its workers to end."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
