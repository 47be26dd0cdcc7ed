"""Runs a case at four granule orders and says how far the coarser ones are from the first.

Algorithm::

    for each seed:  base = run(g);  for step 1..3: other = run(g + step)
                    step 0: run(g) again with other draws and processes that start some
                    microseconds later: how much chance alone does
        victims     names of the killed, in order, are the same
        first kill  |t' - t| / t
        usage       per container, mean of memory.current until the first kill of either run:
                    |u' - u|, as a share of u, or in granules of the coarser run

Where step 0 itself has a seed beyond half of what is allowed, a seed of two orders, which draw
independently, is beyond it by chance now and then, and the share of seeds says little of the
granule; there the means over the seeds are compared, and all of their 95 % interval must lie
within the same 2 %. So a mean that is 2 % off or more passes once in 40 times at most, however
few seeds there are; too few show as an interval that is too wide.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from capplan.sim.result import Run
from capplan.sim.run import run
from tests.verification.convergence_cases import CASES, Case

STEPS = (1, 2, 3)
TIME_SHARE, USAGE_SHARE, USAGE_GRANULES = 0.02, 0.02, 2
AGREEING = 0.95  # share of the seeds that must hold each of the three
CONFIDENCE = 0.95
PAGE = 4096


@dataclass(frozen=True)
class Distance:
    """How far a run is from the same world with smaller granules."""

    seed: int
    step: int
    same_victims: bool
    later: float  # of the first kill, as a share of its time; 0 when neither run kills
    usage_share: float  # worst container
    usage_granules: float  # of that container, in granules of the coarser run
    more: dict[str, float]  # usage of each container, as a share, signed
    scan_ratio: float  # pages scanned, coarser / finer
    fault_ratio: float  # major faults, coarser / finer
    wall_s: float

    @property
    def time_share(self) -> float:
        """Distance of the first kill's times."""
        return abs(self.later)

    @property
    def usage_ok(self) -> bool:
        """Whether the usage is within 2 % or two granules."""
        return self.usage_share <= USAGE_SHARE or self.usage_granules <= USAGE_GRANULES

    @property
    def time_ok(self) -> bool:
        """Whether the first kill is within 2 %."""
        return self.time_share <= TIME_SHARE


ENDS = ("oom_kill", "paused")  # of a v1 group with oom_kill_disable: it is paused instead


def victims(result: Run) -> tuple[str, ...]:
    """Who was killed or paused, in order."""
    return tuple(event.name for event in result.events if event.event in ENDS)


def first_kill(result: Run) -> float:
    """Run time of the first kill or pause [s], or infinity."""
    times = [event.t for event in result.events if event.event in ENDS]
    return min(times, default=float("inf"))


def _usages(result: Run) -> dict[str, np.ndarray]:
    return {
        name.split(".")[1]: values / PAGE
        for name, values in result.series.items()
        if name.startswith("cgroup.")
        and name.endswith((".memory.current", ".memory.usage_in_bytes"))
    }


def _usage_distances(base: Run, other: Run) -> dict[str, tuple[float, float]]:
    """Per container: the difference of mean usage as a share, and in granules."""
    until = min(first_kill(base), first_kill(other))
    before = base.series["t"] < until
    coarse = _usages(other)
    found = {}
    for name, values in _usages(base).items():
        mean = max(float(values[before].mean()), 1.0)
        gap = float(coarse[name][before].mean()) - mean
        found[name] = (gap / mean, gap / other.granule_pages)
    return found


def _total(result: Run, *names: str) -> float:
    return float(sum(result.series[name][-1] for name in names if name in result.series))


def _scanned(result: Run) -> float:
    stats = [n for n in result.series if n.endswith(".stat.pgscan")]
    return _total(result, *stats)


def _ratio(other: float, base: float) -> float:
    return other / base if base > 0 else (1.0 if other == 0 else float("inf"))


def distance(seed: int, step: int, base: Run, other: Run) -> Distance:
    """Compare a coarser run with its base."""
    begin, end = first_kill(base), first_kill(other)
    later = 0.0 if begin == end else (end - begin) / begin if begin < 1e18 else float("inf")
    usages = _usage_distances(base, other)
    usage, granules = max((abs(share), abs(count)) for share, count in usages.values())
    faults = [sum(t.majfaults for t in result.totals) for result in (base, other)]
    return Distance(
        seed, step, victims(base) == victims(other), later, usage, granules,
        {name: share for name, (share, _) in usages.items()},
        _ratio(_scanned(other), _scanned(base)), _ratio(faults[1], faults[0]), other.wall_s,
    )  # fmt: skip


def measure(case: Case, seeds: Iterable[int], steps: Sequence[int] = STEPS) -> list[Distance]:
    """Distances of all seeds and steps of a case, and of other draws at the same order (step 0)."""
    found = []
    for seed in seeds:
        base = run(case.scenario(case.first_order, seed))
        chance = run(case.nudged(seed), replicate=1)
        found.append(distance(seed, 0, base, chance))
        for step in steps:
            other = run(case.scenario(case.first_order + step, seed))
            found.append(distance(seed, step, base, other))
    return found


