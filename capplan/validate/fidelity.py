"""How far each mechanism of the model is from real kernels, as measured and committed.

``fidelity.json`` beside this file is written by ``capplan validate ... --docs`` from the
recordings that the project carries; nothing here runs a simulation. A verdict ends with the
figures of the mechanisms that decided it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

DATA = "fidelity.json"
FORMAT = 1


@dataclass(frozen=True)
class Fidelity:
    """A mechanism against the recordings that exercise it.

    Errors are means over the recordings: of the node's curves relative to its memory, of the
    groups' relative to their limit or peak; of the times of kills [s], None where none was.
    """

    mechanism: str
    title: str
    recordings: int
    passed: int
    node_error: float | None = None
    group_error: float | None = None
    kill_error_s: float | None = None
    names: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """In one clause: how many recordings pass and how far they are off."""
        if not self.recordings:
            return f"{self.title}: held against no recording"
        parts = []
        if self.node_error is not None:
            parts.append(f"node {100 * self.node_error:.1f} %")
        if self.group_error is not None:
            parts.append(f"groups {100 * self.group_error:.1f} %")
        if self.kill_error_s is not None:
            parts.append(f"kills {self.kill_error_s:.1f} s")
        off = f" ({', '.join(parts)} off on the mean)" if parts else ""
        return f"{self.title}: {self.passed} of {self.recordings} recordings pass{off}"


@functools.cache
def load() -> dict[str, Any]:
    """The committed figures, as ``capplan validate --docs`` wrote them.

    Raises
    ------
    ValueError
        The file is of another format than this version reads.
    """
    text = resources.files("capplan.validate").joinpath(DATA).read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    if data.get("format") != FORMAT:
        raise ValueError(f"{DATA}: format {data.get('format')} is not {FORMAT}")
    return data


def of_mechanisms(keys: Sequence[str], titles: dict[str, str]) -> tuple[Fidelity, ...]:
    """The figures of some mechanisms, in the order given.

    Parameters
    ----------
    keys : sequence of str
        As :func:`capplan.validate.mechanisms.exercised` returns them.
    titles : dict
        What each is called; one that no recording exercises is told so under its title.
    """
    known = load()["mechanisms"]
    return tuple(_one(key, titles.get(key, key), known.get(key)) for key in keys)


def _one(key: str, title: str, entry: dict[str, Any] | None) -> Fidelity:
    if entry is None:
        return Fidelity(key, title, 0, 0)
    return Fidelity(
        key,
        title,
        len(entry["recordings"]),
        entry["passed"],
        entry["node_error"],
        entry["group_error"],
        entry["kill_error_s"],
        tuple(entry["recordings"]),
    )
