"""What one OOM report of the kernel's log holds, in the units that it prints."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Counter", "Report", "Task", "Victim", "Zone"]


@dataclass(frozen=True)
class Task:
    """A row of the task table; memory in pages, page tables in bytes (None: no such column)."""

    pid: int
    uid: int
    tgid: int
    total_vm: int
    rss: int
    adj: int
    name: str
    rss_anon: int | None = None
    rss_file: int | None = None
    rss_shmem: int | None = None
    pgtables_bytes: int | None = None
    nr_ptes: int | None = None
    nr_pmds: int | None = None
    swapents: int | None = None

    def tables(self, page_kb: int) -> int:
        """Its page tables. [pages]"""
        levels = (self.nr_ptes or 0) + (self.nr_pmds or 0)
        return (self.pgtables_bytes or 0) // (page_kb * 1024) + levels


@dataclass
class Zone:
    """A zone as show_free_areas() printed it. [KiB; lowmem_reserve in pages]"""

    node: int
    zone: str
    free_kb: int = 0
    boost_kb: int | None = None
    min_kb: int = 0
    low_kb: int = 0
    high_kb: int = 0
    present_kb: int = 0
    managed_kb: int | None = None
    free_pcp_kb: int | None = None
    lowmem_reserve: list[int] = field(default_factory=list)
    buddy: dict[int, int] = field(default_factory=dict)  # free blocks by order


@dataclass
class Counter:
    """A page counter of a group: memory, swap, memory+swap or kmem. [KiB]"""

    usage_kb: int
    limit_kb: int
    failcnt: int = 0


@dataclass(frozen=True)
class Victim:
    """A line that names a killed process; sizes in KiB (None: not printed)."""

    pid: int
    name: str
    uid: int | None = None
    anon_rss_kb: int | None = None
    file_rss_kb: int | None = None
    shmem_rss_kb: int | None = None
    pgtables_kb: int | None = None
    adj: int | None = None


@dataclass
class Report:
    """One OOM report.

    Attributes
    ----------
    line
        Its first line in the text.
    kernel
        Release, where a line names it.
    memcg
        Path of the group whose limit was hit; None for the whole node.
    counters
        ``memory``, ``swap``, ``memory+swap``, ``kmem`` of that group.
    stat
        Its memory.stat, v1's or v2's keys. [bytes]
    meminfo
        Node-wide counts of Mem-Info. [pages]
    chosen
        The process that was chosen, with its printed score; a child may have died in its place.
    kills
        Processes that were killed, in order.
    unknown
        Lines inside the report that were not understood.
    """

    line: int
    kernel: str = ""
    trigger: str = ""
    order: int = 0
    gfp: str = ""
    constraint: str = ""
    memcg: str | None = None
    task_memcg: str = ""
    counters: dict[str, Counter] = field(default_factory=dict)
    stat: dict[str, int] = field(default_factory=dict)
    meminfo: dict[str, int] = field(default_factory=dict)
    zones: list[Zone] = field(default_factory=list)
    page_kb: int = 4
    swap_total_kb: int | None = None
    swap_free_kb: int | None = None
    pages_ram: int | None = None
    pages_reserved: int | None = None
    columns: tuple[str, ...] = ()
    tasks: list[Task] = field(default_factory=list)
    chosen: Victim | None = None
    score: int | None = None
    kills: list[Victim] = field(default_factory=list)
    allocating_task: bool = False
    no_killable: bool = False
    oom_group: bool = False
    panicked: bool = False
    unknown: list[tuple[int, str]] = field(default_factory=list)

    @property
    def victim(self) -> Victim | None:
        """The first process that was killed."""
        return self.kills[0] if self.kills else self.chosen

    @property
    def named(self) -> Victim | None:
        """Whom the kernel chose: a child may have died in its place, a line may be cut."""
        listed = {task.pid for task in self.tasks}
        if self.chosen is not None and (not self.kills or self.chosen.pid in listed):
            return self.chosen
        return self.victim

    @property
    def is_memcg(self) -> bool:
        """Whether a group's limit was hit, not the node's memory."""
        # one 5.2-rc prints CONSTRAINT_NONE for groups: the counters tell
        return self.memcg is not None or self.constraint == "CONSTRAINT_MEMCG"

    @property
    def totalram_pages(self) -> int | None:
        """Pages of RAM less the reserved ones, or what the zones manage. [pages]"""
        if self.pages_ram is None:
            managed = sum(zone.managed_kb or 0 for zone in self.zones) // self.page_kb
            return managed or None
        return self.pages_ram - (self.pages_reserved or 0)