@dataclass(frozen=True)
class Mean:
    """A signed mean over the seeds and half of its 95 % interval (Student's t)."""

    value: float
    half: float

    @property
    def farthest(self) -> float:
        """The end of the interval that is farther from zero, as a distance."""
        return abs(self.value) + self.half

    def __format__(self, spec: str) -> str:
        return f"{self.value:+.2%} ± {self.half:.2%}"


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of what the seeds gave; one seed alone says nothing about the others."""
    n = len(values)
    if n < 2:
        return Mean(float(values[0]), float("inf"))
    quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))
    return Mean(float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / n**0.5)


@dataclass(frozen=True)
class Line:
    """One line of the table: a case at g + step, over all seeds."""

    case: str
    step: int
    runs: int
    victims: float  # share of seeds with the same victims
    time_worst: float
    time_median: float
    usage_worst: float
    usage_outside: int  # seeds beyond 2 % and two granules
    time_outside: int
    time_bias: Mean
    usage_bias: Mean  # of the container in which it may be largest
    scan_ratio: float
    fault_ratio: float

    @property
    def passes(self) -> bool:
        """Whether 95 % of the seeds have the same victims, time and usage."""
        most = (1.0 - AGREEING) * self.runs + 1e-9
        return self.victims >= AGREEING and max(self.time_outside, self.usage_outside) <= most

    @property
    def is_steady(self) -> bool:
        """Whether no seed is farther than half of what is allowed."""
        return self.time_worst <= TIME_SHARE / 2 and self.usage_worst <= USAGE_SHARE / 2

    @property
    def passes_on_the_whole(self) -> bool:
        """Whether 95 % have the same victims and both means are surely within the bounds."""
        near = self.time_bias.farthest <= TIME_SHARE and self.usage_bias.farthest <= USAGE_SHARE
        return self.victims >= AGREEING and near


def _usage_bias(part: Sequence[Distance]) -> Mean:
    means = [mean_of([d.more[name] for d in part]) for name in part[0].more]
    return max(means, key=lambda mean: mean.farthest)


def summarise(case: Case, found: Sequence[Distance]) -> list[Line]:
    """The table's lines of one case."""
    lines = []
    for step in sorted({d.step for d in found}):
        part = [d for d in found if d.step == step]
        times = [d.time_share for d in part]
        lines.append(Line(
            case.name, step, len(part), float(np.mean([d.same_victims for d in part])),
            max(times), float(np.median(times)), max(d.usage_share for d in part),
            sum(not d.usage_ok for d in part), sum(not d.time_ok for d in part),
            mean_of([d.later for d in part]), _usage_bias(part),
            float(np.median([d.scan_ratio for d in part])),
            float(np.median([d.fault_ratio for d in part])),
        ))  # fmt: skip
    return lines


def verdicts(lines: Sequence[Line]) -> dict[int, bool]:
    """Whether each step of a case holds: by its seeds, or by its means where chance moves seeds."""
    chance = next(line for line in lines if line.step == 0)
    return {
        line.step: line.passes if chance.is_steady else line.passes_on_the_whole
        for line in lines
        if line.step
    }


HEADER = (
    "| case | seeds | orders | same victims | first kill, median | worst | outside | usage, worst "
    "| outside | mean: kill | usage | scans | faults | holds |\n" + "|---" * 14 + "|"
)


def table(case: Case, lines: Sequence[Line]) -> list[str]:
    """The lines of a case in Markdown."""
    holds = verdicts(lines)
    chance = next(line for line in lines if line.step == 0)
    how = "seeds" if chance.is_steady else "means"
    told = {step: f"yes ({how})" if good else f"no ({how})" for step, good in holds.items()}
    return [_row(case, line, told.get(line.step, "")) for line in lines]


def _row(case: Case, line: Line, verdict: str) -> str:
    orders = f"{case.first_order} and {case.first_order + line.step}"
    if line.step == 0:
        orders = f"{case.first_order}, other draws"
    return (
        f"| {line.case} | {line.runs} | {orders} "
        f"| {line.victims:.0%} | {line.time_median:.2%} | {line.time_worst:.2%} "
        f"| {line.time_outside} | {line.usage_worst:.2%} | {line.usage_outside} "
        f"| {line.time_bias} | {line.usage_bias} "
        f"| x{line.scan_ratio:.2f} | x{line.fault_ratio:.2f} | {verdict} |"
    )


def draw(case: Case, found: Sequence[Distance], folder: pathlib.Path) -> pathlib.Path:
    """One picture of a case: distance of time and usage over the granule order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    for axes, attribute, title in zip(
        figure.subplots(1, 2, sharey=True),
        ("time_share", "usage_share"),
        ("first kill's time", "usage (worst container)"),
    ):
        for d in found:
            value = min(getattr(d, attribute), 1.0) * 100
            axes.plot(
                case.first_order + d.step, value, "o", ms=3,
                color="tab:blue" if d.same_victims else "tab:red",
            )  # fmt: skip
        axes.axhline(2.0, color="grey", lw=0.8, ls="--")
        axes.set(title=title, xlabel="granule order")
        axes.set_xticks([case.first_order + step for step in (0, *STEPS)])
    figure.axes[0].set_ylabel(f"distance from order {case.first_order} [%]")
    figure.suptitle(f"{case.name}: {len({d.seed for d in found})} seeds (red: other victims)")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"convergence-{case.name}.svg"
    figure.savefig(path)
    return path


def main() -> None:
    """Print the table; pictures go to build/verification."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("cases", nargs="*", help="names; all by default")
    parser.add_argument("--seeds", type=int, help="as many as the case asks for by default")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("build/verification"))
    chosen = parser.parse_args()
    out = sys.stdout
    out.write(HEADER + "\n")
    for case in CASES:
        if chosen.cases and case.name not in chosen.cases:
            continue
        found = measure(case, range(1, (chosen.seeds or case.seeds) + 1))
        out.writelines(line + "\n" for line in table(case, summarise(case, found)))
        out.flush()
        draw(case, found, chosen.folder)


if __name__ == "__main__":
    main()
