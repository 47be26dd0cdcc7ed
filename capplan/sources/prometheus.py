"""Prometheus series: ``query_range`` JSON and OpenMetrics text, as samples by name and labels.

Only the series that say something of memory are kept (:data:`WANTED`). A sample that is no number
(stale markers, NaN) is passed over; what is not understood is counted and told.

Source: prometheus.io/docs/prometheus/latest/querying/api (formats of results), the OpenMetrics
specification 1.0 (text format: times in seconds) and Prometheus' own exposition format (times in
milliseconds).
"""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capplan.errors import InputError, Problem
from capplan.sources.draft import doubt

__all__ = ["CONTAINER", "MACHINE", "WANTED", "Series", "Store", "read_files"]

CONTAINER = (
    "container_memory_working_set_bytes", "container_memory_rss", "container_memory_cache",
    "container_memory_usage_bytes", "container_memory_max_usage_bytes", "container_memory_swap",
    "container_memory_failcnt", "container_memory_events_max_total",
    "container_oom_events_total", "container_spec_memory_limit_bytes",
    "container_start_time_seconds", "container_cpu_usage_seconds_total",
    "kube_pod_container_resource_limits", "kube_pod_container_resource_requests",
    "kube_pod_container_status_restarts_total",
    "kube_pod_container_status_last_terminated_reason",
)  # fmt: skip
"""Of cAdvisor and kube-state-metrics, with the labels namespace, pod and container."""

MACHINE = (
    "kube_pod_owner", "kube_replicaset_owner", "kube_pod_info", "kube_node_info",
    "kube_node_status_capacity", "kube_node_status_allocatable", "machine_memory_bytes",
    "machine_cpu_cores", "node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes",
    "node_memory_SwapTotal_bytes", "node_uname_info", "node_sysctl_vm_min_free_kbytes",
    "node_zoneinfo_min_pages",
)  # fmt: skip
"""Of kube-state-metrics, cAdvisor and node-exporter: pods' owners and the node."""

WANTED = frozenset(CONTAINER) | frozenset(MACHINE)

MOST_BYTES = 128 << 20  # of one file, unpacked
MOST_SAMPLES = 10_000_000
MOST_SERIES = 200_000
MOST_LABELS = 100
MOST_VALUE = 2.0**63  # a counter of the kernel holds no more

Labels = tuple[tuple[str, str], ...]
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,?)')
_ESCAPE = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n", '"': '"', "\\": "\\"}
_LAST_SECOND = 1e11  # a time above is in milliseconds: as seconds it would be the year 5138


