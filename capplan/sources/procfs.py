"""/proc and /sys of a Linux host, live or copied: texts become plain numbers.

Only the standard library: the recorder reads these once a second and must stay small. A file
that is missing, may not be read or vanishes while it is read is empty; a line that is not
understood is left out. Nothing here raises on what a file holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "Host",
    "Process",
    "SwapArea",
    "ZoneInfo",
    "parse_buddyinfo",
    "parse_lru_gen",
    "parse_meminfo",
    "parse_pagetypeinfo",
    "parse_pairs",
    "parse_pressure",
    "parse_swaps",
    "parse_zoneinfo",
]

MAX_FILE = 4 << 20  # the largest procfs text that is read (zoneinfo of 512 CPUs: 0.2 MiB) [bytes]
MAX_LINES = 200_000
_NODE = re.compile(r"Node\s+(\d+),\s+zone\s+(\S+)(.*)")
_DIGITS = 19  # of an int64
USER_HZ = 100  # clock ticks that procfs counts in, on every architecture but alpha and ia64


def number(text: str) -> int | None:
    """A decimal integer of at most 64 bits; None for anything else."""
    text = text.strip()
    digits = text[1:] if text[:1] in "+-" else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _DIGITS + 1:
        return None
    return int(text)


def parse_pairs(text: str) -> dict[str, int]:
    """``key value`` lines (memory.stat, vmstat); a trailing unit or colon is dropped."""
    found: dict[str, int] = {}
    for line in text.splitlines()[:MAX_LINES]:
        parts = line.split()
        if len(parts) >= 2 and (value := number(parts[1])) is not None:
            found[parts[0].rstrip(":")] = value
    return found


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo, /proc/PID/status or smaps_rollup: values with their unit. [KiB]

    Worked example
    --------------
    ``"MemFree:  1000 kB"`` is ``{"MemFree": 1000}``.
    """
    return parse_pairs(text)


@dataclass
class ZoneInfo:
    """One zone of /proc/zoneinfo [pages].

    Attributes
    ----------
    marks
        min, low, high, boost, free, spanned, present, managed as they stand there.
    protection
        lowmem_reserve towards each zone.
    pcp
        Pages on per-cpu lists, all CPUs.
    """

    node: int
    zone: str
    marks: dict[str, int] = field(default_factory=dict)
    protection: tuple[int, ...] = ()
    pcp: int = 0


_ZONE_KEYS = ("free", "boost", "min", "low", "high", "spanned", "present", "managed")


def parse_zoneinfo(text: str) -> list[ZoneInfo]:
    """/proc/zoneinfo: every zone, empty ones too."""
    zones: list[ZoneInfo] = []
    for line in text.splitlines()[:MAX_LINES]:
        head = _NODE.match(line)
        if head is not None and (node := number(head[1])) is not None:
            zones.append(ZoneInfo(node, head[2]))
            continue
        parts = line.replace("pages free", "free").split()
        if not zones or not parts:
            continue
        zone, value = zones[-1], number(parts[-1])
        if parts[0] == "protection:":
            found = (number(part.strip("(),")) for part in parts[1:])
            zone.protection = tuple(value for value in found if value is not None)
        elif parts[0] == "count:" and value is not None:
            zone.pcp += value
        elif len(parts) == 2 and parts[0] in _ZONE_KEYS and value is not None:
            zone.marks.setdefault(parts[0], value)
    return zones


def parse_buddyinfo(text: str) -> dict[tuple[int, str], tuple[int, ...]]:
    """/proc/buddyinfo: free blocks per order, by (node, zone)."""
    found = {}
    for line in text.splitlines()[:MAX_LINES]:
        head = _NODE.match(line)
        if head is not None and (node := number(head[1])) is not None:
            counts = [number(part) for part in head[3].split()]
            if counts and None not in counts:
                found[node, head[2].rstrip(",")] = tuple(c for c in counts if c is not None)
    return found


_TYPE = re.compile(r"Node\s+(\d+), zone\s+(\S+), type\s+(\S+)\s+(.*)")


