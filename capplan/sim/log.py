"""The engine's records of what happened become :class:`capplan.sim.result.Event`."""

from __future__ import annotations

import errno
from collections import namedtuple
from collections.abc import Callable
from typing import Any

from capplan.mm import state as s
from capplan.sim.build import Machine
from capplan.sim.result import Event

__all__ = ["end_open", "read_events"]

KIB_PER_PAGE = s.PAGE_SIZE // 1024

_KINDS = {
    s.KIND_START: "start", s.KIND_EXIT: "exit", s.KIND_OOM_KILL: "oom_kill",
    s.KIND_PAUSED: "paused", s.KIND_RESUMED: "resumed", s.KIND_OOM_NO_VICTIM: "oom_no_victim",
    s.KIND_PANIC: "panic", s.KIND_ENOMEM: "enomem", s.KIND_KSWAPD_WAKE: "kswapd_wake",
    s.KIND_KSWAPD_SLEEP: "kswapd_sleep", s.KIND_DIRECT_RECLAIM: "direct_reclaim",
    s.KIND_SWAP_FULL: "swap_full", s.KIND_ZSWAP_FULL: "zswap_full", s.KIND_RESTART: "restart",
    s.KIND_THROTTLE_BEGIN: "throttle_begin", s.KIND_THROTTLE_END: "throttle_end",
    s.KIND_WRITE_FAILED: "write_failed",
}  # fmt: skip
_WRITES = {
    s.WRITE_V1_LIMIT: "memory.limit_in_bytes", s.WRITE_V1_MEMSW: "memory.memsw.limit_in_bytes",
    s.WRITE_RECLAIM: "memory.reclaim", s.WRITE_HUGEPAGES: "vm.nr_hugepages",
}  # fmt: skip


_Told = namedtuple("_Told", s.event_t.names or ())  # type: ignore[misc]  # an event_t


class _Names:
    """What the numbers in a record mean."""

    def __init__(self, machine: Machine) -> None:
        self.k = machine.kernel[0]
        self.procs = machine.proc_names
        self.memcg_of = self.k.proc["memcg"][: len(self.procs)].tolist()
        self.several_nodes = bool(self.k.nr_nodes > 1)
        self.paths = {c: path for path, c in machine.cgroup_index.items()}

    def proc(self, p: int) -> str:
        return self.procs[p] if p >= 0 else ""

    def group(self, c: int) -> str:
        while c > 0 and c not in self.paths:
            c = int(self.k.memcg[c].parent)  # what is left of removed groups
        return self.paths[c] if c > 0 else ""


def read_events(machine: Machine, events: list[Event]) -> None:
    """Move what the engine has recorded into ``events``."""
    k = machine.kernel[0]
    if k.nr_events == 0:
        return
    names = _Names(machine)
    record: Any
    # as tuples of plain numbers: a record in Python takes a microsecond for each field
    for record in map(_Told._make, k.event[: int(k.nr_events)].tolist()):
        # the system's daemons are process 0; their begin is no news
        if record.proc != 0 or record.kind not in (s.KIND_START, s.KIND_EXIT):
            events.append(_event(names, record))
    k.nr_events = 0
    k.nr_oom_dumps = 0


def end_open(machine: Machine, events: list[Event]) -> None:
    """Add the ends of throttling and of kswapd's work that nothing came after."""
    k = machine.kernel[0]
    tasks = k.task[: int(k.nr_tasks)]
    for task in tasks[tasks["throttle_told"] != 0]:
        if task.throttle_end_ns <= k.now_ns:
            names = _Names(machine)
            p = int(task.proc)
            group = names.group(int(k.proc[p].memcg))
            end_s = int(task.throttle_end_ns) / s.NS_PER_S
            events.append(Event(end_s, "throttle_end", names.proc(p), group))
    for n in range(int(k.nr_nodes)):
        node = k.node[n]
        if node.kswapd_told and node.kswapd_awake == 0:
            events.append(Event(int(node.kswapd_slept_ns) / s.NS_PER_S, "kswapd_sleep", ""))


def _event(names: _Names, record: Any) -> Event:
    kind = _KINDS[record.kind]
    p, c = record.proc, record.memcg
    name, cgroup = "", names.group(c)
    if p >= 0:
        name, cgroup = names.proc(p), names.group(names.memcg_of[p])
    detail = _DETAILS[kind](names, record) if kind in _DETAILS else {}
    if kind == "write_failed":
        name = cgroup
    scope = str(detail.get("scope", ""))
    return Event(record.t_ns / s.NS_PER_S, kind, name, cgroup, scope, detail)


