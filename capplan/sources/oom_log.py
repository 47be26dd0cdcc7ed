"""OOM reports of the kernel's log: dmesg, journal or a file, classic and new formats.

Read line by line with a table of patterns. Prefixes (time stamps, priorities, host names) are
taken off; lines that belong to no report are passed over; a line inside a report that is not
understood is kept in ``unknown`` with its number. A report may be cut anywhere, and lines of
other messages may stand between its own. Nothing raises on what a log holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from capplan.sources.oom_model import Counter, Report, Task, Victim, Zone
from capplan.sources.procfs import number

__all__ = ["parse"]

MAX_LINE = 4000  # a journal line; the longest of a report is a zone's, 0.5 KiB [characters]
MAX_LINES = 2_000_000
MAX_TASKS = 100_000
MAX_UNKNOWN = 1000
MAX_REPORTS = 1000


# --- prefixes ----------------------------------------------------------------------------

# in this order, each at most once: syslog's or journalctl's head, priority, time since boot
_STAMP = r"(?:[A-Z][a-z]{2}\s+\d{1,2} [\d:.]+|\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-][\d:]+)?)"
_HEAD = re.compile(rf"{_STAMP} (?:\S+ )?(?:kernel|systemd-journald)(?:\[\d+\])?: ?")
_PRIORITY = re.compile(r"<\d{1,3}>")
_SINCE = re.compile(r"\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")
_CLOCK = re.compile(r"\[[A-Z][a-z]{2} [A-Z][a-z]{2}\s+\d{1,2} [\d:]+ \d{4}\] ?")
_FACILITY = re.compile(r"(?:kern\s*:\s*\w+\s*:\s*)")


def _stripped(line: str) -> str:
    """A log line without what syslog, the journal or dmesg put before the message."""
    text = line[:MAX_LINE].rstrip("\r\n")
    text = text.removesuffix("<br>").lstrip(" \t")
    for pattern in (_HEAD, _FACILITY, _PRIORITY, _SINCE, _CLOCK):
        match = pattern.match(text)
        if match is not None:
            text = text[match.end() :].lstrip(" ")
    return text


# --- what a line says --------------------------------------------------------------------

Reader = Callable[["_Parser", re.Match[str]], None]
_READERS: list[tuple[re.Pattern[str], Reader]] = []


def _reads(pattern: str) -> Callable[[Reader], Reader]:
    """Register a reader of lines that match ``pattern``, tried in order."""

    def register(reader: Reader) -> Reader:
        _READERS.append((re.compile(pattern), reader))
        return reader

    return register


class _Parser:
    """Reads lines into reports."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.number = 0
        self.kernel = ""  # of a comment or banner, for the reports that follow
        self.zone: Zone | None = None
        self.in_stat = False
        self.ended = True

    @property
    def report(self) -> Report:
        """The report that the present line belongs to; a new one after the end of the last."""
        if self.ended or not self.reports:
            self.begin()
        return self.reports[-1]

    def begin(self) -> None:
        self.reports.append(Report(self.number, self.kernel))
        self.ended = False
        self.zone = None
        self.in_stat = False

    def feed(self, line: str) -> None:
        self.number += 1
        text = _stripped(line)
        if not text or len(self.reports) > MAX_REPORTS:
            return
        for pattern, reader in _READERS:
            match = pattern.match(text)
            if match is not None:
                reader(self, match)
                return
        # what comes behind the kill is other messages'
        if not self.ended and not self.reports[-1].kills and not _PASSED.match(text):
            unknown = self.reports[-1].unknown
            if len(unknown) < MAX_UNKNOWN:
                unknown.append((self.number, text))


# lines of a report that hold nothing the model needs: call traces, registers, per-cpu lists
_PASSED = re.compile(
    r"#|Call Trace|</?TASK>|</?IRQ>|\[<|\?|Hardware name|RIP|RSP|R[A-Z0-9]{2}:|[A-Z]{2}X:|Code:"
    r"|Mem-Info:|Tasks state|Swap cache stats|Node \d+ (?:hugepages_|\S+ per-cpu)|CPU +\d+:"
    r"|[a-z_]\S* ?\+?0x|\S+\+0x|\S+:\d+$|oom_reaper:|Purging|.*Modules linked|---\[|DMA per-cpu"
    r"|CS:|DR\d|PKRU|FS:|Mem per-node|Unreclaimable slab info|Name +Used"
)


