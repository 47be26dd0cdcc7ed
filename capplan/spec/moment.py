"""Moments as traces write them. No array library: node files are loaded without one."""

from __future__ import annotations

import datetime
import math

UNIT_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def guess_unit(top: float) -> str:
    """Unit of epoch times by the largest: 1e11 seconds would be the year 5138."""
    for unit, above in (("ns", 1e17), ("us", 1e14), ("ms", 1e11)):
        if abs(top) > above:
            return unit
    return "s"


def moment_s(text: str) -> float:
    """A time as a trace has it, in seconds: a number (its unit by its size), or ISO 8601.

    Raises
    ------
    ValueError
        It is neither.

    Worked example
    --------------
    >>> moment_s("1661270000"), moment_s("1661270000000"), moment_s("2022-08-23T15:53:20Z")
    (1661270000.0, 1661270000.0, 1661270000.0)
    """
    try:
        number = float(text)
    except ValueError:
        date = datetime.datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp()
    if not math.isfinite(number):
        raise ValueError(text)
    return number * UNIT_SECONDS[guess_unit(number)]
