"""``capplan record``: this host's groups over time, as a node file that follows them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capplan.cli.options import on_terminal

if TYPE_CHECKING:
    from capplan.sources.record import Recorder
    from capplan.sources.working_set import Watcher


def _duration(ctx: click.Context, param: click.Parameter, value: str) -> float:
    from capplan.units import UnitError, parse_duration

    try:
        seconds = parse_duration(value) / 1e9
    except UnitError as error:
        raise click.BadParameter(f"{error.message}; expected {error.expected}") from error
    if seconds < 0.05:
        raise click.BadParameter(f"'{value}' is less than 50ms")
    return seconds


@click.command()
@click.option("--interval", default="1s", show_default=True, callback=_duration)
@click.option("--duration", default="1h", show_default=True, callback=_duration)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("recording"),
    show_default=True,
    help="Directory for the trace, node.yaml and its profiles.",
)
@click.option("--group", default="", metavar="PATH", help="Record this control group only.")
@click.option(
    "--working-set",
    type=click.Choice(("refaults", "idle", "damon", "auto")),
    default="refaults",
    show_default=True,
    help="How accesses are seen. refaults: what missed, which needs pressure. idle, damon: idle "
    "page tracking or DAMON, as root; auto: whichever there is.",
)
@click.option("--finish", is_flag=True, help="Finish a recording that was killed; record nothing.")
def record(
    interval: float, duration: float, out: Path, group: str, working_set: str, finish: bool
) -> None:
    """Record every control group's memory and write a node file that follows it.

    Takes less than 1 % of a CPU and 30 MB. What was recorded is kept whatever happens: a
    recording that was killed is finished with --finish. Ctrl-C ends it early.
    """
    if not finish:
        _record(interval, duration, out, group.strip("/"), working_set)
    _apart("finish", out)
    click.echo(f"wrote {out / 'node.yaml'}, {out / 'trace.csv'}")
    click.echo(f"next: capplan simulate {out / 'node.yaml'}")


def _record(interval: float, duration: float, out: Path, group: str, method: str) -> None:
    from capplan.errors import InputError
    from capplan.sources.record import TRACE, Recorder

    if (out / TRACE).exists():
        raise InputError(f"{out / TRACE} is there already: give another --out, or --finish")
    recorder = Recorder(out, interval, duration, only=group)
    recorder.watcher = _watcher(method, recorder)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: recorder.stop())
    recorder.start()
    _apart("begin", out)
    cost = recorder.run(_shown if on_terminal() else None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    share = 100 * cost.cpu_s / cost.wall_s if cost.wall_s else 0.0
    kernel = f", DAMON {100 * cost.kernel_s / cost.wall_s:.2f} %" if cost.kernel_s else ""
    click.echo(
        f"{cost.sweeps} samples in {cost.wall_s:.1f} s; took {share:.2f} % of a CPU and "
        f"{cost.max_rss / 1e6:.1f} MB{kernel}",
        err=True,
    )


def _watcher(method: str, recorder: Recorder) -> Watcher | None:
    """What looks at accesses; an error where what was asked for by name cannot be had."""
    from capplan.errors import InputError
    from capplan.sources.damon import Damon
    from capplan.sources.idle_pages import IdlePages

    if method == "refaults" or recorder.tree is None:
        return None
    reasons = []
    for kind in (IdlePages, Damon):
        if method not in (kind.method, "auto"):
            continue
        reason = kind.missing(recorder.host)
        if not reason:
            try:
                found = kind(recorder.host, recorder.tree.top)
            except OSError as error:
                reason = f"{kind.method}: {error.strerror or error}"
            else:
                click.echo(f"working set by {kind.method}", err=True)
                return found
        reasons.append(reason)
    if method != "auto":
        raise InputError(f"--working-set {method}: {'; '.join(reasons)}")
    click.echo(f"working set by refaults alone: {'; '.join(reasons)}", err=True)
    return None


def _shown(share: float) -> None:
    """Progress without rich, which would not fit into the recorder's memory."""
    click.echo(f"\r{100 * share:3.0f} %", err=True, nl=share >= 1.0)


def _apart(what: str, out: Path) -> None:
    """Capture or finish in another process: models and YAML are large."""
    code = (
        "import sys\n"
        "from capplan.errors import CapplanError\n"
        "from capplan.sources import record_profile\n"
        f"try:\n    record_profile.{what}(sys.argv[1])\n"
        "except CapplanError as error:\n    sys.exit(str(error))\n"
    )
    # a Ctrl-C meant for the recorder must not end what finishes it
    options: dict[str, Any] = {"start_new_session": True}
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        check=False, capture_output=True, text=True, **options,
    )  # fmt: skip
    if done.stderr:
        click.echo(done.stderr.rstrip(), err=True)
    if done.returncode:
        click.get_current_context().exit(2)
