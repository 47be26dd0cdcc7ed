"""Random numbers of an expansion: one stream per thing that is drawn.

Each draw has a key (seed, replicate, then names: container, replica, process, region, what)
whose hash starts a Philox stream. So a container's numbers depend on nothing but its own
names: adding, removing or changing another one leaves them as they were, and two settings
of a sweep meet the same workload (common random numbers). ``shared.load.correlation`` mixes
a factor that the replicas of a container share into the normal score behind each draw (a
Gaussian copula), so that the distribution of each stays what the profile says.
"""

from __future__ import annotations

import functools
import hashlib
import math
import struct
import threading
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from capplan.spec.common import Choice, Dist, Lognormal, Normal

FloatArray = npt.NDArray[np.float64]
Names = tuple[str | int, ...]
Blend = tuple[tuple[int, float], ...]

_UNIT = NormalDist()
_CHUNK = 16  # scores drawn at first; a stream's k-th number does not depend on it


def normals(count: int, seed: int, replicate: int, *names: str | int) -> FloatArray:
    """The first standard normal numbers of the stream that belongs to these names.

    The key is 128 bits of BLAKE2b over the parts, each with its length, so that
    ("a", "bc") and ("ab", "c") differ; it is the same on every machine.
    """
    parts = _with_lengths((seed, replicate)) + _with_lengths(names)
    _LOCAL.set_key(hashlib.blake2b(parts, digest_size=16).digest())
    return _LOCAL.generator.standard_normal(count)


@functools.lru_cache(maxsize=4096)  # runs of many have the same names
def _with_lengths(parts: Names) -> bytes:
    texts = [str(part).encode() for part in parts]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


class _Local(threading.local):
    """A thread's generator, whose key is set anew for each stream.

    A new one would gather entropy that it does not need, which takes seven times as long.
    """

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)
        self.generator = np.random.Generator(self.philox)
        self._state: Any = self.philox.state
        # plain numbers are read faster than those of arrays
        self._state["state"]["counter"] = self._state["state"]["counter"].tolist()
        self._state["buffer"] = self._state["buffer"].tolist()

    def set_key(self, key: bytes) -> None:
        """Begin at the first number of a key's stream."""
        self._state["state"]["key"] = struct.unpack("<2Q", key)
        self.philox.state = self._state


_LOCAL = _Local()


@dataclass
class _Scores:
    """Standard normal numbers of one stream, or of several blended, by ordinal."""

    seed: int
    parts: Blend
    names: Names
    drawn: list[float] = field(default_factory=list)

    def get(self, ordinal: int) -> float:
        if ordinal >= len(self.drawn):
            self.drawn = self.first(max(_CHUNK, 2 * ordinal)).tolist()
        return self.drawn[ordinal]

    def first(self, count: int) -> FloatArray:
        """The first numbers."""
        (replicate, weight), *others = self.parts
        drawn = weight * normals(count, self.seed, replicate, *self.names)
        for replicate, weight in others:
            drawn += weight * normals(count, self.seed, replicate, *self.names)
        return drawn


