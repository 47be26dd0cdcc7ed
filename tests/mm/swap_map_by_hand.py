"""The map of swap slots as plain lists and sets: who gets which slot, read off the kernel's source.

Of one area and one CPU, at one page a slot, below one trunk of 64 MiB.
"""

from __future__ import annotations

CLUSTER = 512
BATCH = 64
LATENCY_LIMIT = 256
HEADER = -1  # the slot that nobody gets
KEPT = -2  # of the slots cache


class SwapMap:
    """``slots[at]``: None, or who has it. ``cached``: holders that can do without theirs."""

    def __init__(self, pages: int, seeks: bool, lists: bool) -> None:
        self.pages, self.seeks, self.lists = pages, seeks, lists and not seeks
        self.slots: list[int | None] = [HEADER] + [None] * pages
        whole = range(1, (pages + 1) // CLUSTER)
        rest = [c for c in range(-(-(pages + 1) // CLUSTER)) if c not in whole]
        self.free_clusters = list(whole)
        self.nonfull, self.frag, self.full = rest, list[int](), list[int]()
        self.nr_free, self.active = pages, False
        self.cached: set[int] = set()
        self.ahead, self.returned = list[int](), list[int]()
        self.next: int | None = None  # of this CPU's cluster
        self.cluster_next, self.cluster_nr = 0, 0
        self.lowest, self.highest = 1, pages

    def swap_full(self) -> bool:
        return self.nr_free * 2 < self.pages

    def cluster(self, c: int) -> list[int | None]:
        return self.slots[c * CLUSTER : (c + 1) * CLUSTER]

    def used(self, c: int) -> int:
        beyond = max((c + 1) * CLUSTER - len(self.slots), 0)
        return sum(holder is not None for holder in self.cluster(c)) + beyond

    def move(self, c: int, to: list[int] | None) -> None:
        for one in (self.free_clusters, self.nonfull, self.frag, self.full):
            if c in one:
                one.remove(c)
        if to is not None:
            to.append(c)

    def take(self, at: int, who: int) -> None:
        c = at // CLUSTER
        self.slots[at] = who
        if at == self.lowest:
            self.lowest += 1
        if at == self.highest:
            self.highest -= 1
        if not self.lists:
            if c in self.free_clusters:
                self.move(c, None)
        elif self.used(c) == CLUSTER:
            self.move(c, self.full)
        elif c in self.free_clusters:
            self.move(c, self.nonfull)

    def free(self, at: int) -> None:
        c = at // CLUSTER
        self.slots[at] = None
        self.nr_free += 1
        self.lowest, self.highest = min(self.lowest, at), max(self.highest, at)
        if self.used(c) == 0:
            self.move(c, self.free_clusters)
        elif self.lists and c not in self.nonfull:
            self.move(c, self.nonfull)

    def give_back(self, at: int) -> None:
        """Of a page that is freed, or comes back while swap is half full."""
        self.cached.discard(self.slots[at] if self.slots[at] is not None else KEPT)
        if not self.active:
            self.free(at)
            return
        if len(self.returned) == BATCH:
            self.drain()
        self.slots[at] = KEPT
        self.returned.append(at)

    def drain(self) -> None:
        for at in self.returned:
            self.free(at)
        self.returned = []

    def reclaim(self, at: int, direct: bool) -> None:
        """Take a slot back whose page is in memory."""
        who = self.slots[at]
        if who in self.cached:
            self.cached.discard(who)
            self.free(at) if direct else self.give_back(at)

    # before 6.12, and on disks with seeks

    def of_cluster(self) -> int | None:
        while True:
            if self.next is None:
                if not self.free_clusters:
                    return None
                self.next = self.free_clusters[0] * CLUSTER
            end = min((self.next // CLUSTER + 1) * CLUSTER, len(self.slots))
            for at in range(self.next, end):
                if self.slots[at] is None:
                    self.next = at + 1 if at + 1 < end else None
                    return at
            self.next = None

    def empty_run(self) -> int:
        for at in range(self.lowest, self.highest - CLUSTER + 2):
            if all(holder is None for holder in self.slots[at : at + CLUSTER]):
                return at
        return self.lowest

    def search(self, base: int) -> tuple[int | None, int]:
        if base > self.highest:
            base = self.lowest
        steps = 0
        order = (range(base, len(self.slots)), range(len(self.slots)))
        for lap, part in enumerate(order):
            for at in part:
                if lap == 0 and at > self.highest:
                    break
                if lap == 1 and at < self.lowest:
                    continue
                if lap == 1 and at >= base:
                    break
                if self.slots[at] is not None and self.swap_full():
                    self.reclaim(at, False)
                if self.slots[at] is None:
                    return at, steps
                steps += 1
        return None, steps

    def scan(self, want: int) -> list[int]:
        got: list[int] = []
        steps = 0
        if self.seeks:
            at: int | None = self.cluster_next
            if self.cluster_nr:
                self.cluster_nr -= 1
            else:
                self.cluster_nr = CLUSTER - 1
                if self.nr_free >= CLUSTER:
                    at = self.empty_run()
            base = int(at or 0)
            at, steps = self.search(base)
        else:
            at = self.of_cluster()
            base = at if at is not None else self.cluster_next + 1
            if at is None:
                at, steps = self.search(base)
        ration = LATENCY_LIMIT - steps % LATENCY_LIMIT
        while at is not None:
            self.take(at, KEPT)
            got.append(at)
            ration -= 1
            if len(got) == want or ration < 0 or at >= self.highest:
                break
            last = at
            if not self.seeks:
                at = self.of_cluster()
            elif self.cluster_nr and at + 1 <= self.highest and self.slots[at + 1] is None:
                at += 1
                self.cluster_nr -= 1
            else:
                at = None
            if at is None and steps <= LATENCY_LIMIT:
                limit = base if last < base else self.highest
                for offset in range(last, limit + 1):
                    if self.slots[offset] is None:
                        at = offset
                    if at is not None or ration <= 0:
                        break
                    ration -= 1
        if got:
            self.cluster_next = got[-1] + 1
        return got

    # since 6.12

    def scan_cluster(self, at: int) -> int | None:
        c = at // CLUSTER
        self.next = None
        if self.used(c) >= CLUSTER:
            return None
        end = min((c + 1) * CLUSTER, len(self.slots))
        for offset in range(at, end):
            if self.slots[offset] is not None and self.swap_full():
                self.reclaim(offset, True)
            if self.slots[offset] is None:
                self.take(offset, KEPT)
                if self.used(c) < CLUSTER and offset + 1 < end:
                    self.next = offset + 1
                return offset
        return None

    def look_through_full(self, clusters: int) -> None:
        while self.full and clusters > 0:
            c = self.full[0]
            self.move(c, self.full)
            for at in range(c * CLUSTER, min((c + 1) * CLUSTER, len(self.slots))):
                self.reclaim(at, True)
            clusters -= 1

    def from_lists(self) -> int | None:
        at = self.scan_cluster(self.next) if self.next is not None else None
        if at is None and self.free_clusters:
            return self.scan_cluster(self.free_clusters[0] * CLUSTER)
        if at is not None:
            return at
        if self.swap_full():
            self.look_through_full(1)
        scans = len(self.frag)
        while at is None and self.nonfull:
            c = self.nonfull[0]
            self.move(c, self.frag)
            at = self.scan_cluster(c * CLUSTER)
        while at is None and self.frag and scans > 0:
            c = self.frag[0]
            self.move(c, self.frag)
            at = self.scan_cluster(c * CLUSTER)
            scans -= 1
        return at

    # one page

    def get_pages(self, want: int) -> list[int]:
        if self.nr_free == 0:
            return []
        goal = min(want, self.nr_free)
        self.nr_free -= goal
        if self.lists:
            got = []
            while len(got) < goal and (at := self.from_lists()) is not None:
                got.append(at)
        else:
            got = self.scan(goal)
        self.nr_free += goal - len(got)
        if self.nr_free == 0 and got:
            self.lowest, self.highest = len(self.slots), 0
            if self.lists and self.swap_full():
                self.look_through_full(len(self.slots))
        return got

    def check_active(self) -> bool:
        if not self.active:
            self.active = self.nr_free > 5 * BATCH
        elif self.nr_free < 2 * BATCH:
            self.active = False
            for at in reversed(self.ahead):
                self.free(at)
            self.ahead = []
            self.drain()
        return self.active

    def get(self, who: int) -> int | None:
        """A slot for a page that goes out."""
        if self.check_active() and not self.ahead:
            self.ahead = self.get_pages(BATCH)
        got = [self.ahead.pop(0)] if self.active and self.ahead else self.get_pages(1)
        if not got:
            return None
        self.slots[got[0]] = who
        return got[0]