@_reads(r"# source: .*?(?:kernel: (\S+))?$")
def _source(p: _Parser, m: re.Match[str]) -> None:
    p.kernel = m[1] if m[1] and m[1] != "unknown" else ""


@_reads(r"Linux version (\S+)")
def _banner(p: _Parser, m: re.Match[str]) -> None:
    p.kernel = m[1]


@_reads(r"(.*?) invoked oom-killer(?::\s*(.*))?$")
def _header(p: _Parser, m: re.Match[str]) -> None:
    p.begin()
    report = p.report
    report.trigger = m[1][:64]
    rest = m[2] or ""
    gfp = re.search(r"gfp_mask=(0x[0-9a-f]+)", rest)
    order = re.search(r"order=(-?\d{1,3})", rest)
    report.gfp = gfp[1] if gfp else ""
    report.order = int(order[1]) if order else 0


@_reads(
    r"(?:CPU|Pid): ?\d+.*?[Cc]omm: .*?(?:Not tainted|Tainted: (?:[A-Z][ A-Z]*?))\s+(\d+\.\d\S*)"
)
def _release(p: _Parser, m: re.Match[str]) -> None:
    p.report.kernel = p.report.kernel or m[1]


@_reads(r"Task in (\S+) killed as a result of limit of (\S+)")
def _limit_of(p: _Parser, m: re.Match[str]) -> None:
    p.report.task_memcg, p.report.memcg = m[1], m[2]


_COUNTER = re.compile(
    r"(memory|swap|memory\+swap|kmem): usage (\d+)kB, limit (\d+)kB, failcnt (\d+)"
)


@_reads(_COUNTER.pattern)
def _counter(p: _Parser, m: re.Match[str]) -> None:
    values = [number(m[i]) for i in (2, 3, 4)]
    if None not in values:
        usage, limit, failcnt = (value for value in values if value is not None)
        p.report.counters.setdefault(m[1], Counter(usage, limit, failcnt))
        p.report.memcg = p.report.memcg or ""


@_reads(r"Memory cgroup stats(?: for (.+?))?:\s*(.*)$")
def _stats(p: _Parser, m: re.Match[str]) -> None:
    report = p.report
    if m[1] and not report.memcg:
        report.memcg = m[1]
    # v1 prints one line for each group below the limit; the first is the group itself
    if m[2] and not report.stat:
        for name, size in re.findall(r"(\w+):(\d{1,15})KB", m[2]):
            report.stat[name] = int(size) << 10
    p.in_stat = not m[2]


@_reads(r"([a-z_]+) (\d{1,19})$")
def _stat(p: _Parser, m: re.Match[str]) -> None:
    if p.in_stat:
        p.report.stat.setdefault(m[1], int(m[2]))


_SWAP_TOTAL = r"(Total|Free) swap\s*=\s*(\d{1,15})kB"


@_reads(_SWAP_TOTAL)
def _swap(p: _Parser, m: re.Match[str]) -> None:
    if m[1] == "Total":
        p.report.swap_total_kb = int(m[2])
    else:
        p.report.swap_free_kb = int(m[2])


@_reads(r"(\d{1,15}) pages (RAM|reserved|HighMem/MovableOnly|in swap cache|\w.*)$")
def _pages(p: _Parser, m: re.Match[str]) -> None:
    if m[2] == "RAM":
        p.report.pages_ram = int(m[1])
    elif m[2] == "reserved":
        p.report.pages_reserved = int(m[1])


@_reads(r"(\d{1,15}) total pagecache pages")
def _pagecache(p: _Parser, m: re.Match[str]) -> None:
    p.report.meminfo["pagecache"] = int(m[1])


_INFO = re.compile(r"([a-z_]+):(\d{1,15})(?![\dkK])")


@_reads(r"(?:active_anon|active_file|unevictable|slab_reclaimable|mapped|sec_pagetables|free"
        r"|kernel_misc_reclaimable):\d+(?![\dkK])")  # fmt: skip
def _mem_info(p: _Parser, m: re.Match[str]) -> None:
    # hung together with '#012' in syslog, or one line each
    for name, pages in _INFO.findall(re.sub(r"#\d{3}\s*", " ", m.string)):
        p.report.meminfo.setdefault(name, int(pages))