def parse_pagetypeinfo(text: str) -> dict[tuple[int, str], dict[str, tuple[int, ...]]]:
    """/proc/pagetypeinfo: free blocks per order by migratetype, by (node, zone).

    The kernel stops counting at 100,000 blocks and prints ``>100000``: such a zone is left
    out, buddyinfo has its count.
    """
    found: dict[tuple[int, str], dict[str, tuple[int, ...]]] = {}
    capped: set[tuple[int, str]] = set()
    for line in text.splitlines()[:MAX_LINES]:
        head = _TYPE.match(line)
        if head is None or (node := number(head[1])) is None:
            continue
        if ">" in head[4]:
            capped.add((node, head[2]))
        counts = [number(part) for part in head[4].split()]
        if counts and None not in counts:
            types = found.setdefault((node, head[2]), {})
            types[head[3]] = tuple(c for c in counts if c is not None)
    return {key: types for key, types in found.items() if key not in capped}


@dataclass(frozen=True)
class SwapArea:
    """A line of /proc/swaps. [KiB]"""

    name: str
    kind: str
    size: int
    used: int
    priority: int


def parse_swaps(text: str) -> list[SwapArea]:
    """/proc/swaps, without its heading."""
    areas = []
    for line in text.splitlines()[1:1000]:
        parts = line.split()
        values = [number(part) for part in parts[-3:]]
        if len(parts) < 5 or None in values:
            continue
        size, used, priority = (value for value in values if value is not None)
        areas.append(SwapArea(parts[0], parts[1], size, used, priority))
    return areas


def parse_lru_gen(text: str) -> dict[str, list[tuple[int, int, int]]]:
    """/sys/kernel/debug/lru_gen: each group's generations, oldest first.

    Returns
    -------
    dict of str to list
        By the group's path: (age, anon, file) [ms, pages, pages], the pages of all NUMA nodes
        added up from the youngest generation on.

    Kernel
    ------
    mm/vmscan.c, lru_gen_seq_show().

    Worked example
    --------------
    ``memcg 3 /web``, ``node 0``, ``1 46432 0 12192``, ``2 46432 0 0``: two generations of /web,
    46.4 s old; the older one holds 12192 pages of page cache.
    """
    groups: dict[str, list[list[tuple[int, int, int]]]] = {}
    nodes: list[list[tuple[int, int, int]]] = []
    for line in text.splitlines()[:MAX_LINES]:
        parts = line.split()
        if parts[:1] == ["memcg"]:
            nodes = groups.setdefault("".join(line.split(None, 2)[2:]), [])
        elif parts[:1] == ["node"]:
            nodes.append([])
        elif nodes and len(parts) == 4:
            values = [number(part) for part in parts[1:]]
            if None not in values:
                age, anon, file = (value for value in values if value is not None)
                nodes[-1].append((age, anon, file))
    return {path: _youngest_beside(nodes) for path, nodes in groups.items()}


def _youngest_beside(nodes: list[list[tuple[int, int, int]]]) -> list[tuple[int, int, int]]:
    """Generations of several NUMA nodes as one node's: the youngest of each are the same."""
    found = []
    for back in range(max(map(len, nodes), default=0), 0, -1):
        alike = [node[-back] for node in nodes if len(node) >= back]
        ages, anon, file = zip(*alike, strict=True)
        found.append((max(ages), sum(anon), sum(file)))
    return found


def parse_pressure(text: str) -> dict[str, int]:
    """A PSI file: the totals of ``some`` and ``full``. [us]"""
    found = {}
    for line in text.splitlines()[:10]:
        kind, _, rest = line.partition(" ")
        total = rest.rpartition("total=")[2]
        if kind in ("some", "full") and (value := number(total)) is not None:
            found[kind] = value
    return found


@dataclass(frozen=True)
class Process:
    """What procfs says of a process; sizes in bytes.

    Attributes
    ----------
    anon, file, shmem
        Its share of what is mapped (PSS) where smaps_rollup could be read, else its RSS.
    rss
        What is mapped, counted whole.
    exact
        Whether anon, file and shmem are PSS.
    age_s
        How long ago it began; 0 where that cannot be seen. [s]
    cgroups
        Path by controller list of ``/proc/PID/cgroup`` ("" is v2's).
    """

    pid: int
    name: str
    threads: int = 1
    oom_score_adj: int = 0
    rss: int = 0
    anon: int = 0
    file: int = 0
    shmem: int = 0
    swap: int = 0
    locked: int = 0
    referenced: int = 0
    tables: int = 0
    root: bool = False
    exact: bool = False
    age_s: float = 0.0
    cgroups: dict[str, str] = field(default_factory=dict)