def _oom_kill(names: _Names, record: Any) -> dict[str, Any]:
    proc = names.k.proc[record.proc]
    victim = {
        "anon_rss_kb": record.a * KIB_PER_PAGE,
        "file_rss_kb": record.b * KIB_PER_PAGE,
        "shmem_rss_kb": record.c * KIB_PER_PAGE,
        "swap_kb": record.d * KIB_PER_PAGE,
        "pgtables_kb": record.pgtables * KIB_PER_PAGE,
        "oom_score_adj": int(proc.oom_score_adj),
        "points": record.e,
    }
    return {
        **_domain(names, record),
        **victim,
        "totalpages": record.f,
        "constraint": _constraint(record),
        **({"nodes": _bits(record.nodes)} if record.nodes else {}),
        "trigger": names.proc(record.trigger),
        **_kubelet_saw(record),
        "candidates": _candidates(names, record.dump),
    }


def _kubelet_saw(record: Any) -> dict[str, Any]:
    """The kubelet's last look before a kill of the kernel's, where there is a kubelet."""
    if record.memcg > 0 or record.looked_ns <= 0:
        return {}
    return {
        "kubelet_looked_s": record.looked_ns / s.NS_PER_S,
        "kubelet_saw_bytes": record.looked * s.PAGE_SIZE,
    }


def _bits(mask: int) -> list[int]:
    """Numbers of the bits that are set."""
    return [n for n in range(mask.bit_length()) if mask >> n & 1]


def _constraint(record: Any) -> str:
    """What the allocation that failed was bound to, as the kernel's log names it."""
    if record.memcg > 0:
        return "CONSTRAINT_MEMCG"
    if record.oom_mpol:
        return "CONSTRAINT_MEMORY_POLICY"
    return "CONSTRAINT_CPUSET" if record.nodes else "CONSTRAINT_NONE"


def _candidates(names: _Names, number: int) -> list[dict[str, Any]]:
    """The likeliest victims at the moment of the choice, the chosen one first."""
    if number < 0:
        return []
    dump = names.k.oom_dump[number]
    return [
        {
            "name": names.proc(int(one["proc"])),
            "points": int(one["points"]),
            "oom_score_adj": int(names.k.proc[int(one["proc"])].oom_score_adj),
            "anon_rss_kb": int(one["rss_anon"]) * KIB_PER_PAGE,
            "file_rss_kb": int(one["rss_file"]) * KIB_PER_PAGE,
            "shmem_rss_kb": int(one["rss_shmem"]) * KIB_PER_PAGE,
            "swap_kb": int(one["swapents"]) * KIB_PER_PAGE,
            "pgtables_kb": int(one["pgtables"]) * KIB_PER_PAGE,
        }
        for one in dump["candidate"][: int(dump["nr"])]
    ]


def _domain(names: _Names, record: Any) -> dict[str, Any]:
    """Whether a group or the node was out of memory, and which group."""
    memcg = record.memcg > 0
    return {
        "scope": "memcg" if memcg else "global",
        "oom_cgroup": names.group(record.memcg),
    }


def _exit(names: _Names, record: Any) -> dict[str, Any]:
    code = record.a
    return {"how": "signal" if code < 0 else "code", "value": abs(code)}


def _resumed(names: _Names, record: Any) -> dict[str, Any]:
    return {**_domain(names, record), "paused_s": record.a / s.NS_PER_S}


def _write_failed(names: _Names, record: Any) -> dict[str, Any]:
    if record.b == s.WRITE_HUGEPAGES:
        return {
            "errno": errno.errorcode[record.a],
            "key": _WRITES[record.b],
            "wanted": record.c,
            "got": record.d,
        }
    return {
        "errno": errno.errorcode[record.a],
        "key": _WRITES[record.b],
        "pages": record.c,
        "reclaimed": record.d,
    }


def _marks(names: _Names, record: Any) -> dict[str, Any]:
    found = {
        "free": record.a, "min": record.b, "low": record.c, "high": record.d
    }  # fmt: skip
    return found | ({"node": record.e} if names.several_nodes else {})


def _throttled(names: _Names, record: Any) -> dict[str, Any]:
    return {
        "high_cgroup": names.group(record.memcg),
        "usage": record.a,
        "high": record.b,
    }


_DETAILS: dict[str, Callable[[_Names, Any], dict[str, Any]]] = {
    "oom_kill": _oom_kill,
    "oom_no_victim": lambda names, record: {
        **_domain(names, record),
        "repeats": record.a,
    },
    "paused": _domain,
    "resumed": _resumed,
    "exit": _exit,
    "restart": lambda names, record: {"restarts": record.a},
    "write_failed": _write_failed,
    "direct_reclaim": _marks,
    "kswapd_wake": _marks,
    "throttle_begin": _throttled,
    "zswap_full": lambda names, record: {"pool_pages": record.a},
}
