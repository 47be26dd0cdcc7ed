"""The flags of Node.js that decide over memory."""

from __future__ import annotations

import re
from collections.abc import Sequence

from capplan.spec.common import problem

__all__ = ["parse_nodejs"]

KNOWN = ("max-old-space-size", "max-semi-space-size")
MIB = 1 << 20


def parse_nodejs(words: Sequence[str]) -> dict[str, int]:
    """Read V8's flags, which take dashes or underscores: name -> bytes.

    Raises
    ------
    PydanticCustomError
        A value that is not a whole number of MiB.
    """
    found: dict[str, int] = {}
    for index, word in enumerate(words):
        name, equals, text = word.lstrip("-").partition("=")
        name = name.replace("_", "-")
        if not word.startswith("--") or name not in KNOWN:
            continue
        if not equals and index + 1 < len(words):
            text = words[index + 1]
        if not re.fullmatch(r"[0-9]+", text):
            digits = re.match(r"[0-9]+", text)
            suggestion = f"--{name}={digits[0]}" if digits else ""
            message = f"{word!r} is not a number of MiB"
            raise problem("size", message, "a whole number, in MiB", suggestion)
        found[name] = int(text) * MIB
    return found