_ZONE_NAME = r"(?:Node (\d+) )?(DMA32|DMA|Normal|HighMem|Movable|Device)"
_ZONE_FIELDS = {
    "free": "free_kb", "boost": "boost_kb", "min": "min_kb", "low": "low_kb", "high": "high_kb",
    "present": "present_kb", "managed": "managed_kb", "free_pcp": "free_pcp_kb",
}  # fmt: skip


def _fill_zone(zone: Zone, text: str) -> None:
    for name, size in re.findall(r"([a-z_]+):(\d{1,15})kB", text):
        if name in _ZONE_FIELDS:
            setattr(zone, _ZONE_FIELDS[name], int(size))


@_reads(rf"{_ZONE_NAME} free:.*")
def _zone(p: _Parser, m: re.Match[str]) -> None:
    zone = Zone(int(m[1] or 0), m[2])
    _fill_zone(zone, m[0])
    p.report.zones.append(zone)
    p.zone = zone


@_reads(r"(?:active_file|unevictable|present|managed|mlocked):\d+kB")
def _zone_goes_on(p: _Parser, m: re.Match[str]) -> None:
    if p.zone is not None:  # a mailer broke the line
        _fill_zone(p.zone, m.string)


@_reads(r"lowmem_reserve\[\]:((?: \d{1,15})+)")
def _reserve(p: _Parser, m: re.Match[str]) -> None:
    if p.zone is not None:
        p.zone.lowmem_reserve = [int(part) for part in m[1].split()]


