"""Idle page tracking: which pages nobody accessed since they were marked (mm/page_idle.c)."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from capplan.sources.procfs import Host, number
from capplan.sources.working_set import Look, Pace

__all__ = ["IdlePages"]

PAGE = 4096
IDLE = "sys/kernel/mm/page_idle/bitmap"
FLAGS, OWNERS = "proc/kpageflags", "proc/kpagecgroup"
# include/uapi/linux/kernel-page-flags.h
KPF_LRU, KPF_MMAP, KPF_ANON, KPF_SWAPBACKED, KPF_HEAD, KPF_TAIL, KPF_HUGE = (
    1 << bit for bit in (5, 11, 12, 14, 15, 16, 17)
)
WORD = 64  # pages in a word of the bitmap
PER_WORD = 4  # neighbours are alike: few of each word tell as much
MAX_FOLIO = 512


@dataclass
class _Marked:
    """Pages of one word of the bitmap that were marked idle."""

    first_pfn: int
    pages: list[tuple[int, str, str, float]] = field(
        default_factory=list
    )  # bit, group, kind, weight


class IdlePages:
    """Idle page tracking (CONFIG_IDLE_PAGE_TRACKING) over pages drawn from all of memory.

    Kernel
    ------
    mm/page_idle.c: a bit written clears the page's accessed bits and marks it idle; a bit that is
    still there when it is read stands for a page that nobody accessed, by page tables or read(2).
    fs/proc/page.c: whose page it is (kpagecgroup), and of what kind (kpageflags).

    Departs from the kernel
    -----------------------
    A folio of several pages has one idle flag: its head stands for all of them. Under multi-gen LRU
    folio_mark_accessed() leaves the flag alone, so read(2) is not seen and files count only as far
    as they are mapped. Somebody else who uses the bitmap at the same time makes pages look touched,
    or idle.
    """

    method = "idle"

    def __init__(self, host: Host, top: str) -> None:
        self.host, self.top = host, top
        self.pace = Pace(size=128, least=32, most=2048)
        self.spans = _spans(host)
        enabled = host.read("sys/kernel/mm/lru_gen/enabled", 64).strip()
        self.sees_reads = enabled in ("", "0x0000")
        self.files = {
            name: os.open(host.path(name), flags | os.O_CLOEXEC)
            for name, flags in ((IDLE, os.O_RDWR), (FLAGS, os.O_RDONLY), (OWNERS, os.O_RDONLY))
        }
        self.marked: list[_Marked] = []
        self.begun = self.cpu_s = 0.0

    @staticmethod
    def missing(host: Host) -> str:
        """Why it cannot be had; empty: it can."""
        if not host.exists(IDLE):
            return "no /sys/kernel/mm/page_idle: a kernel without CONFIG_IDLE_PAGE_TRACKING"
        may = all(os.access(host.path(name), os.R_OK) for name in (IDLE, FLAGS, OWNERS))
        return "" if may else "/sys/kernel/mm/page_idle and /proc/kpageflags: root only"

    def poll(self, groups: Iterable[str]) -> list[Look]:
        now, cpu = time.monotonic(), time.process_time()
        found: list[Look] = []
        if self.marked:
            if now - self.begun < self.pace.window_s():
                return []
            found = list(_looks(self._read(), self.method, now - self.begun))
            self.marked = []
            self.pace.took(self.cpu_s + time.process_time() - cpu, self.begun)
        elif now >= self.pace.rest_until:
            self._mark(groups)
            self.begun, self.cpu_s = time.monotonic(), time.process_time() - cpu
        return found

    def close(self) -> float:
        for fd in self.files.values():
            os.close(fd)
        self.files.clear()
        return 0.0

    def _words(self, name: str, first: int, count: int) -> tuple[int, ...]:
        data = os.pread(self.files[name], 8 * count, 8 * first)
        return struct.unpack(f"={len(data) // 8}Q", data[: len(data) // 8 * 8])

    def _mark(self, groups: Iterable[str]) -> None:
        """Draw words of the bitmap and mark pages of the groups in them."""
        owners = self._owners(groups)
        total = sum(pages for _, pages in self.spans)
        if not owners or not total:
            return
        draws = struct.unpack(f"={self.pace.size}Q", os.urandom(8 * self.pace.size))
        for drawn in {_at(self.spans, draw % total) // WORD * WORD for draw in draws}:
            with contextlib.suppress(OSError):  # a hole, or memory that went offline
                marked = self._choose(drawn, owners)
                if marked.pages:
                    bits = sum(1 << bit for bit, _, _, _ in marked.pages)
                    os.pwrite(self.files[IDLE], struct.pack("=Q", bits), drawn // 8)
                    self.marked.append(marked)

    def _owners(self, groups: Iterable[str]) -> dict[int, str]:
        """The groups by the inode that kpagecgroup names them with (page_cgroup_ino())."""
        found = {}
        for group in groups:
            with contextlib.suppress(OSError):
                found[os.stat(self.host.path(f"{self.top}/{group}")).st_ino] = group
        return found

    def _choose(self, first: int, owners: dict[int, str]) -> _Marked:
        """Up to four pages of each group in a word, each standing for as many as there were."""
        whose = self._words(OWNERS, first, WORD)
        flags = self._words(FLAGS, first, WORD)
        by_group: dict[str, list[int]] = {}
        for bit, (ino, flag) in enumerate(zip(whose, flags)):
            if ino not in owners or not flag & KPF_LRU or flag & (KPF_TAIL | KPF_HUGE):
                continue
            if self.sees_reads or flag & (KPF_MMAP | KPF_SWAPBACKED):
                by_group.setdefault(owners[ino], []).append(bit)
        marked = _Marked(first)
        for group, bits in by_group.items():
            step = max(len(bits) // PER_WORD, 1)
            skip = os.urandom(1)[0] % step
            taken = bits[skip::step][:PER_WORD]
            for bit in taken:
                weight = len(bits) / len(taken)
                if flags[bit] & KPF_HEAD:
                    weight *= self._folio(first + bit)
                marked.pages.append((bit, group, self._kind(flags[bit]), weight))
        return marked

    def _kind(self, flags: int) -> str:
        if flags & KPF_ANON:
            return "anon"
        if flags & KPF_SWAPBACKED:
            return "shmem"
        return "file" if self.sees_reads else "mapped file"

    def _folio(self, head: int) -> int:
        """Pages of the folio that begins here."""
        pages = 1
        for flag in self._words(FLAGS, head + 1, MAX_FOLIO - 1):
            if not flag & KPF_TAIL:
                break
            pages += 1
        return pages

    def _read(self) -> Iterator[tuple[str, str, float, bool]]:
        """Group, kind, weight, and whether it was touched, of the pages that are still there."""
        for marked in self.marked:
            try:
                (idle,) = self._words(IDLE, marked.first_pfn // WORD, 1)
                flags = self._words(FLAGS, marked.first_pfn, WORD)
            except (OSError, ValueError):
                continue
            for bit, group, kind, weight in marked.pages:
                if bit < len(flags) and flags[bit] & KPF_LRU:  # else freed meanwhile
                    yield group, kind, weight, not idle >> bit & 1


def _looks(
    pages: Iterable[tuple[str, str, float, bool]], method: str, window_s: float
) -> Iterator[Look]:
    """Add the pages up by group and kind.

    The error is that of a weighted share, with one touched and one idle page added to the sample
    (Agresti and Coull), so that nothing touched of a few pages is not taken for certain.
    """
    sums: dict[tuple[str, str], list[float]] = {}
    for group, kind, weight, touched in pages:
        found = sums.setdefault((group, kind), [0.0] * 5)
        for i, value in enumerate((1.0, touched, weight, weight * touched, weight * weight)):
            found[i] += value
    for (group, kind), (count, hits, watched, weighed, squares) in sums.items():
        share = (hits + 1.0) / (count + 2.0)
        error = (squares * share * (1.0 - share)) ** 0.5
        yield Look(group, method, kind, window_s, weighed * PAGE, watched * PAGE, error * PAGE)


def _spans(host: Host) -> list[tuple[int, int]]:
    """First page frame and spanned pages of each populated zone of zoneinfo."""
    found, spanned = [], 0
    for line in host.read("proc/zoneinfo").splitlines():
        parts = line.split()
        if len(parts) == 2 and parts[0] == "spanned":
            spanned = number(parts[1]) or 0
        elif len(parts) == 2 and parts[0] == "start_pfn:" and spanned:
            found.append((number(parts[1]) or 0, spanned))
            spanned = 0
    return found


def _at(spans: list[tuple[int, int]], index: int) -> int:
    for first, pages in spans:
        if index < pages:
            return first + index
        index -= pages
    return 0