@dataclass
class Draws:
    """The draws of one process instance.

    Parameters
    ----------
    seed, replicate
        The run's.
    own
        Names that set this instance apart: container, replica, process, number.
    common
        Names it shares with those that its load is correlated with: container, process.
    correlation
        Share of variance that they have in common, 0 to 1.
    blend
        Replicates and weights whose squares add up to 1: the scores are those of these
        replicates, weighted and added up, which are standard normal again. A walk from one
        workload to a like one is made of such steps (:mod:`capplan.plan.rare`). Empty: the
        replicate's own.
    """

    seed: int
    replicate: int = 0
    own: Names = ()
    common: Names = ()
    correlation: float = 0.0
    blend: Blend = ()
    _streams: dict[Names, _Scores] = field(default_factory=dict)

    def at(self, own: Names, common: Names, correlation: float = 0.0) -> Draws:
        """The draws of another instance in the same run."""
        return Draws(self.seed, self.replicate, own, common, correlation, self.blend)

    def score(self, ordinal: int, *what: str | int) -> float:
        """Standard normal score of the ordinal-th draw of ``what``."""
        mine = self._scores((*self.own, *what)).get(ordinal)
        if self.correlation <= 0.0:
            return mine
        ours = self._scores(("shared.load", *self.common, *what)).get(ordinal)
        rho = self.correlation
        return math.sqrt(rho) * ours + math.sqrt(1.0 - rho) * mine

    def sample(self, dist: Dist[Any], *what: str | int, ordinal: int = 0) -> float:
        """The ordinal-th value of a distribution; a constant draws nothing."""
        if dist.constant is not None:
            return float(dist.constant)
        return quantile(dist, self.score(ordinal, *what))

    def normals(self, count: int, *what: str | int) -> FloatArray:
        """Standard normal scores that are shared with nobody."""
        return self._scores((*self.own, *what)).first(count)

    def uniform(self, *what: str | int) -> float:
        """A number from 0 to 1 that is shared with nobody."""
        return _UNIT.cdf(self._scores((*self.own, *what)).get(0))

    def _scores(self, names: Names) -> _Scores:
        if names not in self._streams:
            parts = self.blend or ((self.replicate, 1.0),)
            self._streams[names] = _Scores(self.seed, parts, names)
        return self._streams[names]


def quantile(dist: Dist[Any], score: float) -> float:
    """The value of a distribution at a standard normal score (0: its median).

    Worked example
    --------------
    normal mean 48, sd 6 at score 1: 54 (a little more: the cut at 0 takes some of the left
    tail). lognormal median 10, sigma 0.5 at 1: 10 exp(0.5) = 16.49. uniform 0 to 8 at 0: 4.
    exponential mean 600 at 0: 600 ln 2 = 415.9.
    """
    if dist.constant is not None:
        return float(dist.constant)
    if dist.normal is not None:
        return _normal(dist.normal, score)
    if dist.lognormal is not None:
        return _lognormal(dist.lognormal, score)
    if dist.uniform is not None:
        low, high = float(dist.uniform.low), float(dist.uniform.high)
        return low + (high - low) * _UNIT.cdf(score)
    if dist.exponential is not None:
        # -log(1 - u) with the upper tail itself, which 1 - u would round to 0
        return -float(dist.exponential.mean) * math.log(_upper_tail(score))
    assert dist.choice is not None
    return _choice(dist.choice, _UNIT.cdf(score))


def _upper_tail(score: float) -> float:
    return 0.5 * math.erfc(score / math.sqrt(2.0))


def _normal(normal: Normal[Any], score: float) -> float:
    """Normal, cut (not piled up) at its bounds: u runs through the part that is left."""
    mean, sd = float(normal.mean), float(normal.sd)
    low = max(0.0, float(normal.min or 0))
    high = math.inf if normal.max is None else float(normal.max)
    if sd <= 0.0:
        return min(max(mean, low), high)
    below = _UNIT.cdf((low - mean) / sd)
    above = 1.0 if high == math.inf else _UNIT.cdf((high - mean) / sd)
    return min(max(mean + sd * _inverse(below + (above - below) * _UNIT.cdf(score)), low), high)


def _lognormal(lognormal: Lognormal[Any], score: float) -> float:
    median, sigma = float(lognormal.median), lognormal.sigma
    if lognormal.max is None or sigma <= 0.0 or median <= 0.0:
        value = median * math.exp(sigma * score)
        return value if lognormal.max is None else min(value, float(lognormal.max))
    share = _UNIT.cdf(math.log(max(float(lognormal.max), 1e-300) / median) / sigma)
    value = median * math.exp(sigma * _inverse(share * _UNIT.cdf(score)))
    return min(value, float(lognormal.max))


def _inverse(share: float) -> float:
    """Normal score of a share; kept off 0 and 1, where it is infinite."""
    return _UNIT.inv_cdf(min(max(share, 1e-300), 1.0 - 1e-16))


def _choice(choice: Choice[Any], share: float) -> float:
    weights = choice.weights or (1.0,) * len(choice.values)
    left = share * sum(weights)
    for value, weight in zip(choice.values, weights, strict=True):
        left -= weight
        if left < 0:
            return float(value)
    return float(choice.values[-1])
