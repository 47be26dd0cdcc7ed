"""What a recording shows, as a node file whose containers follow the recorded curves.

:func:`begin` captures the host at the recording's start, :func:`finish` makes the files from
that and from what has been recorded so far. Both run beside the recorder or after it; a
recording that was killed is finished the same way.
"""

from __future__ import annotations

import csv
import json
import math
import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capplan.errors import InputError
from capplan.sources.capture import capture
from capplan.sources.draft import Draft, doubt, legal_name
from capplan.sources.record import COLUMNS, META, NODE, PROCESSES, TRACE, WATCHED
from capplan.sources.record_watched import Watched, read_watched
from capplan.sources.write import write
from capplan.spec.emit import Noted

__all__ = ["Curve", "Rate", "begin", "finish", "read_trace", "refault_rate"]

START = "start.json"
PAGE = 4096
MIB = 1 << 20
WIDTH = 92  # of a comment
MAX_BYTES = 4 << 30
SIGMA = 1.96  # 95 % of a normal distribution
NONE_SEEN = 3.0  # rule of three: 95 % upper bound of a Poisson mean when none was seen
MIN_PART = 0.02  # a part in use that is nearly nothing, or nearly all, is not told apart
WATCHED_KINDS = {
    "anon": "anonymous memory", "mapped": "mapped memory", "file": "page cache",
    "shmem": "shared memory", "mapped file": "mapped files (a sample)",
}  # fmt: skip
GONE = 3.0  # a curve that ends so many intervals before the recording: the group vanished


@dataclass
class Curve:
    """What was recorded of one group.

    Attributes
    ----------
    first_s, last_s
        Its first and last sample, from the recording's start. [s]
    anon, swap, file
        Sums over the samples, for means. [bytes]
    refaults
        Pages of anon and file that came back, summed over the recording.
    peak
        Largest usage. [bytes]
    some_us
        Its pressure, where the kernel counts it. [us]
    gap_s
        Longest step between samples. [s]
    """

    first_s: float
    last_s: float
    samples: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    refaults: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0
    gap_s: float = 0.0
    touched: tuple[int, int] | None = None  # of its processes: referenced, resident [bytes]
    watched: dict[str, Watched] = field(default_factory=dict)  # by kind

    def add(self, at: float, row: dict[str, float]) -> None:
        """Take one sample in; counters that fall belong to a new life of the group."""
        if self.samples:
            self.gap_s = max(self.gap_s, at - self.last_s)
            for name in ("refault_anon", "refault_file", "pgmajfault"):
                rise = row[name] - self.last[name]
                self.refaults[name] = self.refaults.get(name, 0.0) + max(rise, 0.0)
        else:
            self.first = row
        for name in ("anon", "swap", "demand", "file", "shmem"):
            self.sums[name] = self.sums.get(name, 0.0) + row[name]
        self.peak = max(self.peak, row["usage"])
        self.samples += 1
        self.last, self.last_s = row, at

    def mean(self, name: str) -> float:
        """Mean of a size. [bytes]"""
        return self.sums.get(name, 0.0) / max(self.samples, 1)

    @property
    def seconds(self) -> float:
        """Time between its first and last sample. [s]"""
        return self.last_s - self.first_s


@dataclass(frozen=True)
class Rate:
    """An estimate with its 95 % interval. [bytes/s]"""

    rate: float
    low: float
    high: float


def refault_rate(refaults: float, absent: float, seconds: float) -> Rate | None:
    """How fast memory is accessed, from the accesses that missed.

    Parameters
    ----------
    refaults : float
        Pages that were accessed while they were not in memory. [pages]
    absent : float
        Mean share of the memory that was not there.
    seconds : float
        How long it was watched. [s]

    Returns
    -------
    Rate or None
        None where nothing was absent: then no access can miss, whatever the rate. Uniform
        access is assumed: memory that is used unevenly, whose absent part is the unused one, is
        accessed faster than this.

    Worked example
    --------------
    1000 refaults in 100 s with a quarter absent: 40 pages/s, that is 160 KiB/s, and 1.96 times
    the root of 1000 either way: 150 to 170 KiB/s.
    """
    if absent <= 0 or seconds <= 0:
        return None
    spread = SIGMA * math.sqrt(refaults)
    unit = PAGE / (absent * seconds)
    high = refaults + spread if refaults else NONE_SEEN
    return Rate(refaults * unit, max(refaults - spread, 0.0) * unit, high * unit)