class Host:
    """A host's files below ``root`` (``/`` for this host).

    Parameters
    ----------
    root : str or Path
        Folder that holds ``proc`` and ``sys``. Links out of a copied tree are not followed.
    """

    def __init__(self, root: str | Path = "/") -> None:
        self.root = os.path.realpath(root)
        self.live = self.root == "/"

    def path(self, name: str) -> str:
        """Where a file of the host is: ``path("proc/meminfo")``."""
        return os.path.join(self.root, name.lstrip("/"))

    def read(self, name: str, limit: int = MAX_FILE) -> str:
        """A file's text, at most ``limit`` bytes; empty where there is none to be had."""
        path = self.path(name)
        try:
            if not self.live and not self._inside(path):
                return ""
            with open(path, "rb") as file:
                return file.read(limit).decode("utf-8", "replace")
        except (OSError, ValueError):
            return ""

    def _inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        # a device or a pipe in a copied tree would block
        return real.startswith(self.root + os.sep) and os.path.isfile(real)

    def number(self, name: str) -> int | None:
        """A file that holds one number."""
        return number(self.read(name, 64))

    def names(self, name: str) -> list[str]:
        """Sorted names in a folder; none where it cannot be read."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return os.path.exists(self.path(name))

    def pids(self) -> list[int]:
        """Numbers of the processes."""
        return sorted(int(name) for name in self.names("proc") if name.isascii() and name.isdigit())

    def processes(self) -> Iterator[Process]:
        """Every process that has memory (kernel threads have none)."""
        for pid in self.pids():
            process = self.process(pid)
            if process is not None:
                yield process

    def process(self, pid: int) -> Process | None:
        """One process; None if it is a kernel thread, a zombie, or gone."""
        text = self.read(f"proc/{pid}/status", 1 << 16)
        status = parse_meminfo(text)
        if "VmRSS" not in status:
            return None
        rollup = parse_meminfo(self.read(f"proc/{pid}/smaps_rollup", 1 << 16))
        pss = "Pss_Anon" in rollup
        sizes = (
            ("anon", "Pss_Anon", "RssAnon"), ("file", "Pss_File", "RssFile"),
            ("shmem", "Pss_Shmem", "RssShmem"), ("swap", "SwapPss", "VmSwap"),
            ("locked", "Locked", "VmLck"),
        )  # fmt: skip
        held: dict[str, Any] = {
            name: (rollup if pss else status).get(exact if pss else plain, 0) << 10
            for name, exact, plain in sizes
        }
        return Process(
            pid=pid,
            name=_comm(text),
            threads=max(status.get("Threads", 1), 1),
            oom_score_adj=self.number(f"proc/{pid}/oom_score_adj") or 0,
            rss=status["VmRSS"] << 10,
            referenced=rollup.get("Referenced", 0) << 10,
            tables=status.get("VmPTE", 0) << 10,
            exact=pss,
            age_s=self._age(pid),
            cgroups=_cgroups(self.read(f"proc/{pid}/cgroup", 1 << 16)),
            **held,
        )

    def _age(self, pid: int) -> float:
        """Since when a process runs; a clone counts from its parent's fork. [s]"""
        up = self.read("proc/uptime", 64).split()
        # a name may hold spaces and brackets; starttime is the 22nd field (proc(5)), in USER_HZ
        fields = self.read(f"proc/{pid}/stat", 4096).rpartition(")")[2].split()
        begun = number(fields[19]) if len(fields) > 19 else None
        try:
            return max(float(up[0]) - (begun or 0) / USER_HZ, 0.0) if up and begun else 0.0
        except ValueError:
            return 0.0


def _comm(status: str) -> str:
    """The name in a status file; what does not print is replaced."""
    line = status.split("\n", 1)[0]
    name = line.partition("\t")[2] if line.startswith("Name:") else ""
    return "".join(c if c.isprintable() else "?" for c in name)[:64]


def _cgroups(text: str) -> dict[str, str]:
    """/proc/PID/cgroup: path by controllers; v2's line has none."""
    found = {}
    for line in text.splitlines()[:64]:
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                found[controller] = parts[2]
    return found