@dataclass
class Series:
    """Samples of one series: Unix times [s] and values, in the order they were read."""

    name: str
    labels: Mapping[str, str]
    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class Store:
    """Series by name and labels, from any number of files or chunks."""

    series: dict[tuple[str, Labels], Series] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    samples: int = 0
    skipped: set[str] = field(default_factory=set)
    """Names that were read and say nothing of memory."""

    def named(self, *names: str) -> list[Series]:
        """All series of these names."""
        return [one for (name, _), one in self.series.items() if name in names]

    def of(self, name: str, labels: Mapping[str, str]) -> Series | None:
        """The series to put samples into; None where nobody wants it.

        Raises
        ------
        InputError
            There are too many of them.
        """
        if name not in WANTED:
            if len(self.skipped) < MOST_LABELS:
                self.skipped.add(name)
            return None
        key = (name, tuple(sorted(labels.items())))
        found = self.series.get(key)
        if found is None:
            if len(self.series) >= MOST_SERIES:
                raise InputError(f"more than {MOST_SERIES:,} series\n    expected one node's")
            found = self.series[key] = Series(name, dict(labels))
        return found

    def put(self, into: Series, time: float, value: float) -> None:
        """Add a sample; one that is no number, or more than a counter holds, is passed over."""
        if not (math.isfinite(time) and abs(value) < MOST_VALUE):  # NaN is not either
            return
        if self.samples >= MOST_SAMPLES:
            raise InputError(
                f"more than {MOST_SAMPLES:,} samples\n    expected a larger step, or one node's"
            )
        self.samples += 1
        into.times.append(time)
        into.values.append(value)

    def take_json(self, data: Any, file: str, metric: str | None = None) -> None:
        """Take the result of a query: a matrix or a vector.

        Parameters
        ----------
        data
            The decoded answer, or its ``data``, or the list of results.
        file
            Named in problems.
        metric
            Name of series that have none: functions and sums take it off.

        Raises
        ------
        InputError
            It is no answer of Prometheus, or one that says that the query failed.
        """
        if isinstance(data, Mapping) and data.get("status") == "error":
            raise InputError(f"{file}: the query had failed: {str(data.get('error'))[:200]!r}")
        for _ in range(2):
            inner = data.get("data", data.get("result")) if isinstance(data, Mapping) else data
            data = data if inner is None else inner
        if not isinstance(data, list):
            raise InputError(
                f"{file}: this is no answer of Prometheus\n"
                "    expected what /api/v1/query_range gives: a matrix"
            )
        bad = sum(self._take_result(one, metric) for one in data)
        if bad:
            self.problems.append(
                doubt(file, 0, f"{bad} results or samples are not understood: left out")
            )

    def _take_result(self, one: Any, metric: str | None) -> int:
        """Take one series; return how much of it was not understood."""
        labels = one.get("metric") if isinstance(one, Mapping) else None
        if not isinstance(labels, Mapping) or len(labels) > MOST_LABELS:
            return 1
        named = {str(key): str(value) for key, value in labels.items()}
        name = named.pop("__name__", metric)
        values = one.get("values", [one["value"]] if "value" in one else None)
        if name is None or not isinstance(values, list):
            return 1
        into = self.of(name, named)
        if into is None:
            return 0
        bad = 0
        for pair in values:
            try:
                time, value = pair
                self.put(into, float(time), float(value))
            except (TypeError, ValueError, OverflowError):
                bad += 1
        return bad

    def take_text(self, text: str, file: str) -> None:
        """Take OpenMetrics text, or Prometheus' exposition format."""
        # OpenMetrics ends with "# EOF" and has seconds; the older format has milliseconds
        seconds = text.rstrip().endswith("# EOF")
        bad = first = 0
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            if not self._take_line(line, seconds):
                bad, first = bad + 1, first or number
        if bad:
            told = f"{bad} lines are not understood, the first here: left out"
            self.problems.append(doubt(file, first, told))

    def _take_line(self, line: str, seconds: bool) -> bool:
        """Take a sample's line; return whether it was understood."""
        name = _NAME.match(line)
        if name is None:
            return False
        labels: dict[str, str] = {}
        at = name.end()
        if line[at : at + 1] == "{":
            end = _labels(line, at + 1, labels)
            if end is None:
                return False
            at = end
        words = line[at:].partition("#")[0].split()
        try:
            value = float(words[0])
            time = float(words[1]) if len(words) > 1 else 0.0
        except (IndexError, ValueError):
            return False
        into = self.of(name[0], labels)
        if into is not None:
            late = not seconds and abs(time) > _LAST_SECOND
            self.put(into, time / 1000 if late else time, value)
        return len(words) <= 2


def _labels(line: str, at: int, into: dict[str, str]) -> int | None:
    """Read labels up to the brace that ends them; return the place behind it."""
    while len(into) <= MOST_LABELS:
        match = _LABEL.match(line, at)
        if match is None:
            break
        into[match[1]] = _ESCAPE.sub(lambda m: _UNESCAPED.get(m[1], m[0]), match[2])
        at = match.end()
        if not match[3]:
            break
    tail = line[at:].lstrip()
    return len(line) - len(tail) + 1 if tail.startswith("}") else None


def read_files(
    paths: Iterable[Path], *, metric: str | None = None, into: Store | None = None
) -> Store:
    """Read files of ``query_range`` JSON or OpenMetrics text, ``.gz`` or not.

    Parameters
    ----------
    paths : iterable of Path
    metric : str, optional
        Name of series that have none in the files.
    into : Store, optional
        What was read before.

    Raises
    ------
    InputError
        A file cannot be read, is too large, or is neither.
    """
    store = Store() if into is None else into
    for path in paths:
        text = _text(path)
        if text.lstrip()[:1] in ("{", "["):
            try:
                data = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}: not JSON: {str(error)[:200]}") from error
            store.take_json(data, str(path), metric)
        else:
            store.take_text(text, str(path))
    return store


def _text(path: Path) -> str:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{path}: more than {MOST_BYTES >> 20} MiB\n    expected several smaller files"
        )
    return data.decode("utf-8", errors="replace")