# --- the files ---------------------------------------------------------------------------


def begin(directory: str | Path, root: str | Path = "/") -> None:
    """Capture the host beside the first samples of its recording, and write the node file."""
    directory = Path(directory)
    draft = capture(root)
    held = {"node": draft.node, "profiles": draft.profiles}
    text = json.dumps(held, default=_plain) + "\n"
    scratch = directory / f".{START}"
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, directory / START)
    finish(directory)


def finish(directory: str | Path) -> Draft:
    """Write ``node.yaml`` and the profiles of a recording, whole or cut short.

    Raises
    ------
    InputError
        There is no recording in the directory.
    """
    directory = Path(directory)
    try:
        meta = json.loads((directory / META).read_text(encoding="utf-8"))
        start = json.loads((directory / START).read_text(encoding="utf-8"), object_hook=_noted)
        interval = float(meta["interval_s"])
        node, profiles = start["node"], start["profiles"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{directory}: no recording: {error}") from error
    _cut_tail(directory / TRACE)
    draft = Draft(node, profiles, beside=(TRACE,))
    curves = read_trace(directory / TRACE, draft)
    for group, touched in read_touched(directory / PROCESSES).items():
        if group in curves:
            curves[group].touched = touched
    for group, kinds in read_watched(directory / WATCHED).items():
        if group in curves:
            curves[group].watched = kinds
    if NODE not in curves:
        raise InputError(f"{directory / TRACE}: no sample of the node: nothing was recorded")
    _fill(draft, curves, interval)
    write(draft, directory, force=True)
    return draft


def _plain(value: Any) -> Any:
    if isinstance(value, Noted):
        return {"(noted)": [value.value, value.note, list(value.above)]}
    raise TypeError(f"{type(value).__name__} in a draft")


def _noted(value: dict[str, Any]) -> Any:
    held = value.get("(noted)")
    return value if held is None else Noted(held[0], held[1], tuple(held[2]))


def _cut_tail(path: Path) -> None:
    """Take a line off that a full disk cut short."""
    try:
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 65536, 0))
            tail = file.read()
            if tail and not tail.endswith(b"\n"):
                file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def read_trace(path: Path, draft: Draft) -> dict[str, Curve]:
    """Every group's curve, line by line; what is no row is told in the draft's problems."""
    curves: dict[str, Curve] = {}
    for line, row in _rows(path):
        try:
            values = {name: float(row[name]) for name in COLUMNS if name not in ("time", "group")}
            at, group = float(row["time"]), row["group"]
        except (KeyError, TypeError, ValueError):
            draft.problems.append(doubt(path, line, "this is no sample"))
            continue
        if group not in curves:
            curves[group] = Curve(at, at)
        curves[group].add(at, values)
    return curves


def read_touched(path: Path) -> dict[str, tuple[int, int]]:
    """What the last look at processes found, by group: referenced and resident. [bytes]

    smaps_rollup's ``Referenced`` is what was touched since reclaim last looked at the page.
    """
    looks: dict[str, tuple[str, int, int]] = {}
    if not path.exists():
        return {}
    for _, row in _rows(path):
        try:
            at, group = row["time"], row["group"]
            referenced, rss = int(row["referenced"]), int(row["rss"])
        except (KeyError, TypeError, ValueError):
            continue
        before = looks.get(group, (at, 0, 0))
        sums = before[1:] if before[0] == at else (0, 0)
        looks[group] = (at, sums[0] + referenced, sums[1] + rss)
    return {group: (touched, rss) for group, (_, touched, rss) in looks.items() if touched}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES >> 30} GiB")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(line.replace("\0", "") for line in file)
        try:
            for row in reader:
                yield reader.line_num, row
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}: {error}") from error


