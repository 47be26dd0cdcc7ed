"""Which of several settings to take, and what parts them: paired tests, replicate by replicate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from capplan.plan.compare_model import Against, Setting
from capplan.plan.intervals import CONFIDENCE, percent
from capplan.units import format_bytes

__all__ = ["against", "pick", "sign_test"]

LEVEL = 1 - CONFIDENCE  # below it a difference is not put down to chance
PSI_CLOSE = 0.001  # 0.1 % of the time: less is no difference that anybody feels
STALLS_CLOSE = 10.0  # allocation stalls in a run


def against(here: Mapping[int, bool], there: Mapping[int, bool]) -> Against | None:
    """Compare two settings by the replicates that fit under one of them only.

    Parameters
    ----------
    here, there : mapping of int to bool
        Whether each replicate went without incident.
    """
    both = here.keys() & there.keys()
    if not both:
        return None
    only_here = sum(here[r] and not there[r] for r in both)
    only_there = sum(there[r] and not here[r] for r in both)
    return Against(only_here, only_there, sign_test(only_here, only_there))


def sign_test(one: int, other: int) -> float:
    """Two-sided exact sign test: how likely so uneven a split is by chance.

    Worked example
    --------------
    >>> sign_test(0, 6), sign_test(3, 3)
    (0.03125, 1.0)
    """
    n, few = one + other, min(one, other)
    tail: float = sum(math.comb(n, k) for k in range(few + 1)) / 2**n
    return min(1.0, 2 * tail)


def pick(
    settings: Sequence[Setting],
    fits: Sequence[Mapping[int, bool]],
    written: int | None = None,
) -> tuple[int | None, str]:
    """The setting to take (None: none could be run), and a sentence that says why.

    First what can be told apart by incidents; among the equally good the least pressure, then the
    fewest allocation stalls, then the most memory above the high mark; then the one that is
    ``written`` in the node file already, then the one named first.
    """
    running = [n for n, setting in enumerate(settings) if setting.risk is not None]
    if not running:
        return None, "No setting could be run."
    best = max(running, key=lambda n: (_fit_share(settings[n]), -n))
    as_good = [n for n in running if _as_good(fits[n], fits[best])]
    reasons: list[str] = []
    if len(as_good) < len(running):
        reasons.append(_incidents(settings, as_good))
    for metric, close, words in (
        ("psi_some", PSI_CLOSE, "the least memory pressure"),
        ("direct_stalls", STALLS_CLOSE, "the fewest allocation stalls"),
    ):
        figures = {n: _mean(settings[n], metric) for n in as_good}
        least = min(figures.values())
        kept = [n for n in as_good if figures[n] <= least + close]
        if len(kept) < len(as_good):
            reasons.append(words)
        as_good = kept
    chosen = min(as_good, key=lambda n: (_taken(settings[n]), n != written, n))
    if len(as_good) > 1:
        reasons.append(_memory(settings, as_good, chosen, chosen == written))
    return chosen, _sentence(settings, settings[chosen], reasons)


def _as_good(mine: Mapping[int, bool], best: Mapping[int, bool]) -> bool:
    """Whether chance alone may be what parts a setting from the best one."""
    found = against(mine, best)
    return found is None or found.p_value > LEVEL


def _fit_share(setting: Setting) -> float:
    assert setting.risk is not None
    return setting.risk.fitting.p or 0.0


def _mean(setting: Setting, metric: str) -> float:
    found = None if setting.risk is None else setting.risk.spread.get(metric)
    return 0.0 if found is None else found.mean


def _taken(setting: Setting) -> int:
    return 0 if setting.marks is None else setting.marks.high


def _incidents(settings: Sequence[Setting], as_good: Sequence[int]) -> str:
    worst = min(
        (n for n, s in enumerate(settings) if s.risk is not None and n not in as_good),
        key=lambda n: _fit_share(settings[n]),
    )
    return (
        f"{percent(_fit_share(settings[as_good[0]]))} % of its runs go without incident, "
        f"{percent(_fit_share(settings[worst]))} % with {settings[worst].label}"
    )


def _memory(
    settings: Sequence[Setting], as_good: Sequence[int], pick: int, is_written: bool
) -> str:
    most = max(_taken(settings[n]) for n in as_good)
    if most == _taken(settings[pick]):
        why = "what the node file has" if is_written else "named first"
        return f"nothing parts it from {_others(len(as_good))}, it is {why}"
    return (
        f"it keeps the least memory back (high mark {format_bytes(_taken(settings[pick]))}, "
        f"up to {format_bytes(most)} with the others)"
    )


def _others(as_good: int) -> str:
    return "the other" if as_good == 2 else "the others"


def _sentence(settings: Sequence[Setting], chosen: Setting, reasons: Sequence[str]) -> str:
    assert chosen.risk is not None
    why = "; ".join(reasons) or "it is the only one that runs"
    share, runs = chosen.risk.fitting, f"{chosen.risk.runs:,} runs"
    if all(s.risk is None or s.risk.fitting.count == 0 for s in settings):
        return (
            f"No setting helps: under each, every one of {runs} has an incident. Of these, "
            f"{chosen.label} is to be preferred: {why}."
        )
    return f"Take {chosen.label}: {why}. Under it {share} of {runs} go without incident."
