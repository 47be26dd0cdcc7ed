"""Recordings of real kernels at several granule orders: which series leave their bar.

    python -m tests.verification.recordings tests/recordings

At order 0 the model is held against the kernel; what a coarser order adds is the granule's.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import replace

from capplan.validate.judge import Verdict, find_recordings, judge
from capplan.validate.truth import Recording

ORDERS = (0, 1, 2, 3)


def at_order(recording: Recording, order: int) -> Verdict:
    """The verdict on a recording with granules of 2^order pages."""
    return judge(recording, lambda scenario: replace(scenario, granule_order=order))


def over(verdict: Verdict) -> str:
    """The series that are further off than allowed, and what else fails, on one line."""
    if verdict.score is None:
        return verdict.why[0]
    series = [f"{s.series} {s.mean:.1%}" for s in verdict.score.series if not s.passed]
    others = (*verdict.score.why_events, *verdict.score.why_pauses, *verdict.score.why_marks)
    return "; ".join([*series, *others])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what fails at each order."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--orders", type=int, nargs="+", default=ORDERS)
    chosen = parser.parse_args(arguments)
    recordings = find_recordings(chosen.folders)
    out = sys.stdout
    for order in chosen.orders:
        verdicts = [at_order(recording, order) for recording in recordings]
        passed = sum(verdict.passed for verdict in verdicts)
        out.write(f"order {order}: {passed} of {len(verdicts)} pass\n")
        out.writelines(f"  {v.name}: {over(v)}\n" for v in verdicts if not v.passed)
        out.flush()


if __name__ == "__main__":
    main()