def _fill(draft: Draft, curves: dict[str, Curve], interval: float) -> None:
    """Let the container of each recorded group follow its curve."""
    containers = draft.node["containers"]
    by_group = {entry["cgroup"].strip("/"): name for name, entry in containers.items()}
    end = curves[NODE].last_s
    for group, curve in curves.items():
        held = curve.mean("demand") + curve.mean("file")
        if group == NODE or curve.samples < 2 or not held:
            continue
        name = by_group.get(group)
        if name is None:
            name = _new_container(draft, group)
        profile = draft.profiles[containers[name]["profile"]]
        _follow(profile, group, curve, end, interval)
        if curve.first_s > interval:
            containers[name]["start"] = Noted(f"{curve.first_s:.3f}s", "when it was first seen")
    seconds = max(math.ceil(end), 1)
    draft.node["run"] = {
        "duration": Noted(f"{seconds}s", "as long as the recording"),
        "start": "warm",
    }
    draft.header = (
        f"Recorded for {seconds} s: each container follows the memory of its group ({TRACE}).",
        "",
        "  capplan simulate node.yaml",
        "  capplan simulate node.yaml --set ...     the same load under another setting",
    )


def _new_container(draft: Draft, group: str) -> str:
    """A container for a group that was made after the start."""
    containers = draft.node["containers"]
    name = legal_name(group.rpartition("/")[2], containers)
    held = draft.node["cgroup"]["groups"]
    parts = group.split("/")
    for depth in range(1, len(parts) + 1):
        held.setdefault("/".join(parts[:depth]), {})
    file = f"profiles/{name}.yaml"
    containers[name] = {"profile": file, "cgroup": group}
    draft.profiles[file] = {"capplan": 1, "profile": name, "processes": {}}
    return name


def _follow(profile: dict[str, Any], group: str, curve: Curve, end: float, interval: float) -> None:
    """Put one process in the place of those that hold anonymous memory and cache."""
    kept: dict[str, Any] = {}
    adjs: list[int] = []
    for key, noted in profile["processes"].items():
        entry = dict(noted.value if isinstance(noted, Noted) else noted)
        regions = {
            name: region
            for name, region in entry.get("regions", {}).items()
            if region["kind"] in ("shmem", "kernel")
        }
        if key != "group":
            adjs += [entry.get("oom_score_adj", 0)] * int(entry.get("count", 1))
        if regions:
            kept[key] = entry | {"regions": regions}
            kept[key].pop("page_tables", None)
    adj = max(set(adjs), key=adjs.count) if adjs else 0
    held = {"oom_score_adj": adj} if adj else {}
    traces = _parts(_trace(group, curve, end, interval), curve)
    followed: dict[str, Any] = {name: held | {"trace": trace} for name, trace in traces.items()}
    first = next(iter(followed))
    followed[first] = Noted(followed[first], above=_said(curve))
    profile["processes"] = followed | kept


def _trace(group: str, curve: Curve, end: float, interval: float) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "file": f"../{TRACE}",
        "measures": "usage",
        # what is in swap is asked for too: a swap-out is no free
        "columns": {"time": "time", "anon": "demand", "file": "file"},
        "filter": {"group": group},
        "time_unit": "s",
    }
    if curve.gap_s > 2 * interval:
        trace["max_gap"] = f"{curve.gap_s + interval:.3f}s"
    if end - curve.last_s > GONE * interval:
        trace["at_end"] = Noted("exit", "the group vanished")
    rate = anon_rate(curve)
    seen = _seen(curve, "anon", "mapped")
    if seen is not None:
        trace["access"] = Noted(_access(seen, curve.mean("anon")), "its range stands above")
    elif rate is not None:
        text = f"{rate.rate or rate.high:.0f}/s"
        trace["access"] = Noted(
            {"pattern": "uniform", "rate": text}, "from refaults; its range stands above"
        )
    again = file_rate(curve)
    seen = _seen(curve, "file")
    if seen is not None:
        access = _access(seen, curve.mean("file"))
        trace["file_access"] = Noted(access, "its range stands above")
    elif again:
        trace["file_access"] = Noted(
            {"pattern": "uniform", "rate": f"{again:.0f}/s"}, "at least: what was read again"
        )
    return trace


def _seen(curve: Curve, *kinds: str) -> Watched | None:
    """What was watched of the first of these kinds; None: nothing."""
    return next((curve.watched[kind] for kind in kinds if kind in curve.watched), None)


def _access(seen: Watched, size: float) -> dict[str, Any]:
    """A region's ``access`` as it was seen; the part that is accessed has all of the rate."""
    found = seen.fit(size)
    if found.pattern == "idle":
        return {"pattern": "idle"}
    rate = f"{found.rate * found.part * size:.0f}/s"
    access: dict[str, Any] = {"pattern": found.pattern, "rate": rate}
    return access | ({"skew": round(found.skew, 2)} if found.skew else {})


