"""Load that replicas share: when there are more of them, each does less.

A profile says what one replica does while as many run as the node file has. With n times as many,
each phase grows, frees, reads and writes an n-th, at an n-th of the rate; sizes at the start are a
replica's own. What a phase has grown by then is set right by the next one that grows or frees the
region. Accesses that go on all the time keep their rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from capplan.mm.state import NS_PER_S
from capplan.sim.agents.lifecycle import Lifecycle
from capplan.sim.ops import (
    OP_FREE,
    OP_GROW,
    OP_READ,
    OP_READ_LOOP,
    OP_READ_RAND,
    OP_STORE,
    OP_TOUCH,
    OP_WRITE,
)

__all__ = ["Load", "scaled_ops"]

SIZED = (OP_GROW, OP_FREE)
RATED = (OP_GROW, OP_READ, OP_READ_LOOP, OP_READ_RAND, OP_WRITE, OP_TOUCH, OP_STORE)


@dataclass
class _Debt:
    """What an op has to set right besides its own part."""

    at: int  # the op
    pages: float


def scaled_ops(
    given: Any, now: Any, first: int, share: float, debts: dict[int, _Debt], held: dict[int, float]
) -> None:
    """Write a task's ops anew, for a share of the load.

    Parameters
    ----------
    given : (n,) op_t
        As the profile has them.
    now : (n,) op_t
        Written.
    first : int
        The first op that has not begun.
    share : float
    debts : dict
        Written, by vma: what is set right, and where.
    held : dict
        By vma: pages of load that are there but should not be (negative: the reverse).

    Worked example
    --------------
    grow 100, hold, free 100, grow 100, hold, free 100; at the first hold the share falls from 1
    to 0.5. The free becomes one of 50 + 50, the second grow and free 50.
    """
    for i in range(first, len(given)):
        op = given[i]["op"]
        if op in RATED:
            now[i]["rate"] = given[i]["rate"] * share
        if op in SIZED or op in (OP_READ, OP_WRITE):
            now[i]["op"], now[i]["pages"] = op, given[i]["pages"] * share
        vma = int(given[i]["vma"])
        if op not in SIZED or held.get(vma, 0.0) == 0.0:
            continue
        excess = held.pop(vma)
        wanted = float(now[i]["pages"]) * (1 if op == OP_GROW else -1) - excess
        now[i]["op"] = OP_GROW if wanted > 0 else OP_FREE
        now[i]["pages"] = abs(wanted)
        debts[vma] = _Debt(i, excess)


class Load:
    """The share of the load that each group's processes have."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        self.program = lifecycle.view.machine.program
        self.given = self.program.copy()
        self.share: dict[str, float] = {}
        self.debts: dict[int, dict[int, _Debt]] = {}  # by task, by vma

    def set_share(self, path: str, share: float) -> None:
        """From now on the group's processes do this share of what their profile says."""
        before = self.share.get(path, 1.0)
        for t in self._tasks(path):
            self._task(t, before, share)
        self.share[path] = share

    def _tasks(self, path: str) -> list[int]:
        k = self.lifecycle.view.k
        members = set(self.lifecycle.members(self.lifecycle.main(path)))
        return [t for t in range(int(k.nr_tasks)) if int(k.task[t].proc) in members]

    def _task(self, t: int, before: float, share: float) -> None:
        task, debts = self.lifecycle.view.k.task[t], self.debts.setdefault(t, {})
        begin, end, pc = int(task.pc_begin), int(task.pc_end), int(task.pc)
        first = pc + 1 if task.stage else pc  # the first op that has not begun
        paid = [vma for vma, debt in debts.items() if debt.at < first]
        if share == before and not paid:
            return
        held = {vma: debt.pages for vma, debt in debts.items() if debt.at >= first}
        for vma, pages in self._grown(begin, pc, float(task.op_done) / before).items():
            held[vma] = held.get(vma, 0.0) + pages * (before - share)
        if first > pc:
            self._under_way(task, share / before)
        at = slice(begin, end)
        made: dict[int, _Debt] = {}
        scaled_ops(self.given[at], self.program[at], first - begin, share, made, held)
        self.debts[t] = {v: _Debt(d.at + begin, d.pages) for v, d in made.items()}
        self._before(begin, pc, share)

    def _under_way(self, task: Any, factor: float) -> None:
        """What is left of a growth that has begun is scaled; what is done was on time."""
        op, now = self.program[int(task.pc)], self.lifecycle.view.now_ns
        if op["op"] != OP_GROW or op["rate"] <= 0.0 or factor == 1.0:
            return
        done = float(task.op_done)
        op["pages"] = done + (float(op["pages"]) - done) * factor
        op["rate"] = float(op["rate"]) * factor
        task.op_start_ns = now - int(done / float(op["rate"]) * NS_PER_S)

    def _grown(self, begin: int, pc: int, done: float) -> dict[int, float]:
        """What the ops up to now have grown, by vma, at a share of 1 [pages]."""
        found: dict[int, float] = {}
        for i in range(begin, min(pc + 1, len(self.given))):
            op, vma, pages = self.given[i]["op"], int(self.given[i]["vma"]), self.given[i]["pages"]
            if op == OP_GROW:
                found[vma] = found.get(vma, 0.0) + (done if i == pc else float(pages))
            elif op == OP_FREE and i < pc:
                found[vma] = max(found.get(vma, 0.0) - float(pages), 0.0)
        return found

    def _before(self, begin: int, pc: int, share: float) -> None:
        """A next life begins with the ops before this one."""
        for i in range(begin, pc):
            op = self.given[i]["op"]
            if op in SIZED:
                self.program[i]["op"] = op
                self.program[i]["pages"] = self.given[i]["pages"] * share
            if op in RATED:
                self.program[i]["rate"] = self.given[i]["rate"] * share
