"""What the guest said, taken apart: records, then the kernel's files as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.kernels import LabError

HEAD = re.compile(rb"\x1e(-?\d+) (\w+) (\S+) (\d+)\n")
ZONE_KEYS = ("min", "low", "high", "spanned", "present", "managed")


@dataclass(frozen=True)
class Record:
    """One record: when [us since t0], what, of which name, and its content."""

    t_us: int
    kind: str
    name: str
    text: str


@dataclass
class Trace:
    """A whole run's records, sorted by kind."""

    boot: dict[str, str] = field(default_factory=dict)
    events: list[tuple[float, list[str]]] = field(default_factory=list)
    kernel_log: list[tuple[float, str]] = field(default_factory=list)
    samples: list[tuple[float, dict[str, str], dict[str, str]]] = field(default_factory=list)
    sample_s: list[float] = field(default_factory=list)  # what each sample took
    fetched: dict[str, str] = field(default_factory=dict)  # files of the guest, whole
    t0_s: float = 0.0  # the guest's CLOCK_MONOTONIC at t = 0
    end_s: float = 0.0


def records(data: bytes) -> Iterator[Record]:
    """The records of a stream; what lies between them is none of them.

    Raises
    ------
    LabError
        The stream is cut off within a record.
    """
    at = 0
    while found := HEAD.search(data, at):
        length = int(found[4])
        body = data[found.end() : found.end() + length]
        if len(body) < length:
            raise LabError("the guest's stream is cut off")
        name = found[3].decode("utf-8", "replace")
        yield Record(int(found[1]), found[2].decode(), name, body.decode("utf-8", "replace"))
        at = found.end() + length


def read(data: bytes) -> Trace:
    """Sort a run's records.

    Raises
    ------
    LabError
        The run has no end, or no beginning in the kernel's log.
    """
    trace = Trace()
    log: list[tuple[int, str]] = []
    for record in records(data):
        t = record.t_us / 1e6
        if record.kind == "boot":
            trace.boot[record.name] = record.text
        elif record.kind == "sample":
            trace.samples.append((t, {}, {}))
            trace.sample_s.append(0.0)
        elif record.kind == "file":
            trace.samples[-1][1][record.name] = record.text
            trace.sample_s[-1] = t - trace.samples[-1][0]
        elif record.kind == "statm":
            trace.samples[-1][2][record.name] = record.text
        elif record.kind == "kmsg":
            log += _kernel_lines(record.text)
        elif record.kind == "event":
            stamp, _, text = record.text.partition(" ")
            trace.events.append((int(stamp) / 1e6, text.split(" ")))
        elif record.kind == "fetched":
            trace.fetched[record.name] = trace.fetched.get(record.name, "") + record.text
        elif record.kind == "clock":
            trace.t0_s = int(record.text) / 1e9
        elif record.kind == "end":
            trace.end_s = t
    if not trace.end_s or not trace.samples:
        raise LabError("the guest's stream has no end")
    trace.kernel_log = _since_start(log)
    return trace


def _kernel_lines(text: str) -> list[tuple[int, str]]:
    """Stamps [us] and messages of /dev/kmsg: "prio,seq,stamp,flags;message"."""
    found = re.findall(r"^\d+,\d+,(\d+),[^;]*;(.*)$", text, re.MULTILINE)
    return [(int(stamp), message) for stamp, message in found]


def _since_start(log: list[tuple[int, str]]) -> list[tuple[float, str]]:
    marks = [stamp for stamp, message in log if message == "lab: t0"]
    if not marks:
        raise LabError("the kernel's log lacks the mark of the run's beginning")
    return [((stamp - marks[0]) / 1e6, message) for stamp, message in log if stamp > marks[0]]


def pairs(text: str) -> dict[str, int]:
    """Lines of a name and a number: "MemFree:  123 kB", "pgfault 5"."""
    found = re.findall(r"^(\S+?):?\s+(-?\d+)(?: kB)?$", text, re.MULTILINE)
    return {name: int(value) for name, value in found}


def pressure(text: str) -> dict[str, int]:
    """The totals of a PSI file [us]: {"some": 0, "full": 0}."""
    return {
        name: int(total) for name, total in re.findall(r"^(\w+) .*total=(\d+)", text, re.MULTILINE)
    }


def zones(text: str) -> list[dict[str, Any]]:
    """The populated zones of /proc/zoneinfo, in its order. [pages]"""
    found = []
    parts = re.split(r"^Node (\d+), zone +(\w+)$", text, flags=re.MULTILINE)[1:]
    for node, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        head, _, pagesets = body.partition("pagesets")
        numbers = pairs(re.sub(r"^ +(pages )?", "", head, flags=re.MULTILINE))
        if not numbers.get("managed"):
            continue
        protection = re.search(r"protection: \(([^)]*)\)", body)
        zone: dict[str, Any] = {"node": int(node), "zone": name, "free": numbers["free"]}
        zone["boost"] = numbers.get("boost", 0)
        zone |= {key: numbers[key] for key in ZONE_KEYS}
        zone["protection"] = [int(n) for n in protection[1].split(",")] if protection else []
        zone["pcp"] = sum(int(n) for n in re.findall(r"^ +count: +(\d+)$", pagesets, re.MULTILINE))
        found.append(zone)
    return found


def buddyinfo(text: str) -> dict[tuple[int, str], list[int]]:
    """Free blocks by order of each zone in /proc/buddyinfo."""
    lines = re.findall(r"^Node (\d+), zone +(\w+) +([\d ]+)$", text, re.MULTILINE)
    return {(int(node), name): [int(n) for n in counts.split()] for node, name, counts in lines}


def zone_label(node: int, name: str, nodes: int) -> str:
    """DMA32, or N1.Normal where there are several nodes."""
    return name if nodes == 1 else f"N{node}.{name}"
