"""Quantities: one parser per dialect, exact integers, and the formats that reports print.

The same text means different things in different files: ``512m`` is 0.512 bytes in
Kubernetes and 512 MiB in compose; ``512M`` is 512 * 10**6 bytes in Kubernetes and
512 * 2**20 in compose, systemd and cgroupfs. So nothing here guesses: the caller names
the dialect of the file it reads. Node files and profiles are written in Kubernetes'.

Bytes and nanoseconds are integers; parsing goes through :class:`fractions.Fraction`, so no
size is ever rounded by a float.
"""

from __future__ import annotations

import math
import re
from enum import Enum
from fractions import Fraction

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
UNLIMITED = -1
"""What ``max``, ``infinity`` and cgroup v1's ``-1`` are read as."""

MAX_BYTES = (1 << 63) - 1
"""Sizes are int64 all the way down; the kernel's counters are no wider."""

_MAX_DIGITS = 40
_MAX_EXPONENT = 40
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}
_DECIMAL = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}
_POWERS_1024 = {letter: 1 << 10 * power for power, letter in enumerate(("", *"kmgtpe"))}
_NS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "sec": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
}
_K8S = re.compile(rf"({_NUMBER})(?:[eE]([+-]?[0-9]+)|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]))?")
_DOCKER = re.compile(rf"({_NUMBER}) ?(?:([kmgtp])i?)?b?", re.IGNORECASE)
_SYSTEMD = re.compile(r"\s*([0-9]+)(?:\.([0-9]*))?\s*([EPTGMKB]?)\s*")
_CGROUPFS = re.compile(r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)([kmgtpeKMGTPE]?)")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]+)\s*")


class Dialect(Enum):
    """Whose notation a size is written in."""

    K8S = "kubernetes"
    DOCKER = "docker"
    SYSTEMD = "systemd"
    CGROUPFS = "cgroupfs"


EXPECTED = {
    Dialect.K8S: "digits with Ki, Mi, Gi, Ti (1024) or k, M, G, T (1000)",
    Dialect.DOCKER: "digits with b, k, m, g (1024), such as 512m",
    Dialect.SYSTEMD: "digits with K, M, G, T (1024), or infinity",
    Dialect.CGROUPFS: "bytes, digits with K, M, G (1024), or max",
}
EXPECTED_DURATION = "digits with ns, us, ms, s, min, h, d, such as 250ms, 10min or 1h30m"
EXPECTED_RATE = "a size per s, min or h, such as 20Mi/s"


