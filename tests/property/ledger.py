"""The kernel's counters against what they count: every frame, entry, list and vma.

Each function returns sentences about what does not add up. Numbers are those of the kernel
model's list of invariants (Z zones, L lists, M memcg).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from capplan.mm import state as s
from capplan.mm import xarray as xa
from tests.property.ledger_swap import slots_cache, swap_map


class Ledger:
    """What frames and entries say, gathered once per look."""

    def __init__(self, machine: Any) -> None:
        self.k = k = machine.kernel[0]
        self.frames = machine.frames
        self.entries = machine.entries[: int(machine.kernel[0].nr_entries)]
        cells = machine.entries["cells"]
        self.xa_nodes = cells[int(k["first_xa_node"]) : int(k["first_slot"])]
        self.swap_cells = cells
        fr = self.frames
        self.zones = [z for z in range(int(k["nr_zones"])) if k["zone"]["managed"][z] > 0]
        self.groups = int(k["nr_memcgs"])
        self.pages = fr["nr_pages"].astype(np.int64)
        self.flags = fr["flags"]
        self.held = fr["mapping"] >= 0
        self.doomed = self.has(s.PG_DOOMED)
        kinds = k["mapping"]["kind"][np.where(self.held, fr["mapping"], 0)]
        self.kind = np.where(self.held, kinds, -1)
        self.gathered = np.zeros(len(fr), np.bool_)
        following = fr["next"].tolist()
        for p in range(int(k["nr_procs"])):
            i = int(k["proc"]["gather_head"][p])
            if k["proc"]["state"][p] != s.PROC_EXITING:
                continue
            while i >= 0:
                self.gathered[i] = True
                i = following[i]
        # a page that reclaim, a mapping or a list still knows
        self.attached = self.held & ~self.doomed & ~self.gathered

    def has(self, flag: int) -> npt.NDArray[np.bool_]:
        """Frames with a flag."""
        return (self.frames["flags"] & flag) != 0

    def by_group(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Pages of the chosen frames per memcg."""
        weights = self.pages[chosen]
        owners = self.frames["memcg"][chosen]
        return np.bincount(owners, weights, self.groups).astype(np.int64)

    def entries_by(self, field: str, chosen: Any, size: int) -> npt.NDArray[np.int64]:
        """Pages of the chosen entries per value of a field."""
        weights = self.entries["nr_pages"][chosen]
        return np.bincount(self.entries[field][chosen], weights, size).astype(np.int64)

    def with_children(self, own: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Sum each group's subtree."""
        ends = self.k["memcg"]["subtree_end"][: self.groups]
        return np.array([own[c : int(ends[c])].sum() for c in range(self.groups)])


def _differ(name: str, told: Any, counted: Any) -> list[str]:
    told, counted = np.atleast_1d(told), np.atleast_1d(counted)
    wrong = np.flatnonzero(told != counted)
    return [f"{name}[{i}] is {told[i]}, counted {counted[i]}" for i in wrong]


def z1_zones(ledger: Ledger, boot: dict[int, int]) -> list[str]:
    """Free lists add up to NR_FREE_PAGES; nothing that was free at boot is lost or doubled."""
    k, found = ledger.k, []
    shift = np.arange(s.NR_ORDERS)[:, None]
    for z in ledger.zones:
        zone = k["zone"][z]
        found += _differ(f"Z1: zone {z} free", zone["free"], (zone["nr_free"] << shift).sum())
        first, end = int(zone["first_frame"]), int(zone["first_frame"] + zone["nr_frames"])
        whole = ledger.held[first:end] & ~ledger.has(s.PG_SCATTERED)[first:end]
        used = int(whole.sum()) << int(k["g"])
        listed = int(zone["pcp_count"].sum() - zone["pcp_kernel"].sum())  # those are in bag_used
        total = int(zone["free"] + zone["bag_used"].sum()) + listed + used
        total += int(zone["nr_hugetlb"]) << s.PAGEBLOCK_ORDER
        found += _differ(f"Z1: zone {z} pages in all", total, boot[z])
        found += _pcp(ledger, z)
        if zone["free"] < 0 or zone["bag_used"].min() < 0:
            found.append(f"Z1: zone {z} free {zone['free']}, bag {zone['bag_used']}")
    return found


def _pcp(ledger: Ledger, z: int) -> list[str]:
    zone, following = ledger.k["zone"][z], ledger.frames["next"]
    counted = []
    single = int(ledger.k["granule_pages"])
    for cpu in range(s.PCP_CPUS):
        nr = int(zone["pcp_kernel"][:, cpu].sum())
        lists = (
            (zone["pcp_head"][0], single),
            (zone["pcp_head"][1], 1 << s.PAGEBLOCK_ORDER),
            (zone["pcp_other"], single),
        )
        for heads, pages in lists:
            i = int(heads[cpu])
            while i >= 0:
                nr += pages
                i = int(following[i])
        counted.append(nr)
    return _differ(f"Z1: per-cpu list of zone {z}", zone["pcp_count"], counted)


def z2_single_pages(ledger: Ledger) -> list[str]:
    """Pages handed out singly are those the kernel, the pools and short granules hold."""
    k = ledger.k
    zones = k["zone"]
    bag = sum(int(zones["bag_used"][z].sum() - zones["pcp_kernel"][z].sum()) for z in ledger.zones)
    short = ledger.held & ledger.has(s.PG_SCATTERED)
    scattered = int(ledger.pages[short].sum())
    in_zone = np.bincount(ledger.frames["zone"][short], ledger.pages[short], len(k["zone"]))
    known = sum(
        int(k[name])
        for name in ("nr_slab_reclaimable", "nr_pagetables", "nr_kernel", "zswap_pages")
    )
    groups = k["memcg"][1 : ledger.groups]
    objects = groups["xa_nodes"] * s.XA_NODE_SIZE + groups["buffer_heads"] * s.BUFFER_HEAD_SIZE
    nodes = (objects + s.PAGE_SIZE - 1) // s.PAGE_SIZE
    slab = int((groups["stat"][:, s.ST_SLAB_RECLAIMABLE] - nodes).sum())
    with_buffers = int(ledger.pages[ledger.has(s.PG_PRIVATE)].sum())
    xa_slabs = int(k["node"]["xa_slabs"].sum()) << int(k["xa_slab_order"])
    return [
        *_differ("Z2: single pages", bag, scattered + known),
        *_differ("Z2: short frames by zone", k["zone"]["bag_lru"], in_zone.astype(np.int64)),
        *_differ("Z2: slab of groups", k["nr_slab_memcg"], slab),
        *_differ("Z2: buffer heads", k["nr_buffer_heads"], with_buffers),
        *_differ("Z2: slab of xarray nodes", k["nr_xa_pages"], xa_slabs),
    ]


def _walk(following: list[int], before: list[int], head: int, tail: int) -> list[int]:
    """Frames of a list; a broken link ends it with -2."""
    seen: list[int] = []
    i, last = head, -1
    while i >= 0:
        if before[i] != last or len(seen) > len(following):
            return [*seen, -2]
        seen.append(i)
        i, last = following[i], i
    return seen if last == tail else [*seen, -2]


def l1_lists(ledger: Ledger) -> list[str]:
    """Each attached page is on one list, and lists and zones count it."""
    k, fr = ledger.k, ledger.frames
    following, before = fr["next"].tolist(), fr["prev"].tolist()
    met: list[int] = []
    found = []
    for c in range(ledger.groups):
        for n in range(int(k["nr_nodes"])):
            lv = k["memcg"]["lruvec"][c, n]
            classic = (4,) if k["lru_gen"] else range(s.NR_LRU_LISTS)
            for lru in classic:
                chain = _walk(following, before, int(lv["head"][lru]), int(lv["tail"][lru]))
                broken = -2 in chain or not (fr["lru"][chain] == lru).all()
                if broken or not (fr["memcg"][chain] == c).all():
                    found.append(f"L1: list {lru} of {c} is broken")
                met += chain
            if k["lru_gen"]:
                found += _generations(ledger, c, n, following, before, met)
    on_list = np.bincount([i for i in met if i >= 0], minlength=len(fr))
    found += [f"L1: page {i} is on {on_list[i]} lists" for i in np.flatnonzero(on_list > 1)]
    lost = ledger.attached & (on_list == 0)
    found += [f"L1: page {i} is on no list" for i in np.flatnonzero(lost)[:3]]
    stray = (on_list > 0) & ~ledger.attached
    found += [f"L1: page {i} is on a list, freed" for i in np.flatnonzero(stray)[:3]]
    return found + _list_sizes(ledger)


def _generations(
    ledger: Ledger, c: int, n: int, following: list[int], before: list[int], met: list[int]
) -> list[str]:
    lv, found = ledger.k["memcg"]["lruvec"][c, n], []
    for place in np.ndindex(lv["gen_head"].shape):
        head, tail = int(lv["gen_head"][place]), int(lv["gen_tail"][place])
        chain = _walk(following, before, head, tail)
        if -2 in chain or not (ledger.frames["memcg"][chain] == c).all():
            found.append(f"L1: generation {place} of {c} is broken")
        met += chain
    if (lv["gen_pages"] < 0).any():
        found.append(f"L1: generations of {c} hold {lv['gen_pages'].tolist()}")
    return found


def _list_sizes(ledger: Ledger) -> list[str]:
    """Sizes of lists as the frames say: their lru field, or their generation."""
    k, fr, found = ledger.k, ledger.frames, []
    node = fr["zone"] >> 2
    lists = fr["lru"].astype(np.int64)
    listed = ledger.attached & (lists != s.LRU_NONE)
    gen = fr["gen"].astype(np.int64) - 1
    if k["lru_gen"]:
        newest = k["memcg"]["lruvec"]["max_seq"][fr["memcg"], node]
        active = (gen == newest % 4) | (gen == (newest - 1) % 4)
        lists = np.where(lists < s.LRU_UNEVICTABLE, (lists & 2) + active, lists)
    for n in range(int(k["nr_nodes"])):
        for lru in range(s.NR_LRU_LISTS):
            counted = ledger.by_group(listed & (node == n) & (lists == lru))
            told = k["memcg"]["lruvec"]["pages"][: ledger.groups, n, lru]
            found += _differ(f"L1: list {lru} of group", told, counted)
    for z in ledger.zones:
        here = listed & (fr["zone"] == z)
        counted_ = [int(ledger.pages[here & (lists == lru)].sum()) for lru in range(5)]
        found += _differ(f"L1: zone {z} list", k["zone"]["lru_pages"][z], counted_)
    return found


def m2_usage(ledger: Ledger) -> list[str]:
    """A group's usage: the pages it pays for, its kernel memory, and what it charged ahead."""
    k, size = ledger.k, ledger.groups
    memcg = k["memcg"]
    own = ledger.by_group(ledger.held & ~ledger.doomed)
    own += memcg["stat"][:size, s.ST_KERNEL] + memcg["stock"][:size]
    found = _differ("M2: usage of", memcg["memory"]["usage"][1:size], ledger.with_children(own)[1:])
    if k["cgroup_v1"]:
        gone = ledger.entries["swap"] >= 0
        gone &= (ledger.entries["frame"] < 0) & (ledger.entries["state"] != s.PTE_PRESENT)
        swapped = ledger.entries_by("owner", gone, size)
        both = ledger.with_children(own + swapped)
        found += _differ("M2: memsw of", memcg["memsw"]["usage"][1:size], both[1:])
    return found


def m2_statistics(ledger: Ledger) -> list[str]:
    """memory.stat of each group, and the node's counters, are what its frames are."""
    k, size = ledger.k, ledger.groups
    alive = ledger.attached
    cache = alive & (ledger.kind > s.MAP_ANON) & (ledger.kind != s.MAP_KERNEL)
    mapped = alive & ledger.has(s.PG_MAPPED)
    file = ledger.kind == s.MAP_FILE
    counts = {
        "anon": mapped & (ledger.kind == s.MAP_ANON),
        "file": alive & (ledger.kind != s.MAP_ANON),
        "shmem": alive & (ledger.kind == s.MAP_SHMEM),
        "file_mapped": mapped & (ledger.kind != s.MAP_ANON),
        "file_dirty": alive & file & ledger.has(s.PG_DIRTY),
        "file_writeback": alive & file & ledger.has(s.PG_WRITEBACK),
        "swapcached": alive & ledger.has(s.PG_SWAPCACHE),
    }
    found = []
    for name, chosen in counts.items():
        told = k["memcg"]["stat"][:size, s.MEMCG_STATS.index(name)]
        found += _differ(f"M2: {name} of", told, ledger.by_group(chosen))
    for name, chosen in (
        ("nr_file", cache), ("nr_shmem", counts["shmem"]), ("nr_dirty", counts["file_dirty"]),
        ("nr_writeback", ledger.has(s.PG_WRITEBACK)), ("nr_swapcached", counts["swapcached"]),
    ):  # fmt: skip
        found += _differ(name, k[name], ledger.pages[chosen].sum())
    return found


def m6_slots(ledger: Ledger) -> list[str]:
    """Slots in use are those that entries or the slots cache hold, charged to who owns them.

    A v1 group pays for the slots of pages that are out, a v2 group for all that it has.
    """
    k, pt, found = ledger.k, ledger.entries, []
    held = pt["swap"] >= 0
    size = int(k["nr_swaps"])
    parked, parked_by = slots_cache(ledger, size)
    if size:
        in_use = k["swap"]["total"][:size] - k["swap"]["free"][:size]
        found += _differ("M6: slots of", in_use, ledger.entries_by("swap", held, size) + parked)
        for name, told, counted in swap_map(ledger, held):
            found += _differ(name, told, counted)
    paid = held & (pt["frame"] < 0) if k["cgroup_v1"] else held
    charged = ledger.with_children(ledger.entries_by("owner", paid, ledger.groups) + parked_by)
    usage = k["memcg"]["swap"]["usage"][1 : ledger.groups]
    found += _differ("M6: swap charged to", usage, charged[1:])
    stored = held & (pt["in_zswap"] != 0)
    pages = ledger.entries_by("owner", stored, ledger.groups)
    found += _differ("M6: zswapped of", k["memcg"]["stat"][: ledger.groups, s.ST_ZSWAPPED], pages)
    found += _differ("M6: pages in zswap", k["zswap_stored"], pages.sum())
    if not k["cgroup_v1"]:
        weights = pt["nr_pages"][stored].astype(np.int64) * pt["length"][stored]
        sums = np.bincount(pt["owner"][stored], weights, ledger.groups).astype(np.int64)
        told = k["memcg"]["zswap_bytes"][1 : ledger.groups]
        found += _differ("M6: zswap bytes of", told, ledger.with_children(sums)[1:])
    return found


def nodes_of_entries(ledger: Ledger) -> list[str]:
    """Xarray nodes hold what their entries say; groups and nodes have as many as there are."""
    k, kept, nodes = ledger.k, ledger.entries["xa"], ledger.xa_nodes
    of = np.arange(len(kept)) >> int(k["xa_node_shift"])
    count = np.bincount(of, kept != s.XA_NONE, len(nodes)).astype(np.int64)
    values = np.bincount(of, kept == s.XA_SHADOW, len(nodes)).astype(np.int64)
    weight = np.where(count > 0, nodes[:, xa.NODES], 0)
    memcg, listed = nodes[:, xa.MEMCG], nodes[:, xa.LISTED] & xa.CAN_BE > 0
    alone = np.where(listed & (count == values), weight, 0)
    groups = k["memcg"][1 : ledger.groups]["xa_nodes"]
    shadows = k["memcg"][: ledger.groups]["lruvec"]["shadow_nodes"].sum(axis=1)
    return [
        *_differ("XA: entries of node", nodes[:, xa.COUNT], count),
        *_differ("XA: shadows of node", nodes[:, xa.VALUES], values),
        *_differ("XA: nodes", k["node"]["xa_nodes"].sum(), weight.sum()),
        *_differ("XA: nodes of group", groups, np.bincount(memcg, weight, ledger.groups)[1:]),
        *_differ("XA: listed nodes of group", shadows, np.bincount(memcg, alone, ledger.groups)),
    ]


def entries_and_frames(ledger: Ledger) -> list[str]:
    """An entry's frame names the entry; mappings count their entries."""
    k, pt, fr, found = ledger.k, ledger.entries, ledger.frames, []
    with_frame = np.flatnonzero(pt["frame"] >= 0)
    wrong = with_frame[fr["pte"][pt["frame"][with_frame]] != with_frame]
    found += [f"entry {e}: its frame {pt['frame'][e]} is another's" for e in wrong[:3]]
    found += _differ("frames with an entry", int(ledger.attached.sum()), len(with_frame))
    bare = (pt["state"] == s.PTE_PRESENT) & (pt["frame"] < 0)
    found += [f"entry {e} is present without a frame" for e in np.flatnonzero(bare)[:3]]
    for m in range(int(k["nr_mappings"])):
        mapping = k["mapping"][m]
        first = int(mapping["first_pte"])
        part = pt[first : first + int(mapping["nr_ptes"])]
        nr, state = part["nr_pages"], part["state"]
        swapped = (state == s.PTE_SWAP) | (state == s.PTE_ZSWAP)
        missing = (state != s.PTE_NONE) & (state != s.PTE_PRESENT) & (state != s.PTE_COW)
        i = part["frame"][part["frame"] >= 0]
        dirty = int(ledger.pages[i][(fr["flags"][i] & s.PG_DIRTY) != 0].sum())
        # a granule of a file may come in part: its frame says how much
        present = part["frame"][state == s.PTE_PRESENT]
        for name, counted in (
            ("resident_pages", ledger.pages[present].sum()),
            ("swapped_pages", nr[swapped].sum()),
            ("nonresident", missing.sum()),
            ("dirty_pages", dirty),
        ):
            found += _differ(f"mapping {m}: {name}", mapping[name], counted)
    return found


def rss_is_what_is_mapped(ledger: Ledger) -> list[str]:
    """RSS and swapents of a live process are the sums over its vmas."""
    k, found = ledger.k, []
    for p in range(int(k["nr_procs"])):
        proc = k["proc"][p]
        sums = {"rss_anon": 0, "rss_file": 0, "rss_shmem": 0, "swapents": 0}
        if proc["state"] not in (s.PROC_LIVE, s.PROC_EXITING):
            continue
        v = int(proc["first_vma"])
        while v >= 0:
            vma = k["vma"][v]
            m = int(vma["mapping"])
            kind = int(k["mapping"]["kind"][m])
            name = {s.MAP_ANON: "rss_anon", s.MAP_FILE: "rss_file"}.get(kind, "rss_shmem")
            sums[name] += int(vma["mapped_pages"])
            if kind == s.MAP_ANON and _attached(k, m, v):
                sums["swapents"] += _swapped(ledger, v, m)
            found += _vma(ledger, p, v, m)
            v = int(vma["next"])
        for name, total in sums.items():
            found += _differ(f"{name} of process {p}", proc[name], total)
    return found


def _attached(k: Any, m: int, v: int) -> bool:
    at = int(k["mapping"]["first_vma"][m])
    while at >= 0:
        if at == v:
            return True
        at = int(k["vma"]["next_on_mapping"][at])
    return False


def _shared(ledger: Ledger, v: int, m: int, entries: Any) -> npt.NDArray[np.bool_]:
    """Which entries of mapping m vma v maps: after fork, those without one of its own."""
    k = ledger.k
    copies = int(k["vma"]["copy"][v])
    if copies < 0:
        return np.ones(len(entries), np.bool_)
    index = entries - int(k["mapping"]["first_pte"][m])
    first, used = int(k["mapping"]["first_pte"][copies]), int(k["mapping"]["used"][copies])
    own = np.minimum(first + index, len(ledger.entries) - 1)
    return (index < used) & (ledger.entries["state"][own] == s.PTE_NONE)


def _swapped(ledger: Ledger, v: int, m: int) -> int:
    """Swapped pages of mapping m that vma v maps."""
    mapping = ledger.k["mapping"][m]
    entries = int(mapping["first_pte"]) + np.arange(int(mapping["nr_ptes"]))
    state = ledger.entries["state"][entries]
    gone = (state == s.PTE_SWAP) | (state == s.PTE_ZSWAP)
    gone &= _shared(ledger, v, m, entries)
    return int(ledger.entries["nr_pages"][entries[gone]].sum())


def copies_and_children(ledger: Ledger) -> list[str]:
    """Regions of copies count the granules that are shared no more; mappings their children."""
    k, found = ledger.k, []
    for m in range(int(k["nr_mappings"])):
        mapping = k["mapping"][m]
        v = int(mapping["first_vma"])
        live = v >= 0 and k["proc"]["state"][k["vma"]["proc"][v]] == s.PROC_LIVE
        if mapping["cow_parent"] >= 0 and live:
            first = int(mapping["first_pte"])
            part = ledger.entries["state"][first : first + int(mapping["used"])]
            counted = int((part != s.PTE_NONE).sum())
            found += _differ(f"mapping {m}: copied", mapping["copied"], counted)
        forks = 0
        while v >= 0:
            forks += int(k["vma"]["copy"][v] >= 0)
            v = int(k["vma"]["next_on_mapping"][v])
        found += _differ(f"mapping {m}: forks", mapping["forks"], forks)
    return found


def _vma(ledger: Ledger, p: int, v: int, m: int) -> list[str]:
    k = ledger.k
    if k["vma"]["via_read"][v] or not _attached(k, m, v):
        return []
    here = ledger.attached & ledger.has(s.PG_MAPPED) & (ledger.frames["mapping"] == m)
    entries = ledger.frames["pte"][here]
    counted = int(ledger.pages[here][_shared(ledger, v, m, entries)].sum())
    return _differ(f"process {p}, vma {v}: mapped", k["vma"]["mapped_pages"][v], counted)


def pending_is_what_tasks_will_grow(ledger: Ledger) -> list[str]:
    k = ledger.k
    tasks = k["task"][: int(k["nr_tasks"])]
    own = np.zeros(ledger.groups, np.int64)
    np.add.at(own, k["proc"]["memcg"][tasks["proc"]], tasks["pending"])
    told = k["memcg"]["pending"][1 : ledger.groups]
    found = _differ("pending of", told, ledger.with_children(own)[1:])
    dead = tasks["state"] == s.TASK_DEAD
    found += _differ("pending of dead tasks", tasks["pending"][dead].sum(), 0)
    return found + _differ("pending", k["pending"], tasks["pending"].sum())


def pressure_counts_tasks(ledger: Ledger) -> list[str]:
    """PSI's counts are those of the tasks below; the node's hold kswapd's besides."""
    k, found = ledger.k, []
    tasks = k["task"][: int(k["nr_tasks"])]
    groups = k["proc"]["memcg"][tasks["proc"]]
    kswapds = int(k["node"]["kswapd_psi"][: int(k["nr_nodes"])].sum())
    for name, per_task in (
        ("nr_running", tasks["psi_running"]),
        ("nr_memstall", tasks["psi_memstall"]),
        ("nr_memstall_running", tasks["psi_running"] * tasks["psi_memstall"]),
    ):
        counted = ledger.with_children(np.bincount(groups, per_task, ledger.groups))
        told = k["memcg"]["psi"][name][1 : ledger.groups]
        found += _differ(f"PSI {name} of", told, counted[1:])
        found += _differ(f"PSI {name}", k["psi"][name], per_task.sum() + kswapds)
    dead = tasks["state"] == s.TASK_DEAD
    return found + _differ("PSI of the dead", tasks["psi_running"][dead].sum(), 0)


CHECKS = (
    pressure_counts_tasks,
    z2_single_pages,
    l1_lists,
    m2_usage,
    m2_statistics,
    m6_slots,
    nodes_of_entries,
    entries_and_frames,
    rss_is_what_is_mapped,
    copies_and_children,
    pending_is_what_tasks_will_grow,
)


def errors(machine: Any, boot: dict[int, int]) -> list[str]:
    """All that does not add up; ``boot``: free pages of each zone when it was built."""
    ledger = Ledger(machine)
    found = z1_zones(ledger, boot)
    for check in CHECKS:
        found += check(ledger)
    return found


def free_at_boot(machine: Any) -> dict[int, int]:
    """Free pages per zone of a machine that has not run yet."""
    k = machine.kernel[0]
    return {z: int(k["zone"]["free"][z]) for z in range(int(k["nr_zones"]))}
