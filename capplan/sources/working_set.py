"""Which memory was touched within a time: idle page tracking or DAMON, sampled.

Two watchers with one shape. Each works in rounds: some pages, drawn at random, have their
accessed bits cleared, and after a window of time those that were accessed are counted. Windows of
1, 5 and 20 s follow one another, so the working set is measured as a function of time (Denning),
not assumed. Neither makes reclaim forget an access: both kernel mechanisms mark a page whose bit
they clear as young, which folio_referenced() counts.

    idle_pages.py   /sys/kernel/mm/page_idle/bitmap: any user page, by kind
    damon.py        one kdamond of our own over the mapped memory of processes

Only the standard library, as the recorder that drives them; both need root. A CPU that still has a
translation in its TLB does not set the bit again: what is touched so often may look idle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["COLUMNS", "CPU_SHARE", "WINDOWS_S", "Look", "Pace", "Watcher"]

COLUMNS = ("time", "group", "method", "kind", "window", "touched", "watched", "error")
WINDOWS_S = (1.0, 5.0, 20.0)
CPU_SHARE = 0.003  # of one CPU, beside what the samples take
ROUND_CPU_S = 0.03  # what a round is to cost; the next one waits until that is its share


@dataclass(frozen=True)
class Look:
    """What a round found of one group.

    Attributes
    ----------
    kind
        ``anon``, ``file``, ``shmem``; ``mapped file``: files, where read(2) is not seen;
        ``mapped``: anonymous memory and files that are mapped.
    window_s
        How long was waited. [s]
    touched, watched
        What was accessed meanwhile of what was looked at; their ratio estimates the share.
        [bytes]
    error
        Standard error of touched. [bytes]
    """

    group: str
    method: str
    kind: str
    window_s: float
    touched: float
    watched: float
    error: float


class Watcher(Protocol):
    """What the recorder asks for at each of its samples."""

    method: str

    def poll(self, groups: Iterable[str]) -> list[Look]:
        """Go on with the round; what it found, if it has just ended. Never waits."""

    def close(self) -> float:
        """End, and leave the kernel as it was; the CPU time of kernel threads. [s]"""


@dataclass
class Pace:
    """How much a round may look at, and when the next one may begin, by what the last one took."""

    size: int
    least: int
    most: int
    number: int = 0
    rest_until: float = 0.0

    def window_s(self) -> float:
        """The window of the round that comes."""
        return WINDOWS_S[self.number % len(WINDOWS_S)]

    def took(self, cpu_s: float, begun: float) -> None:
        """Learn from a round that ended: what it cost, and when it began (monotonic). [s]"""
        scale = min(max(ROUND_CPU_S / max(cpu_s, 1e-6), 0.25), 4.0)
        self.size = min(max(int(self.size * scale), self.least), self.most)
        self.number += 1
        self.rest_until = begun + cpu_s / CPU_SHARE