class UnitError(ValueError):
    """A text that is no quantity: what it is, what was expected, and a likely repair."""

    def __init__(self, message: str, expected: str = "", suggestion: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.suggestion = suggestion


class Size(int):
    """A number of bytes that remembers the text and the exact value it was read from.

    ``'500m'`` of memory is half a byte in Kubernetes' notation; the size is then 1 (the
    API server rounds up) and ``exact`` 1/2, which a check turns into a warning.
    """

    text: str
    exact: Fraction

    def __new__(cls, value: int, text: str = "", exact: Fraction | None = None) -> Size:
        """Make a size of ``value`` bytes."""
        self = super().__new__(cls, value)
        self.text = text or str(value)
        self.exact = Fraction(value) if exact is None else exact
        return self

    def __reduce__(self) -> tuple[type[Size], tuple[int, str, Fraction]]:
        """Let copies and pickles keep the text."""
        return Size, (int(self), self.text, self.exact)


def parse_k8s(text: str | int | float) -> Fraction:
    """Parse a Kubernetes Quantity to its exact value.

    Kernel-independent; the grammar is apimachinery's ``resource.Quantity``: decimal
    suffixes ``n u m k M G T P E``, binary ``Ki..Ei``, or an exponent ``e3``.

    Worked example
    --------------
    ``'512m'`` is 64/125, ``'1.5Gi'`` is 1610612736, ``'12e3'`` is 12000.
    """
    if isinstance(text, bool):
        raise UnitError(f"{text!r} is not a quantity", EXPECTED[Dialect.K8S])
    if isinstance(text, int | float):
        return _finite(text, Dialect.K8S)
    match = _K8S.fullmatch(text.strip()) if len(text) <= _MAX_DIGITS else None
    if match is None:
        raise _not_a_size(text, Dialect.K8S)
    number, exponent, suffix = match.groups()
    value = Fraction(number)
    if exponent is not None:
        if abs(int(exponent)) > _MAX_EXPONENT:
            raise _not_a_size(text, Dialect.K8S)
        return value * Fraction(10) ** int(exponent)
    if suffix in _BINARY:
        return value * _BINARY[suffix]
    return value * _DECIMAL[suffix or ""]


def parse_size(text: str | int | float, dialect: Dialect = Dialect.K8S) -> Size:
    """Parse a memory size of one dialect to bytes.

    Parameters
    ----------
    text : str, int or float
        What the file says. Bare numbers are bytes.
    dialect : Dialect, default Dialect.K8S
        Whose notation it is.

    Returns
    -------
    Size
        Bytes; fractions of one are rounded up in Kubernetes (Quantity.Value()) and cut off
        elsewhere; UNLIMITED for ``max``, ``infinity`` and ``-1`` where the dialect knows them.
        [bytes]

    Raises
    ------
    UnitError
        The text is not a size of that dialect, is negative, or does not fit in int64.

    Worked example
    --------------
    ``'512m'``: K8S 1 (0.512 rounded up), DOCKER 536870912. ``'512M'``: K8S 512000000,
    DOCKER, SYSTEMD and CGROUPFS 536870912.
    """
    if dialect is not Dialect.K8S and _is_unlimited(text, dialect):
        return Size(UNLIMITED, str(text))
    exact = parse_k8s(text) if dialect is Dialect.K8S else _parse_1024(text, dialect)
    if exact < 0:
        raise UnitError(f"{str(text)!r} is negative", "a memory size of 0 or more")
    value = math.ceil(exact) if dialect is Dialect.K8S else math.floor(exact)
    if value > MAX_BYTES:
        message = f"{str(text)!r} is more than a counter holds"
        raise UnitError(message, "less than 8 Ei (2**63 bytes)")
    return Size(value, str(text), exact)


def _is_unlimited(text: str | int | float, dialect: Dialect) -> bool:
    words = {
        Dialect.CGROUPFS: {"max", "-1"},
        Dialect.SYSTEMD: {"infinity"},
        Dialect.DOCKER: {"-1"},
        Dialect.K8S: set(),
    }
    return str(text).strip().lower() in words[dialect]


def _parse_1024(text: str | int | float, dialect: Dialect) -> Fraction:
    if isinstance(text, bool):
        raise _not_a_size(str(text), dialect)
    if isinstance(text, int | float):
        return _finite(text, dialect)
    stripped = text.strip() if len(text) <= _MAX_DIGITS else ""
    if stripped.startswith("-") and _DOCKER.fullmatch(stripped):
        raise UnitError(f"{text!r} is negative", "a memory size of 0 or more")
    read = {
        Dialect.DOCKER: _parse_docker,
        Dialect.SYSTEMD: _parse_systemd,
        Dialect.CGROUPFS: _parse_cgroupfs,
    }[dialect]
    found = read(stripped)
    if found is None:
        raise _not_a_size(text, dialect)
    return found


def _parse_docker(text: str) -> Fraction | None:
    """Docker's go-units, RAMInBytes(): a float64 times a power of two."""
    match = _DOCKER.fullmatch(text)
    if match is None:
        return None
    return Fraction(float(match[1])) * _POWERS_1024[(match[2] or "").lower()]


def _parse_systemd(text: str) -> Fraction | None:
    """systemd's parse_size(): ``1G 500M`` is the sum, of units that get smaller and smaller.

    What stands behind the point is a double there, and cut off by itself.
    """
    total, at, last = 0, 0, -1
    while at < len(text) or last < 0:
        match = _SYSTEMD.match(text, at)
        if match is None:
            return None
        whole, behind, suffix = match.groups()
        order = "EPTGMKB".find(suffix) if suffix else 7
        if order <= last:
            return None
        part = float(behind or 0)
        for _ in behind or "":
            part /= 10
        unit = _POWERS_1024[suffix.lower().replace("b", "")]
        total += int(whole) * unit + int(part * unit)
        at, last = match.end(), order
    return Fraction(total)


def _parse_cgroupfs(text: str) -> Fraction | None:
    """The kernel's memparse(): a whole number, octal after 0 and hexadecimal after 0x."""
    match = _CGROUPFS.fullmatch(text)
    if match is None:
        return None
    digits, suffix = match.groups()
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    return Fraction(int(digits, base) * _POWERS_1024[suffix.lower()])


def _finite(number: int | float, dialect: Dialect) -> Fraction:
    if not math.isfinite(number):
        raise _not_a_size(str(number), dialect)
    return Fraction(number)


def _not_a_size(text: str, dialect: Dialect) -> UnitError:
    shown = text if len(text) <= _MAX_DIGITS else text[:_MAX_DIGITS] + "..."
    return UnitError(f"{shown!r} is not a memory size", EXPECTED[dialect], _repair(text, dialect))


def _repair(text: str, dialect: Dialect) -> str:
    """Guess the size that was meant: the digits with the suffix nearest to what was written."""
    match = re.match(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*$", text[:_MAX_DIGITS])
    if match is None:
        return ""
    number, suffix = match.groups()
    letter = suffix[0].lower()
    if letter not in "kmgtp":
        return ""
    if dialect is Dialect.K8S:
        return f"{number}{letter.upper()}i"
    return f"{number}{letter}" if dialect is Dialect.DOCKER else f"{number}{letter.upper()}"


def parse_duration(text: str | int | float) -> int:
    """Parse a duration such as ``6h``, ``10min``, ``250ms`` or ``1h30m`` to nanoseconds.

    ``m`` and ``min`` are both minutes (Go and systemd). A bare number other than 0 is
    refused: nothing says whether seconds or milliseconds are meant.

    Raises
    ------
    UnitError
        No duration, or more than int64 nanoseconds (292 years).
    """
    if isinstance(text, bool) or not isinstance(text, str):
        if text == 0 and not isinstance(text, bool):
            return 0
        hint = "" if isinstance(text, bool) else f"{text}s"
        raise UnitError(f"'{text}' has no unit", EXPECTED_DURATION, hint)
    stripped = text.strip()
    total, end = Fraction(0), 0
    while end < len(stripped):
        match = _DURATION.match(stripped, end) if len(stripped) <= _MAX_DIGITS else None
        if match is None or match.group(2) not in _NS:
            raise _not_a_duration(stripped)
        total += Fraction(match.group(1)) * _NS[match.group(2)]
        end = match.end()
    if not stripped or total > MAX_BYTES:
        raise _not_a_duration(stripped)
    return round(total)


def _not_a_duration(text: str) -> UnitError:
    shown = text if len(text) <= _MAX_DIGITS else text[:_MAX_DIGITS] + "..."
    if re.fullmatch(r"0(\.0*)?", text):
        return UnitError(f"{shown!r} has no unit", EXPECTED_DURATION, "0s")
    if text.startswith("-"):
        return UnitError(f"{shown!r} is negative", EXPECTED_DURATION)
    suggestion = f"{text}s" if re.fullmatch(r"[0-9]+", text) else ""
    return UnitError(f"{shown!r} is not a duration", EXPECTED_DURATION, suggestion)


def parse_rate(text: str | int | float) -> float:
    """Parse a rate such as ``20Mi/s``, ``1Gi/h`` or ``512Ki/min``. [bytes/s]"""
    if not isinstance(text, str):
        if text == 0 and not isinstance(text, bool):
            return 0.0
        raise UnitError(f"'{text}' has no unit", EXPECTED_RATE, f"{text}Mi/s")
    amount, slash, per = text.strip().partition("/")
    unit = per.strip()
    if not slash or unit not in _NS:
        suggestion = f"{text.strip()}/s" if not slash and _K8S.fullmatch(text.strip()) else ""
        raise UnitError(f"{text[:_MAX_DIGITS]!r} is not a rate", EXPECTED_RATE, suggestion)
    try:
        exact = parse_k8s(amount)
    except UnitError as error:
        hint = f"{error.suggestion}/{unit}" if error.suggestion else ""
        shown = text[:_MAX_DIGITS]
        raise UnitError(f"{shown!r} is not a rate", EXPECTED_RATE, hint) from error
    if exact < 0:
        raise UnitError(f"{text!r} is negative", EXPECTED_RATE)
    per_second = exact * 10**9 / _NS[unit]
    if per_second > MAX_BYTES:
        raise UnitError(f"{text!r} is more than a counter holds", "less than 8Ei/s")
    return float(per_second)


def format_bytes(size: int | float) -> str:
    """Write a size for people: ``'1.5 GiB'``, three significant digits at most.

    Worked example
    --------------
    805306368 is ``'768 MiB'``, 1610612736 ``'1.5 GiB'``, 4095 ``'4 KiB'``, 12 ``'12 B'``.
    """
    if size == UNLIMITED:
        return "max"
    sign, value = ("-" if size < 0 else ""), abs(size)
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        # 1023.6 KiB would print as "1024 KiB": such values go up a unit
        if value >= factor * 1023.5 / 1024 and value >= KIB:
            return f"{sign}{_three_digits(value / factor)} {unit}"
    if value >= 1023.5:
        return f"{sign}{_three_digits(value / KIB)} KiB"
    return f"{sign}{_three_digits(value)} B"


def format_k8s(size: int) -> str:
    """Write a size as the shortest exact Kubernetes Quantity, such as ``'768Mi'``."""
    if size == UNLIMITED:
        return "max"
    for suffix, factor in reversed(_BINARY.items()):
        if size and size % factor == 0:
            return f"{size // factor}{suffix}"
    return str(size)


def format_rate(bytes_per_s: float) -> str:
    """Write a rate for people: ``'20 MiB/s'``."""
    return f"{format_bytes(bytes_per_s)}/s" if bytes_per_s != UNLIMITED else "-1 B/s"


def format_duration(ns: int | float) -> str:
    """Write a duration for people: ``'250 ms'``, ``'12.5 s'``, ``'1 h 30 min'``."""
    sign, value = ("-" if ns < 0 else ""), abs(ns)
    if not value:
        return "0 s"
    for unit, factor in (("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9)):
        limit = 60 if unit == "s" else 999.5
        if value < limit * factor:
            return f"{sign}{_three_digits(value / factor)} {unit}"
    seconds = round(value / 10**9)
    if seconds < 3600:
        return sign + _two_units(seconds // 60, "min", seconds % 60, "s")
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return sign + _two_units(minutes // 60, "h", minutes % 60, "min")
    hours = round(minutes / 60)
    return sign + _two_units(hours // 24, "d", hours % 24, "h")


def _two_units(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big} {big_unit} {small} {small_unit}" if small else f"{big} {big_unit}"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    digits = 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")
