"""What a recording's rounds of watching accesses found, by group: shares, and what fits them."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from capplan.sources.access_fit import Fit, Share, fit
from capplan.sources.working_set import WINDOWS_S

__all__ = ["Watched", "read_watched"]

PAGE = 4096
MIB = 1 << 20
MAX_LINES = 1_000_000
SIGMA = 1.96  # 95 % of a normal distribution
SURE = 1e-3  # no share is known better than that
ROUNDS = 3  # from so many on their own scatter tells how sure their mean is
METHODS = {"idle": "idle page tracking", "damon": "DAMON"}


@dataclass
class Watched:
    """Rounds over one kind of memory of one group.

    Attributes
    ----------
    method
        ``idle`` or ``damon``.
    rounds
        By window: how long it was, and what was touched, watched and the error. [s, bytes]
    """

    method: str
    rounds: dict[float, list[tuple[float, float, float, float]]] = field(default_factory=dict)

    def add(self, window_s: float, touched: float, watched: float, error: float) -> None:
        """Take one round in."""
        nearest = min(WINDOWS_S, key=lambda s: abs(math.log(window_s / s)))
        self.rounds.setdefault(nearest, []).append((window_s, touched, watched, error))

    @cached_property
    def shares(self) -> list[Share]:
        """The share touched in each window: all rounds together, and how sure it is.

        The error is that of the samples, or what the rounds' scatter says, whichever is more.
        """
        return [_share(self.rounds[window]) for window in sorted(self.rounds)]

    @property
    def watched(self) -> float:
        """Mean of what a round looked at. [bytes]"""
        sizes = [size for rounds in self.rounds.values() for _, _, size, _ in rounds]
        return sum(sizes) / len(sizes)

    def fit(self, size: float) -> Fit:
        """The pattern that explains the shares, of memory of this size. [bytes]"""
        return fit(self.shares, round(size) // PAGE)

    def said(self, size: float, what: str) -> list[str]:
        """Sentences: the working set as a function of time, and the access rate."""
        sets = ", ".join(
            f"{_mib(s.share * size)} (+-{_mib(SIGMA * s.error * size)}) in {s.window_s:.0f} s"
            for s in self.shares
        )
        whole = f"working set of {what} ({METHODS[self.method]}, 95 %)"
        return [f"{whole}: {sets}, of {_mib(size)}", f"access rate of it: {self._rate(size)}"]

    def _rate(self, size: float) -> str:
        found = self.fit(size)
        unit = size * found.part
        if found.pattern == "idle":
            return f"none seen, at most {_mib(min(found.high, 1e3) * size)}/s"
        if math.isinf(found.high):
            span = f"at least {_mib(found.low * unit)}/s"
        else:
            low, high = _mib(found.low * unit), _mib(found.high * unit)
            span = f"{_mib(found.rate * unit)}/s, {low} to {high}/s"
        how = found.pattern + (f" (skew {found.skew:g})" if found.skew else "")
        how += f" over {100 * found.part:.0f} % of it" if found.part < 1.0 else ""
        off = "" if found.misfit < ROUNDS else f"; a rough fit, {found.misfit:.0f} errors off"
        return f"{span} (95 %), {how}{off}"


def _share(rounds: list[tuple[float, float, float, float]]) -> Share:
    touched, watched = (sum(r[k] for r in rounds) for k in (1, 2))
    share = min(touched / watched, 1.0)
    error = math.sqrt(sum(r[3] ** 2 for r in rounds)) / watched
    if len(rounds) >= ROUNDS:
        spread = sum((r[1] - share * r[2]) ** 2 for r in rounds)
        error = max(error, math.sqrt(spread * len(rounds) / (len(rounds) - 1)) / watched)
    return Share(sum(r[0] for r in rounds) / len(rounds), share, max(error, SURE))


def read_watched(path: Path) -> dict[str, dict[str, Watched]]:
    """Rounds by group and kind; none where nothing was watched. A cut line is left out."""
    found: dict[str, dict[str, Watched]] = {}
    if not path.exists():
        return found
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row, _ in zip(
            csv.DictReader(line.replace("\0", "") for line in file), range(MAX_LINES)
        ):
            try:
                method, group, kind = row["method"], row["group"], row["kind"]
                names = ("window", "touched", "watched", "error")
                window_s, touched, watched, error = (float(row[name]) for name in names)
            except (KeyError, TypeError, ValueError):
                continue
            if method in METHODS and window_s > 0 and watched > 0 and kind:
                kinds = found.setdefault(group, {})
                kinds.setdefault(kind, Watched(method)).add(window_s, touched, watched, error)
    return found


def _mib(size: float) -> str:
    return f"{size / MIB:.1f} MiB"
