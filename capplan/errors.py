"""The errors that capplan raises, and the problems with input that they list.

A :class:`Problem` says where, what, what was expected and how to repair it; an
:class:`InputError` lists all problems of all files at once. Warnings are problems too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "CODES",
    "CapplanError",
    "InputError",
    "InternalError",
    "Place",
    "Problem",
    "closest",
    "quoted",
    "row_problem",
]

SHOWN = 20
"""Problems that are written out; of the rest only the number is."""

_CODE_COLUMN = 60
_QUOTED_LENGTH = 60

CODES = {
    "C001": "A file is missing or cannot be read.",
    "C002": "The file is not YAML.",
    "C003": "The file is too large.",
    "C004": "Aliases or nesting blow the file up.",
    "C005": "A key stands twice in one mapping.",
    "C006": "A YAML feature that is not accepted here.",
    "C010": "A key that does not exist.",
    "C011": "A key is missing.",
    "C012": "Not a memory size.",
    "C013": "Not a duration.",
    "C014": "Not a rate.",
    "C015": "Not a share.",
    "C016": "The wrong kind of value.",
    "C017": "A value out of its range.",
    "C018": "Not one of the known words.",
    "C019": "Keys that do not go together.",
    "C020": "A key of the other cgroup version.",
    "C021": "A control group that does not exist.",
    "C022": "A limit below what the group is promised or already uses.",
    "C023": "A memsw limit below the memory limit.",
    "C024": "A swap limit on a node without swap.",
    "C025": "A kernel release that cannot be parsed.",
    "C026": "The node cannot boot.",
    "C027": "min_free_kbytes takes a large part of the memory.",
    "C028": "A size of less than a byte, or less than a page.",
    "C029": "A name that does not exist.",
    "C030": "A change that is not possible during a run.",
    "C031": "More memory is promised than there is.",
    "C032": "A setting that has no effect.",
    "C033": "A key that was translated for the other cgroup version, or left out.",
    "C035": "A language runtime that does not fit its settings or its limit.",
    "C036": "The pool of huge pages leaves no memory.",
    "C037": "The pool of huge pages takes more memory than it leaves.",
    "C040": "A trace with a bad row.",
}
"""What each code stands for."""


@dataclass(frozen=True, order=True)
class Place:
    """A position in a file; line and column count from 1, 0 leaves them out."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """``file:line:column``, as editors jump to it."""
        parts = [self.file]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        return ":".join(parts)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the input, or doubtful.

    Attributes
    ----------
    place : Place
        Where it is.
    path : str
        Key path in the file, such as ``containers.shop.memory.max``; may be empty.
    message : str
        What is wrong, with the value quoted.
    expected : str
        What would be right; may be empty.
    suggestion : str
        The value or key that was probably meant; may be empty.
    code : str
        A key of :data:`CODES`.
    severity : str
        ``error`` or ``warning``.
    """

    place: Place
    path: str
    message: str
    expected: str = ""
    suggestion: str = ""
    code: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        """Where, what, what was expected, repair, code."""
        kind = "warning: " if self.severity == "warning" else ""
        path = f"{self.path}: " if self.path else ""
        lines = [f"{self.place}: {kind}{path}{self.message}"]
        if self.expected:
            lines.append(f"    expected {self.expected}")
        if self.suggestion:
            lines.append(f"    did you mean '{self.suggestion}'?")
        if self.code:
            width = _CODE_COLUMN - 1 if len(lines) > 1 else 0
            lines[-1] = f"{lines[-1]:<{width}} [{self.code}]"
        return "\n".join(lines)


class CapplanError(Exception):
    """Any error that capplan raises on purpose."""

    exit_code = 2


class InputError(CapplanError):
    """The input is wrong; lists every problem found.

    Parameters
    ----------
    problems : str, Problem or iterable of Problem
        What is wrong. A text stands for itself.
    """

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = ()
        if isinstance(problems, str):
            super().__init__(problems)
            return
        listed = (problems,) if isinstance(problems, Problem) else problems
        # a profile that several containers use is read once for each: its problems repeat
        self.problems = tuple(dict.fromkeys(listed))
        super().__init__(_listing(self.problems))


class InternalError(CapplanError):
    """An invariant is broken: a bug in capplan, never the user's fault.

    Parameters
    ----------
    message : str
        Which invariant, with the values.
    seed, replicate : int, optional
        What draws the run had.
    command : str
        The command that reproduces it.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        seed: int | None = None,
        replicate: int | None = None,
        command: str = "",
    ) -> None:
        self.seed = seed
        self.replicate = replicate
        self.command = command
        facts = [f"seed {seed}"] if seed is not None else []
        if replicate is not None:
            facts.append(f"replicate {replicate}")
        text = f"{message} ({', '.join(facts)})" if facts else message
        super().__init__(f"{text}\n    reproduce with: {command}" if command else text)


def _listing(problems: tuple[Problem, ...]) -> str:
    """Write the first problems and the number of the others."""
    lines = [str(problem) for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        rest = len(problems) - SHOWN
        lines.append(f"and {rest} more problem{'s' if rest > 1 else ''}")
    return "\n".join(lines)


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most like ``word``, or an empty text.

    Worked example
    --------------
    ``closest("memry.max", ["memory.max", "memory.min"])`` is ``"memory.max"``;
    ``closest("limit", ["memory.max"])`` is ``""``.
    """
    choices = sorted(known)
    folded = {choice.lower().replace("_", "."): choice for choice in choices}
    found = difflib.get_close_matches(word.lower().replace("_", "."), list(folded), 1, 0.6)
    return folded[found[0]] if found else ""


def quoted(value: object) -> str:
    """Quote a value for a message, cut where it is long."""
    text = str(value)
    if len(text) > _QUOTED_LENGTH:
        text = text[:_QUOTED_LENGTH] + "..."
    # a control character must not reach the terminal, nor a surrogate its encoder
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"'{''.join(shown)}'"


def row_problem(
    file: object,
    line: int,
    message: str,
    *,
    column: str = "",
    expected: str = "",
    suggestion: str = "",
    severity: str = "error",
) -> Problem:
    """Make the problem of a CSV row: ``web.csv:17: memory: '-5' is negative``.

    Parameters
    ----------
    file : path or str
        The CSV file.
    line : int
        Line in the file, the header being 1; 0 is the file as a whole.
    message, expected, suggestion : str
        As in :class:`Problem`.
    column : str
        Name of the column.
    severity : str
        ``error`` or ``warning``.
    """
    place = Place(str(file), line)
    return Problem(place, column, message, expected, suggestion, "C040", severity)
