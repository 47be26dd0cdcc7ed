"""Rare incidents: splitting over the declared random inputs (subset simulation).

All that a profile draws is a standard normal score (:mod:`capplan.sim.expand_draws`), so a
run is a function of many normal numbers, and its workload can be moved a little: the scores
``a z + sqrt(1 - a^2) x``, with fresh ``x``, are standard normal again. That gives a walk from
one workload to a like one that leaves their distribution as it is (preconditioned
Crank-Nicolson), however many numbers there are. Splitting uses it so:

1. Run N plain replicates. Of each it is known how near it came (:func:`score`).
2. The nearest fifth says where the first level lies. From each of them walk on; a step to a
   workload that is not above the level is not taken. That gives N runs above the level.
3. Again, until the level is the incident. The probability is the product of the shares.

So 1 in 10,000 takes six levels of N runs, where plain runs would see it once.

Source
------
S.-K. Au and J. L. Beck, Estimation of small failure probabilities in high dimensions by subset
simulation, Probabilistic Engineering Mechanics 16 (2001), 263-277 (levels, error of a level);
S. L. Cotter et al., MCMC methods for functions, Statistical Science 28 (2013), 424-446 (the
step); I. Papaioannou et al., MCMC algorithms for subset simulation, Probabilistic Engineering
Mechanics 41 (2015), 89-103 (its size).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from capplan.plan.intervals import wilson
from capplan.sim.expand_draws import Blend

__all__ = ["Rare", "Sample", "first_level", "score", "split"]

FloatArray = npt.NDArray[np.float64]
Evaluate = Callable[[Sequence["Sample"]], Sequence[float]]

SHARE = 0.2  # of a level's runs that the next one starts from; 0.1 to 0.3 are alike good
LEVELS = 6  # so many fit into the runs: SHARE^(LEVELS - 1) = 3.2e-4 and what is left of it
ACCEPTED = 0.44  # share of steps taken at which a walk forgets fastest (Papaioannou et al.)
FIRST_STEP = 0.6
STUCK = 0.9  # a level that this share is above leads nowhere
FIRST_FRESH = 1 << 32  # replicates that no plain run has
INCIDENT = 1.0  # scores from here on are the incident itself


@dataclass(frozen=True)
class Sample:
    """A run: the replicate of the engine's own draws, and what its workload is blended of."""

    replicate: int
    blend: Blend = ()

    @property
    def parts(self) -> Blend:
        """The blend of a plain replicate is itself."""
        return self.blend or ((self.replicate, 1.0),)


@dataclass(frozen=True)
class Rare:
    """A small probability.

    Attributes
    ----------
    p : float
        0 when the incident was never reached; ``high`` then says how small it must be.
    low, high : float
        95 % interval.
    runs : int
        Runs it took.
    levels : tuple of float
        The scores at which was split.
    shares : tuple of float
        The share of each level's runs that lie above the next.
    reached : bool
        Whether the last level was the incident.
    note : str
        Why it ended before that.
    """

    p: float
    low: float
    high: float
    runs: int
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    reached: bool
    note: str = ""

    @property
    def half_width(self) -> float:
        """Half the interval's width, as a share of p."""
        return (self.high - self.low) / 2 / self.p if self.p else math.inf


def score(row: dict[str, Any], incident: str, duration_s: float) -> float:
    """How near a run came: 1 to 2 when it happened (the earlier the higher), else below 1."""
    time = row[f"node.{incident}_t"]
    if time is not None:
        return 2.0 - float(time) / duration_s
    return min(float(row["node.fullness"]), math.nextafter(INCIDENT, 0.0))


def split(evaluate: Evaluate, runs: int, seed: int) -> Rare:
    """Estimate a small probability.

    Parameters
    ----------
    evaluate : callable
        Gives the score of each sample, in their order.
    runs : int
        The most runs it may take; each level has a fifth of them.
    seed : int
        Of the walk (not of the runs' draws).

    Returns
    -------
    Rare
    """
    count = first_level(runs)
    walk = _Walk(evaluate, np.random.default_rng([seed, 0x72617265]))
    samples = [Sample(replicate) for replicate in range(1, count + 1)]
    level = _Level([[s] for s in samples], [[x] for x in walk.scores(samples)])
    levels: list[float] = []
    parts: list[_Level] = []
    while True:
        threshold = level.threshold()
        level.judge(min(threshold, INCIDENT))
        parts.append(level)
        if threshold >= INCIDENT:
            return _found(parts, levels, walk.runs)
        if len(parts) == LEVELS:
            return _not_reached(parts, levels, walk.runs, "the runs were used up")
        if level.share > STUCK:
            return _not_reached(parts, levels, walk.runs, "most runs come equally near")
        levels.append(threshold)
        level = walk.climb(level, threshold, count)


def first_level(runs: int) -> int:
    """How many of ``runs`` are plain replicates."""
    return max(int(runs / (1 + (1 - SHARE) * (LEVELS - 1))), 10)


# --- a level -------------------------------------------------------------------------------


