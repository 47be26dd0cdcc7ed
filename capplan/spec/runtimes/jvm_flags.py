"""The flags of a JVM that decide over memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from capplan.spec.common import problem

__all__ = ["JvmFlags", "parse_jvm"]

_SIZE = re.compile(r"([0-9]+)([kKmMgGtT]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SHORT = {"-Xms": "InitialHeapSize", "-Xmx": "MaxHeapSize", "-Xss": "ThreadStackSize",
          "-Xmn": "NewSize"}  # fmt: skip
_SIZES = {
    "InitialHeapSize", "MaxHeapSize", "MaxMetaspaceSize", "ReservedCodeCacheSize",
    "MaxDirectMemorySize", "NewSize", "MaxRAM", "G1HeapRegionSize", "SoftMaxHeapSize",
}  # fmt: skip
_PERCENTS = {
    "MaxRAMPercentage", "InitialRAMPercentage", "MinRAMPercentage", "MinHeapFreeRatio",
    "MaxHeapFreeRatio",
}  # fmt: skip
_COUNTS = {"ActiveProcessorCount", "NewRatio"}
_SWITCHES = {
    "AlwaysPreTouch", "UseG1GC", "UseParallelGC", "UseSerialGC", "UseZGC", "UseShenandoahGC",
    "UseContainerSupport",
}  # fmt: skip
COLLECTORS = {
    "UseSerialGC": "Serial", "UseParallelGC": "Parallel", "UseG1GC": "G1", "UseZGC": "Z",
}  # fmt: skip


@dataclass(frozen=True)
class JvmFlags:
    """What was written, by HotSpot's names: sizes in bytes, percentages, counts, switches."""

    sizes: dict[str, int]
    numbers: dict[str, float]
    switches: dict[str, bool]

    @property
    def collector(self) -> str | None:
        """The collector that was asked for; None: ergonomics choose."""
        return next((COLLECTORS[n] for n, on in self.switches.items() if on and n in COLLECTORS),
                    None)  # fmt: skip


def parse_jvm(words: Sequence[str]) -> JvmFlags:
    """Read a JVM's flags; of one that is given twice the last counts.

    Raises
    ------
    PydanticCustomError
        A flag that the JVM would refuse: a malformed value, a name in the wrong case, two
        collectors, an initial heap above the highest.
    """
    flags = JvmFlags({}, {}, {})
    for word in words:
        short = word[:4]
        if short in _SHORT:
            _value(flags, _SHORT[short], word[4:], word)
        elif word.startswith("-XX:"):
            _extended(flags, word)
    chosen = [name for name, on in flags.switches.items() if on and name in COLLECTORS]
    if len(chosen) > 1:
        message = f"{' and '.join(chosen)}: conflicting collector combinations"
        raise problem("one_of", message, "one collector")
    if flags.switches.get("UseShenandoahGC"):
        raise problem("word", "Shenandoah is not modelled", "UseG1GC, UseParallelGC, UseSerialGC, "
                      "UseZGC")  # fmt: skip
    low, high = flags.sizes.get("InitialHeapSize"), flags.sizes.get("MaxHeapSize")
    if low is not None and high is not None and low > high:
        message = "the initial heap is larger than the maximum heap: the JVM does not start"
        raise problem("order", message, "-Xms at or below -Xmx")
    return flags


def _extended(flags: JvmFlags, word: str) -> None:
    body = word[len("-XX:") :]
    if body[:1] in ("+", "-"):
        name = _known(body[1:], word)
        if name in _SWITCHES:
            flags.switches[name] = body[0] == "+"
        return
    name, equals, text = body.partition("=")
    name = _known(name, word)
    if name in _SIZES | _PERCENTS | _COUNTS | {"ThreadStackSize"}:
        if not equals:
            raise problem("word", f"{word!r} has no value", f"-XX:{name}=...")
        # ThreadStackSize is in KiB (globals.hpp), unlike -Xss
        _value(flags, name, f"{text}k" if name == "ThreadStackSize" else text, word)


def _known(name: str, word: str) -> str:
    """The flag's name; a known one in the wrong case is an unrecognized option to the JVM."""
    every = _SIZES | _PERCENTS | _COUNTS | _SWITCHES | {"ThreadStackSize"}
    if name not in every:
        near = next((each for each in every if each.lower() == name.lower()), None)
        if near is not None:
            message = f"{word!r} is no VM option: the JVM does not start"
            raise problem("word", message, "names of flags in their own case",
                          word.replace(name, near))  # fmt: skip
    return name


def _value(flags: JvmFlags, name: str, text: str, word: str) -> None:
    if name in _PERCENTS | _COUNTS:
        top = 100.0 if name in _PERCENTS else 1e6
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) > top:
            raise problem("word", f"{word!r} is not a number up to {top:g}", f"{name}=75.0")
        flags.numbers[name] = float(text)
        return
    found = _SIZE.fullmatch(text)
    if found is None:
        fixed = re.sub(r"i?[bB]?$", "", text)
        suggestion = word.replace(text, fixed) if fixed and _SIZE.fullmatch(fixed) else ""
        expected = "digits with k, m, g or t (1024), as the JVM reads them"
        raise problem("size", f"{word!r} has no size", expected, suggestion)
    flags.sizes[name] = int(found[1]) * _UNITS[found[2].lower()]
