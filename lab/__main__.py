"""``python -m lab``: record scenarios with real kernels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from capplan.errors import CapplanError
from lab.calibrate import calibrate
from lab.kernels import LabError, find_kernel
from lab.record import record
from lab.scenario import Scenario, load

SCENARIOS = Path(__file__).parent / "scenarios"
OBSERVED = Path(__file__).parent / "observed" / "busy-node.yaml"
ACCESSES = Path(__file__).parent / "observed" / "accesses.yaml"


def main(arguments: list[str] | None = None) -> int:
    """Parse and do; 2 when something is amiss."""
    args = _parser().parse_args(arguments)
    try:
        args.verb(args)
    except CapplanError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    one = verbs.add_parser("record", help="record one scenario")
    one.add_argument("scenario", type=Path, metavar="SCENARIO.yaml")
    one.set_defaults(verb=_record)
    every = verbs.add_parser("all", help="record every scenario with each kernel that it names")
    every.add_argument("--scenarios", type=Path, default=SCENARIOS, metavar="DIR")
    every.add_argument("--only", action="append", default=[], help="part of a scenario's name")
    every.add_argument("--missing", action="store_true", help="leave out what is there already")
    every.set_defaults(verb=_all)
    speeds = verbs.add_parser("calibrate", help="measure and print the emulated machine's speeds")
    speeds.set_defaults(verb=_calibrate)
    check = verbs.add_parser(
        "capture-check", help="capture and record in a guest, and simulate its next minute"
    )
    check.add_argument(
        "scenario", type=Path, nargs="?", default=OBSERVED, metavar="SCENARIO.yaml",
        help="with what starts after the capture beside it, SCENARIO.next.yaml",
    )  # fmt: skip
    check.set_defaults(verb=_capture_check)
    seen = verbs.add_parser(
        "access-check", help="record --working-set in a guest whose accesses are known"
    )
    seen.add_argument("scenario", type=Path, nargs="?", default=ACCESSES, metavar="SCENARIO.yaml")
    seen.set_defaults(verb=_access_check)
    for verb in (one, every, check):
        verb.add_argument("--out", type=Path, required=True, metavar="DIR")
    for verb in (one, speeds, check, seen):
        verb.add_argument("--kernel", required=True, help="6.1, 6.12, ... or a vmlinuz by path")
        verb.add_argument("--modules", type=Path, help="lib/modules/RELEASE of a kernel by path")
    return parser


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _record(args: argparse.Namespace) -> None:
    kernel = find_kernel(args.kernel, args.modules)
    sys.stdout.write(f"{record(load(args.scenario), kernel, args.out, _tell)}\n")


def _all(args: argparse.Namespace) -> None:
    chosen = [load(path) for path in sorted(args.scenarios.glob("*.yaml"))]
    for scenario in chosen:
        if args.only and not any(part in scenario.name for part in args.only):
            continue
        for series in scenario.kernels:
            _one_of_all(scenario, series, args)


def _one_of_all(scenario: Scenario, series: str, args: argparse.Namespace) -> None:
    name = scenario.name if len(scenario.kernels) == 1 else f"{scenario.name}-{series}"
    if args.missing and (args.out / name / "scenario.json").exists():
        return
    sys.stdout.write(f"{record(scenario, find_kernel(series), args.out, _tell)}\n")


def _capture_check(args: argparse.Namespace) -> None:
    from lab.observe import observe
    from lab.outlook import outlook, table

    kernel = find_kernel(args.kernel, args.modules)
    following = args.scenario.with_suffix(".next.yaml")
    folder = observe(load(args.scenario), following, kernel, args.out, _tell)
    scores = outlook(folder)
    sys.stdout.write(f"{table(scores)}\n{folder}\n")
    if not all(score.passed for found in scores.values() for score in found):
        raise LabError(f"{folder.name}: not within the tolerances of the recordings")


def _access_check(args: argparse.Namespace) -> None:
    from lab.accesses import accesses, table

    rows, said = accesses(load(args.scenario), find_kernel(args.kernel, args.modules))
    sys.stdout.write(f"{table(rows)}\n{said}\n")


def _calibrate(args: argparse.Namespace) -> None:
    smallest = Scenario.model_validate(
        {
            "name": "none", "about": "", "ram_mib": 128, "duration_s": 1.0, "cgroups": {"a": {}},
            "processes": ({
                "name": "none", "cgroup": "a", "start_s": 0.0,
                "phases": ({"op": "hold", "seconds": 1.0},),
            },),
        }
    )  # fmt: skip
    for name, value in calibrate(find_kernel(args.kernel, args.modules), smallest, _tell).items():
        sys.stdout.write(f"{name} {value:g}\n")


if __name__ == "__main__":
    sys.exit(main())