@dataclass
class _Level:
    """Chains of samples that all lie above a level, and their scores."""

    chains: list[list[Sample]]
    scores: list[list[float]]
    above: list[list[bool]] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)  # first-level ancestor of each chain

    def __post_init__(self) -> None:
        if not self.roots:
            self.roots = list(range(len(self.chains)))

    @property
    def size(self) -> int:
        return sum(map(len, self.scores))

    def threshold(self) -> float:
        """The score that the best fifth reaches."""
        best = sorted(itertools.chain.from_iterable(self.scores), reverse=True)
        return best[max(round(SHARE * len(best)) - 1, 0)]

    def judge(self, threshold: float) -> None:
        """Tell which samples lie above the next level."""
        self.above = [[s >= threshold for s in scores] for scores in self.scores]

    @property
    def share(self) -> float:
        return sum(map(sum, self.above)) / self.size

    def starts(self) -> Iterator[tuple[Sample, float, int]]:
        """The samples above the next level, with their scores and first-level ancestors."""
        for chain, scores, above, root in zip(self.chains, self.scores, self.above, self.roots):
            for sample, found, is_above in zip(chain, scores, above):
                if is_above:
                    yield sample, found, root

    def variance(self) -> float:
        """Relative variance of the share: chains repeat themselves (Au and Beck, eq. 29)."""
        share = self.share
        if share in (0.0, 1.0):
            return 0.0
        # the sum over a chain, about its mean: chains are taken to know nothing of each other
        off = [sum(above) - share * len(above) for above in self.above]
        return float(sum(x * x for x in off)) / (share * self.size) ** 2


class _Walk:
    """Runs samples, and walks from some to others above a level."""

    def __init__(self, evaluate: Evaluate, rng: np.random.Generator) -> None:
        self.evaluate = evaluate
        self.rng = rng
        self.runs = 0
        self.fresh = FIRST_FRESH
        self.step = FIRST_STEP
        self.steps = 0

    def scores(self, samples: Sequence[Sample]) -> Sequence[float]:
        self.runs += len(samples)
        return self.evaluate(samples)

    def climb(self, below: _Level, threshold: float, count: int) -> _Level:
        """``count`` samples above ``threshold``: the starts, and chains from each of them."""
        starts = list(below.starts())
        self.rng.shuffle(starts)
        lengths = [count // len(starts) + (i < count % len(starts)) for i in range(len(starts))]
        chains = [[sample] for sample, _, _ in starts]
        scores = [[found] for _, found, _ in starts]
        for length in range(1, max(lengths)):
            going = [c for c, wanted in enumerate(lengths) if wanted > length]
            tried = [self._beside(chains[c][-1]) for c in going]
            taken = 0
            for c, sample, found in zip(going, tried, self.scores(tried)):
                above = found >= threshold
                taken += above
                chains[c].append(sample if above else chains[c][-1])
                scores[c].append(found if above else scores[c][-1])
            self._adapt(taken / len(going))
        return _Level(chains, scores, roots=[root for _, _, root in starts])

    def _beside(self, sample: Sample) -> Sample:
        """A sample a step away; every other one also has new draws of the engine's own."""
        keep = math.sqrt(1.0 - self.step**2)
        self.fresh += 1
        blend = (*((r, w * keep) for r, w in sample.parts), (self.fresh, self.step))
        return Sample(self.fresh if self.rng.random() < 0.5 else sample.replicate, blend)

    def _adapt(self, accepted: float) -> None:
        """Longer steps where most are taken, shorter ones where few are."""
        self.steps += 1
        grown = math.log(self.step) + (accepted - ACCEPTED) / math.sqrt(self.steps)
        self.step = min(math.exp(grown), 1.0)


# --- what came of it -----------------------------------------------------------------------


def _found(parts: list[_Level], levels: list[float], runs: int) -> Rare:
    shares = tuple(level.share for level in parts)
    p = math.prod(shares)
    if len(parts) == 1:  # not rare at all: a plain proportion
        low, high = wilson(round(p * parts[0].size), parts[0].size)
        return Rare(p, low, high, runs, (), shares, True)
    families, freedom = _of_families(parts)
    # on the scale of the logarithm: the error of a product is a factor
    spread = math.sqrt(math.log1p(max(families, sum(level.variance() for level in parts))))
    reach = math.exp(_student(freedom) * spread)
    return Rare(p, p / reach, p * reach, runs, tuple(levels), shares, True)


def _of_families(parts: list[_Level]) -> tuple[float, float]:
    """Relative variance of the product, and how many degrees of freedom it is estimated with.

    Runs of one family (offspring of one of the first runs) resemble each other over all levels;
    families are independent. So the variance is read from how unequally they got through (H. P.
    Chan and T. L. Lai, A general theory of particle filters in hidden Markov models and some
    applications, Annals of Statistics 41 (2013), 2877-2904).
    """
    last = parts[-1]
    families: dict[int, int] = {}
    for root, above in zip(last.roots, last.above):
        families[root] = families.get(root, 0) + sum(above)
    total = sum(families.values())
    founders = len(parts[0].chains)
    inside = sum((n / total - 1 / founders) ** 2 for n in families.values())
    found = inside + (founders - len(families)) / founders**2
    alike = 1 / sum((n / total) ** 2 for n in families.values())  # so many of equal size
    return found * alike / max(alike - 1, 1), max(alike - 1, 1.0)


def _student(freedom: float) -> float:
    """97.5 % quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def _not_reached(parts: list[_Level], levels: list[float], runs: int, why: str) -> Rare:
    """Never seen: as small as the last level's share, and what it cannot exclude above that."""
    shares = tuple(level.share for level in parts)
    before = math.prod(shares[:-1])
    last = parts[-1]
    last.judge(INCIDENT)
    seen = sum(map(sum, last.above))
    high = before * wilson(seen, len(last.chains))[1]  # chains, not their steps
    return Rare(before * seen / last.size, 0.0, high, runs, tuple(levels), shares, False, why)