@_reads(rf"{_ZONE_NAME}: (\d+\*\d+kB.*)")
def _blocks(p: _Parser, m: re.Match[str]) -> None:
    report = p.report
    found = re.findall(r"(\d{1,12})\*(\d{1,9})kB", m[3])
    if not found or int(found[0][1]) == 0:
        return
    report.page_kb = int(found[0][1])
    counts = {int(size) // report.page_kb: int(count) for count, size in found}
    zone = next((z for z in report.zones if (z.node, z.zone) == (int(m[1] or 0), m[2])), None)
    if zone is not None:
        zone.buddy = {
            pages.bit_length() - 1: count
            for pages, count in counts.items()
            if pages.bit_count() == 1
        }


@_reads(r"Node \d+ (?:active_anon|hugepages)|(?:Normal|DMA) per-cpu|CPU\s+\d+: hi:")
def _passed(p: _Parser, m: re.Match[str]) -> None:
    pass


@_reads(r"\[\s*pid\s*\]\s+(.*)$")
def _table(p: _Parser, m: re.Match[str]) -> None:
    columns = tuple(m[1].split())
    if "rss" in columns and columns[-1] == "name":
        if p.reports and p.reports[-1].tasks and p.reports[-1].kills:
            p.ended = True  # a table without its header
        p.report.columns = columns
        p.in_stat = False


_COLUMN = {
    "uid": "uid", "tgid": "tgid", "total_vm": "total_vm", "rss": "rss", "rss_anon": "rss_anon",
    "rss_file": "rss_file", "rss_shmem": "rss_shmem", "pgtables_bytes": "pgtables_bytes",
    "nr_ptes": "nr_ptes", "nr_pmds": "nr_pmds", "swapents": "swapents", "oom_score_adj": "adj",
    "oom_adj": "", "cpu": "",
}  # fmt: skip


@_reads(r"\[\s*(\d{1,10})\]\s+(\d.*)$")
def _row(p: _Parser, m: re.Match[str]) -> None:
    report = p.report
    columns = report.columns
    parts = m[2].split(maxsplit=max(len(columns) - 1, 0))
    values = [number(part) for part in parts[: len(columns) - 1]]
    full = len(parts) == len(columns) and None not in values
    if not columns or not full:
        report.unknown.append((p.number, m.string))
        return
    if len(report.tasks) >= MAX_TASKS:
        return
    fields: dict[str, Any] = dict(zip((_COLUMN.get(c, "") for c in columns[:-1]), values))
    fields.pop("", None)
    if not {"rss", "adj"} <= fields.keys():
        return
    for name in ("uid", "tgid", "total_vm"):
        fields.setdefault(name, 0)
    report.tasks.append(Task(pid=int(m[1]), name=parts[-1][:64], **fields))


@_reads(r"oom-kill:constraint=(\w+)(.*)$")
def _constraint(p: _Parser, m: re.Match[str]) -> None:
    report = p.report
    report.constraint = m[1]
    pairs = dict(part.partition("=")[::2] for part in m[2].split(","))
    if "oom_memcg" in pairs:
        report.memcg = pairs["oom_memcg"]
    report.task_memcg = pairs.get("task_memcg", report.task_memcg)
    pid = number(pairs.get("pid", ""))
    if pid is not None and report.chosen is None:
        report.chosen = Victim(pid, pairs.get("task", "")[:64], number(pairs.get("uid", "")))


_WHOSE = r"(?:Out of memory|Memory cgroup out of memory|OOM)"


@_reads(rf"({_WHOSE})( \(oom_kill_allocating_task\))?:\s+Kill process (\d{{1,10}}) \((.*?)\) "
        r"score (\d{1,6})")  # fmt: skip
def _chosen(p: _Parser, m: re.Match[str]) -> None:
    report = p.report
    report.allocating_task |= m[2] is not None
    report.score = int(m[5]) if report.score is None else report.score
    report.chosen = report.chosen or Victim(int(m[3]), m[4][:64])
    if m[1].startswith("Memory cgroup"):
        report.memcg = report.memcg or ""


@_reads(rf"(?:({_WHOSE})(?: \(oom_kill_allocating_task\))?:\s+)?Killed process (\d{{1,10}}),?"
        r"(?: UID (\d{1,10}),)? \((.*?)\)(.*)$")  # fmt: skip
def _killed(p: _Parser, m: re.Match[str]) -> None:
    report = p.report
    sizes = {name: int(kb) for name, kb in re.findall(r"([a-z-]+):(\d{1,15})kB", m[5])}
    uid = number(m[3] or "") if m[3] else _tail(m[5], "UID:")
    total_vm = sizes.get("total-vm", 0)
    listed = next((task for task in report.tasks if task.pid == int(m[2])), None)
    if listed is not None and listed.total_vm and total_vm / listed.total_vm in (4, 16, 64):
        report.page_kb = total_vm // listed.total_vm
    report.kills.append(
        Victim(
            int(m[2]), m[4][:64], uid, sizes.get("anon-rss"), sizes.get("file-rss"),
            sizes.get("shmem-rss"), sizes.get("pgtables"), _tail(m[5], "oom_score_adj:"),
        )
    )  # fmt: skip
    if m[1] and m[1].startswith("Memory cgroup"):
        report.memcg = report.memcg or ""
    p.in_stat = False


def _tail(text: str, key: str) -> int | None:
    """The number behind a key at the end of a kill line."""
    found = re.search(re.escape(key) + r"(-?\d{1,10})", text)
    return int(found[1]) if found else None


@_reads(r"Kernel panic - not syncing: Out of memory: .*panic_on_oom")
def _panic(p: _Parser, m: re.Match[str]) -> None:
    p.report.panicked = True


@_reads(r"Tasks in (\S+) are going to be killed due")
def _group_kill(p: _Parser, m: re.Match[str]) -> None:
    p.report.oom_group = True


@_reads(r"(?:Out of memory and no killable processes|Memory cgroup out of memory and no killable)"
        r"|Kernel panic - not syncing: (?:Out of memory and no|System is deadlocked)")  # fmt: skip
def _nobody(p: _Parser, m: re.Match[str]) -> None:
    p.report.no_killable = True


def parse(lines: Iterable[str]) -> list[Report]:
    """All OOM reports in a log.

    Parameters
    ----------
    lines : iterable of str
        Of dmesg (with or without time stamps), ``journalctl -k`` or syslog.

    Returns
    -------
    list of Report
        In their order. A log without any gives none; one that is cut gives what is there.

    Examples
    --------
    >>> reports = parse(["kernel: [ 12.5] Out of memory: Killed process 7 (leak) "
    ...                  "total-vm:9kB, anon-rss:8kB, file-rss:0kB, shmem-rss:0kB"])
    >>> reports[0].victim.name, reports[0].victim.anon_rss_kb
    ('leak', 8)
    """
    parser = _Parser()
    for line in lines:
        if parser.number >= MAX_LINES:
            break
        parser.feed(line)
    return [report for report in parser.reports if report.tasks or report.kills or report.zones]