def _parts(trace: dict[str, Any], curve: Curve) -> dict[str, dict[str, Any]]:
    """One process, or the part of its anonymous memory that is in use apart from the rest."""
    seen = _seen(curve, "anon", "mapped")
    part = seen.fit(curve.mean("anon")).part if seen is not None else 1.0
    if not MIN_PART < part < 1.0 - MIN_PART:
        return {"recorded": trace}
    columns = trace["columns"]
    alone = {name: value for name, value in trace.items() if name != "file_access"}
    alone |= {"measures": "anon", "columns": {"time": "time", "anon": columns["anon"]}}
    cache = {name: value for name, value in trace.items() if name not in ("access", "file_access")}
    cache |= {"columns": {"time": "time", "value": columns["file"]}, "anon_share": 0}
    if "file_access" in trace:
        cache["access"] = trace["file_access"]
    parts = {
        "recorded-hot": alone | {"scale": Noted(round(part, 4), "the part that is in use")},
        "recorded-cold": alone | {"scale": round(1.0 - part, 4), "access": {"pattern": "idle"}},
    }
    return parts | ({"recorded-cache": cache} if curve.mean("file") else {})


def anon_rate(curve: Curve) -> Rate | None:
    """Access rate of a group's anonymous memory; None where it cannot be seen."""
    anon, swap = curve.mean("anon"), curve.mean("swap")
    absent = swap / (anon + swap) if anon + swap > 0 else 0.0
    return refault_rate(curve.refaults.get("refault_anon", 0.0), absent, curve.seconds)


def file_rate(curve: Curve) -> float:
    """Page cache that was read again after its eviction: a lower bound of its use. [bytes/s]

    Reads of what was still there are not counted by the kernel.
    """
    count = curve.refaults.get("refault_file", 0.0)
    return count * PAGE / curve.seconds if curve.seconds > 0 else 0.0


def _said(curve: Curve) -> tuple[str, ...]:
    """Comment lines: what was measured, what is estimated, and how sure it is."""
    there = _mib(curve.mean("file"))
    means = f"anon {_mib(curve.mean('anon'))}, file {there}, swap {_mib(curve.mean('swap'))}"
    watched = f"{curve.samples} samples over {curve.seconds:.0f} s"
    texts = [
        f"{watched}: {means} on average; usage {_mib(curve.peak)} at most",
    ]
    for kind, what in WATCHED_KINDS.items():
        if kind in curve.watched:
            seen = curve.watched[kind]
            texts += seen.said(curve.mean(kind) if kind in curve.sums else seen.watched, what)
    by_refaults = ", by refaults" if curve.watched else ""
    texts += [
        f"access rate of anonymous memory{by_refaults}: {_said_of_anon(curve)}",
        f"page cache{by_refaults}: {_said_of_file(curve, there)}",
    ]
    if curve.touched is not None:
        touched, rss = curve.touched
        bound = f"at most {_mib(touched)} of the {_mib(rss)} that its processes map"
        since = "(counted in each) were touched since reclaim last looked at them"
        texts.append(f"working set: {bound} {since}")
    return tuple(line for text in texts for line in textwrap.wrap(text, WIDTH))


def _said_of_anon(curve: Curve) -> str:
    rate = anon_rate(curve)
    count = curve.refaults.get("refault_anon", 0.0)
    if rate is None:
        return "not seen (none of it was in swap); the default is assumed"
    if not count:
        return f"at most {_mib(rate.high)}/s (95 %): nothing came back from swap"
    return (
        f"{_mib(rate.rate)}/s, {_mib(rate.low)} to {_mib(rate.high)}/s (95 %, {count:.0f} "
        "refaults); more if its use is uneven"
    )


def _said_of_file(curve: Curve, there: str) -> str:
    count, rate = curve.refaults.get("refault_file", 0.0), file_rate(curve)
    if not rate:
        return "no refaults; its working set is what was there, or less"
    return (
        f"{count:.0f} refaults, {_mib(rate)}/s was read again after its "
        f"eviction: its working set is more than the {there} that were there"
    )


def _mib(size: float) -> str:
    return f"{size / MIB:.1f} MiB"
