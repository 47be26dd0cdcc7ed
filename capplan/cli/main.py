"""The ``capplan`` command: a table of subcommands, each imported only when it is used.

Nothing at the top of this file, or of any command's file, may import numba, numpy, pandas,
pydantic, matplotlib, scipy or rich: ``capplan --help`` has to answer at once
(``tests/test_imports.py`` holds it).
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

import capplan
from capplan.cli.errors import reported
from capplan.cli.lazy import LazyGroup, Table

# name -> (module, attribute, the line in `capplan --help`)
COMMANDS: Table = {
    "simulate": (
        "capplan.cli.simulate",
        "simulate",
        "Play a node file; say who is throttled, paused or killed.",
    ),
    "risk": (
        "capplan.cli.risk",
        "risk",
        "Run a node file many times: how likely is what.",
    ),
    "sweep": (
        "capplan.cli.sweep",
        "sweep",
        "Try many settings: which fit, and which moves the risk.",
    ),
    "compare": (
        "capplan.cli.compare",
        "compare",
        "Set settings side by side on the same workloads.",
    ),
    "headroom": (
        "capplan.cli.headroom",
        "headroom",
        "Say how much more a node bears.",
    ),
    "check": (
        "capplan.cli.check",
        "check",
        "Hold a node against its gate, for CI.",
    ),
    "recommend": (
        "capplan.cli.recommend",
        "recommend",
        "Recommend limits, requests, reserves and sysctls.",
    ),
    "explain": (
        "capplan.cli.explain",
        "explain",
        "Tell the story of one incident of a result.",
    ),
    "report": (
        "capplan.cli.report",
        "report",
        "Turn a result into a page, a comment or pictures; compare two.",
    ),
    "init": (
        "capplan.cli.init",
        "init",
        "Write a starting node file and profile.",
    ),
    "demo": (
        "capplan.cli.demo",
        "demo",
        "Simulate a shipped node.",
    ),
    "capture": (
        "capplan.cli.capture",
        "capture",
        "Write this host as a node file.",
    ),
    "record": (
        "capplan.cli.record",
        "record",
        "Record this host's memory over time.",
    ),
    "export": (
        "capplan.cli.export",
        "export",
        "Write a recommendation as what is applied.",
    ),
    "import": (
        "capplan.cli.import_",
        "import_",
        "Turn foreign files into a node file and profiles.",
    ),
    "validate": (
        "capplan.cli.validate",
        "validate",
        "Compare the model with recordings of real kernels.",
    ),
    "help": (
        "capplan.cli.help",
        "help_",
        "Say what an error's code stands for.",
    ),
    "cache": (
        "capplan.cli.cache",
        "cache",
        "Show or clear the compiled engine.",
    ),
}


class Commands(LazyGroup):
    """The table of commands; what goes wrong in one is said on stderr with an exit code."""

    def hint(self, name: str) -> str:
        """What was probably meant; a node file is meant to be simulated."""
        if name.endswith((".yaml", ".yml")):
            return f" Did you mean 'capplan simulate {name}'?"
        return super().hint(name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what goes wrong is said on stderr with an exit code."""
        with reported(ctx, debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@click.group(cls=Commands, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(capplan.__version__, prog_name="capplan")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Simulate a Linux node's memory: who gets throttled, paused or killed, and why.

    Exit codes: 0 done (with --gate: fits), 1 a gate failed, 2 bad input, 3 an error in capplan
    itself, 130 interrupted.
    """


def main() -> None:
    """Run the command line."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started it (>&-): talk to nobody
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    cli(prog_name="capplan")
