"""``python -m capplan.validate DIR...``: the developer's short way to a score.

With ``--series`` it lays model and kernel side by side; a crash of the model shows whole.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from capplan.validate.judge import find_recordings, judge_all
from capplan.validate.output import render, side_by_side, write_json


def main(arguments: list[str] | None = None) -> int:
    """Parse, judge, print; 1 when a recording fails, 2 when a folder is none."""
    parser = argparse.ArgumentParser(prog="python -m capplan.validate", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--only", action="append", default=[], help="part of a recording's name")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--series", nargs="*", metavar="PART", help="print series that contain it")
    parser.add_argument("--step", type=int, default=1, help="with --series: every so many seconds")
    args = parser.parse_args(arguments)
    try:
        recordings = find_recordings(args.folders)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    chosen = [r for r in recordings if not args.only or any(o in r.name for o in args.only)]
    if not chosen:
        sys.stderr.write("no recording of that name\n")
        return 2
    verdicts = []
    for verdict in judge_all(chosen, args.jobs):
        verdicts.append(verdict)
        sys.stderr.write(f"{verdict.name}: {verdict.wall_s:.1f} s\n{verdict.error}")
        if args.series is not None and verdict.score is not None:
            sys.stdout.writelines(f"{n}\n" for n in side_by_side(verdict, args.series, args.step))
    render(verdicts, sys.stdout)
    if args.out:
        write_json(verdicts, args.out)
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
