"""The VPA's recommender: peaks of memory in a decaying histogram, and what it asks for.

kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender: model/container.go
(addMemorySample, RecordOOM), util/histogram.go, logic/recommender.go and estimator.go.

::

    a sample above the day's peak replaces it in the histogram, one peak for each container and day
    an OOM kill is a sample of max(m + 100 MiB, 1.2 m), m the larger of request and usage peak
    target = p90 + 15 %, at least 250 MiB; bounds p50 and p95 + 15 %, widened by lack of history
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from capplan.mm.state import NS_PER_S
from capplan.sim.agents.model import Vpa

__all__ = ["Bounds", "ContainerPeaks", "Histogram", "recommend"]

FIRST_BUCKET, GROWTH = 1e7, 0.05  # memoryHistogramOptions(): 10 MB, each 5 % wider
EPSILON = 1e-4  # 0.001 of the least weight, 0.1
DAY_NS = 86_400 * NS_PER_S
SAMPLES_A_DAY = 1440.0  # one a minute
LOWER, UPPER = 0.5, 0.95  # percentiles of the bounds


class Bounds(NamedTuple):
    """A recommendation [bytes]."""

    lower: int
    target: int
    upper: float  # infinite while there is no history


class Histogram:
    """Weights in buckets that grow by 5 %; a sample of a half-life later weighs twice as much.

    Worked example
    --------------
    Bucket of 300 MiB: int(log(314572800 * 0.05 / 1e7 + 1) / log(1.05)) = 19; it ends at 330.7 MB
    (315 MiB), and that is what a percentile that falls into it returns.
    """

    def __init__(self, half_life_ns: int) -> None:
        self.half_life_ns = half_life_ns
        self.weight: dict[int, float] = defaultdict(float)

    @staticmethod
    def bucket(value: float) -> int:
        """Which bucket a value falls into."""
        if value < FIRST_BUCKET:
            return 0
        return int(math.log(value * GROWTH / FIRST_BUCKET + 1) / math.log(1 + GROWTH))

    @staticmethod
    def start(bucket: int) -> float:
        """Where a bucket begins [bytes]."""
        return float(FIRST_BUCKET * ((1 + GROWTH) ** bucket - 1) / GROWTH)

    def add(self, value: float, at_ns: int, weight: float = 1.0) -> None:
        """Add a sample; a negative weight takes one off."""
        bucket = self.bucket(value)
        left = self.weight[bucket] + weight * 2.0 ** (at_ns / self.half_life_ns)
        self.weight[bucket] = left
        if left < EPSILON:
            del self.weight[bucket]

    def percentile(self, share: float) -> float:
        """End of the bucket in which the percentile is; 0 without samples."""
        if not self.weight:
            return 0.0
        threshold, total = share * sum(self.weight.values()), 0.0
        buckets = sorted(self.weight)
        for bucket in buckets:
            total += self.weight[bucket]
            if total >= threshold:
                return self.start(bucket + 1)
        return self.start(buckets[-1] + 1)


@dataclass
class ContainerPeaks:
    """One container's peaks; a pod that is made anew begins with none, its histogram is shared."""

    config: Vpa
    histogram: Histogram
    window_end: int | None = None
    last_ns: int = -1
    peak: float = 0.0
    oom_peak: float = 0.0

    def sample(self, usage: float, at_ns: int, *, oom: bool = False) -> None:
        """addMemorySample()."""
        if not oom and at_ns < self.last_ns:
            return
        self.last_ns = at_ns
        if self.window_end is None:
            self.window_end = at_ns
        new = False
        if at_ns < self.window_end:
            old = max(self.peak, self.oom_peak)
            if old != 0 and usage > old:
                self.histogram.add(old, self.window_end, -1.0)
                new = True
        else:
            interval = self.config.aggregation_ns
            self.window_end += ((at_ns - self.window_end) // interval + 1) * interval
            self.peak = self.oom_peak = 0.0
            new = True
        if new:
            self.histogram.add(usage, self.window_end)
            if oom:
                self.oom_peak = usage
            else:
                self.peak = usage

    def record_oom(self, requested: float, at_ns: int) -> None:
        """RecordOOM(): the earlier OOM samples do not count, lest bumps pile up.

        Worked example
        --------------
        Request 400 MiB, peak 390 MiB: 500 MiB. Request 1000 MiB: 1200 MiB.
        """
        used = max(requested, self.peak)
        self.sample(max(used + self.config.oom_min_bump, used * self.config.oom_ratio), at_ns,
                    oom=True)  # fmt: skip


@dataclass
class History:
    """How much the recommender has seen: what its bounds' width depends on."""

    first_ns: int | None = None
    last_ns: int = 0
    samples: int = 0
    histogram: Histogram = field(default_factory=lambda: Histogram(DAY_NS))

    @property
    def confidence(self) -> float:
        """Days of samples, one a minute."""
        if self.first_ns is None:
            return 0.0
        return min((self.last_ns - self.first_ns) / DAY_NS, self.samples / SAMPLES_A_DAY)


def recommend(config: Vpa, history: History) -> Bounds:
    """Lower bound, target and upper bound (CreatePodResourceRecommender, capping).

    The lower bound is multiplied by (1 + 0.001 / confidence)^-2, the upper one by
    1 + 1 / confidence.

    Worked example
    --------------
    One peak of 300 MiB, after five minutes: the bucket's end 330.7 MB and 15 % are 380.3 MB; the
    lower bound is 380.3 / 1.288^2 = 229 MB, so the least of 250 MiB; the upper 110 GB.
    """
    days = history.confidence
    margin = 1 + config.margin
    least = config.least / config.containers

    def estimate(share: float, factor: float) -> float:
        return max(history.histogram.percentile(share) * margin * factor, least)

    low = estimate(LOWER, (1 + 0.001 / days) ** -2 if days > 0 else 0.0)
    high = estimate(UPPER, 1 + 1 / days if days > 0 else math.inf)
    found = (low, estimate(config.percentile, 1.0), high)
    top = math.inf if config.max_allowed is None else config.max_allowed
    low, target, high = (min(max(v, config.min_allowed), top) for v in found)
    return Bounds(int(low), int(target), high)
