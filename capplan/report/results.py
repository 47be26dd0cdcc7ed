"""The result directory: written whole, read again by ``capplan explain``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from capplan.plan.outcome_model import Outcome
    from capplan.sim.result import Run

FORMAT = 1


@dataclass(frozen=True)
class Result:
    """A result directory, read back."""

    outcome: Outcome
    provenance: dict[str, Any] = field(default_factory=dict)


def summary(
    outcome: Outcome, run: Run, *, command: str = "", resolved: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``summary.json`` (and ``--json``) holds, verdict first."""
    raise NotImplementedError


def write(
    outcome: Outcome,
    run: Run,
    directory: Path,
    *,
    command: str = "",
    resolved: Mapping[str, Any] | None = None,
    picture: bool = True,
) -> list[Path]:
    """Write summary.json, events.csv, timeseries.csv.gz, resolved.json and memory.png.

    Parameters
    ----------
    outcome, run
        What :func:`capplan.plan.outcome.analyse` said, and of what.
    directory : Path
        Made when missing.
    command : str
        The command line, for provenance.
    resolved : mapping, optional
        The resolved input file as plain data (resolved.yaml); None: the scenario (resolved.json).
    picture : bool
        Whether to draw memory.png (imports matplotlib).

    Returns
    -------
    list of Path
        The files written.
    """
    raise NotImplementedError


def read(directory: Path) -> Result:
    """Read a result directory (or its summary.json)."""
    raise NotImplementedError
