"""Charging memory to control groups, v2's limits and v1's (mm/memcontrol.c).

    try_charge: stock -> counter -> (reclaim, drain, 16 retries) -> OOM killer -> again
    memory.high: after a charge, reclaim and then a sleep that grows with the overage

A charge that cannot be decided at once (a victim is in flight, a v1 group is paused) returns
and goes on later from the task's saved state; with nothing reclaimable exactly 18 fruitless
reclaims precede a kill.
"""

from __future__ import annotations

from capplan.mm._jit import jit, rare
from capplan.mm.events import memcg_event, tell_throttle
from capplan.mm.oom_kill import out_of_memory
from capplan.mm.page_counter import (
    charge_memory,
    charge_memsw,
    try_charge_memory,
    try_charge_memsw,
    uncharge_memory,
    uncharge_memsw,
)
from capplan.mm.reclaim import try_to_free_mem_cgroup_pages
from capplan.mm.state import (
    EV_HIGH,
    EV_MAX,
    EV_OOM,
    EV_SWAP_HIGH,
    MAX_RECLAIM_RETRIES,
    MEMCG_CHARGE_BATCH,
    NS_PER_S,
)

__all__ = [
    "CHARGE_AGAIN",
    "CHARGE_NOMEM",
    "CHARGE_OK",
    "CHARGE_OOM_WAIT",
    "CHARGE_SHORT",
    "cancel_charge",
    "charge_batches",
    "charge_forced",
    "charge_kthread",
    "charge_what_fits",
    "drain_all_stock",
    "end_tries",
    "handle_over_high",
    "high_delay_jiffies",
    "mem_cgroup_margin",
    "pages_below_limits",
    "reset_charge",
    "try_charge",
    "try_charge_huge",
]

CHARGE_OK, CHARGE_AGAIN, CHARGE_NOMEM, CHARGE_OOM_WAIT, CHARGE_SHORT = 0, 1, 2, 3, 4

MEMCG_DELAY_PRECISION_SHIFT, MEMCG_DELAY_SCALING_SHIFT = 20, 14
MEMCG_MAX_HIGH_DELAY_S = 2


@jit
def mem_cgroup_margin(k, c):
    """Pages that group c could still charge (mem_cgroup_margin); v1: memsw's room too."""
    memcg = k.memcg[c]
    margin = max(memcg.memory.max - memcg.memory.usage, 0)
    if k.cgroup_v1:
        margin = min(margin, max(memcg.memsw.max - memcg.memsw.usage, 0))
    return margin


@rare
def charge_what_fits(k, c, nr):
    """Charge as many of nr pages as every level has room for: the pages."""
    level = c
    while level > 0:
        nr = min(nr, mem_cgroup_margin(k, level))
        level = k.memcg[level].parent
    if nr > 0:
        charge_forced(k, c, nr)
    return max(nr, 0)


@rare
def drain_all_stock(k, over):
    """Give back what the groups under ``over`` have charged ahead (drain_all_stock)."""
    for c in range(over, k.memcg[over].subtree_end):
        stock = k.memcg[c].stock
        if stock > 0:
            k.memcg[c].stock = 0
            uncharge_memory(k, c, stock)
            if k.cgroup_v1:
                uncharge_memsw(k, c, stock)


@jit
def pages_below_limits(k, c):
    """Pages that v2 group c may be charged before a max or high is passed; none over swap.high."""
    room = 1 << 60
    while c > 0:
        memcg = k.memcg[c]
        if memcg.swap.usage > memcg.swap.high:
            return 0
        room = min(room, min(memcg.memory.max, memcg.memory.high) - memcg.memory.usage)
        c = memcg.parent
    return room


@jit
def charge_batches(k, t, c, nr):
    """Charge nr pages, whole batches, where no limit is near: all of them at once; whether it was.

    Each of the charges of 64 pages (:func:`try_charge`) would have passed the same tests.
    """
    task = k.task[t]
    if c <= 0 or k.cgroup_v1 or task.over_high or task.oom_memcg > 0:
        return False
    if k.memcg[c].stock >= MEMCG_CHARGE_BATCH or pages_below_limits(k, c) < nr:
        return False
    charge_memory(k, c, nr)
    for _ in range(nr // MEMCG_CHARGE_BATCH):
        k.work_ns += k.cost.charge_ns
    reset_charge(k, t)
    return True


@jit
def _try_counters(k, c, nr):
    """Charge nr to the counters: -1 done, else the level over its limit (+1024: memsw)."""
    if k.cgroup_v1:
        over = try_charge_memsw(k, c, nr)
        if over >= 0:
            return over + 1024
    over = try_charge_memory(k, c, nr)
    if over >= 0 and k.cgroup_v1:
        uncharge_memsw(k, c, nr)
    return over


@jit
def _note_over_high(k, t, c, batch):
    """Remember that the task charged above a memory.high or swap.high."""
    level = _over_high_group(k, c)
    memcg = k.memcg[level]
    if memcg.memory.usage > memcg.memory.high or memcg.swap.usage > memcg.swap.high:
        k.task[t].over_high += batch


@jit
def charge_forced(k, c, nr):
    """Charge whatever the limit says (kernel memory that cannot fail, victims)."""
    if c <= 0:
        return
    charge_memory(k, c, nr)
    if k.cgroup_v1:
        charge_memsw(k, c, nr)


@jit
def cancel_charge(k, c, nr):
    """Give nr charged pages back (page_counter_uncharge of memory and, v1, memsw)."""
    if c <= 0:
        return
    uncharge_memory(k, c, nr)
    if k.cgroup_v1:
        uncharge_memsw(k, c, nr)


@jit
def reset_charge(k, t):
    """Task t begins its next charge anew."""
    task = k.task[t]
    task.retries = MAX_RECLAIM_RETRIES
    task.drained = 0
    task.oom_memcg = 0


@rare
def _memcg_oom(k, t, over, nr, user_fault):
    """Reclaim has failed (mem_cgroup_oom): what the charge does next."""
    memcg_event(k, over, EV_OOM)
    if k.cgroup_v1 and k.memcg[over].oom_kill_disable:
        k.task[t].wait_memcg = over
        return CHARGE_OOM_WAIT if user_fault else CHARGE_NOMEM
    # mem_cgroup_out_of_memory(): a victim may have given memory back by now
    if mem_cgroup_margin(k, over) < nr and not out_of_memory(k, over, k.task[t].proc):
        return CHARGE_NOMEM
    k.task[t].retries = MAX_RECLAIM_RETRIES
    return CHARGE_AGAIN


@rare
def _last_tries(k, fr, pt, c, nr):
    """What a charger still tries that was chosen itself: until its retries are spent again.

    Kernel: try_charge_memcg() looks whether the task is dying (``passed_oom``) after the retries,
    not before them: 17 more fruitless reclaims come before it exits.
    """
    retries = MAX_RECLAIM_RETRIES
    while True:
        over = _try_counters(k, c, nr)
        if over < 0:
            cancel_charge(k, c, nr)
            return
        memcg_event(k, over % 1024, EV_MAX)
        may_swap = 1 if over < 1024 else 0
        if not try_to_free_mem_cgroup_pages(k, fr, pt, over % 1024, nr, may_swap):
            if retries == 0:
                return
            retries -= 1


@rare
def end_tries(k, fr, pt, t, c, nr, user_fault):
    """The tries of a charge of nr pages are over: the OOM killer looks."""
    over = k.task[t].oom_memcg
    k.task[t].oom_memcg = 0
    status = _memcg_oom(k, t, over, nr, user_fault)
    if status == CHARGE_AGAIN and k.proc[k.task[t].proc].victim:
        _last_tries(k, fr, pt, c, nr)
    if status != CHARGE_AGAIN:
        reset_charge(k, t)
    return status


@jit
def try_charge(k, fr, pt, t, c, nr, user_fault, may_short):
    """Charge nr (<= 64) pages to group c for task t: one of CHARGE_*.

    may_short : 1 where fewer would do; CHARGE_SHORT, nothing charged, when there is room for
    some of them: single pages would not have called the OOM killer yet.

    Kernel
    ------
    mm/memcontrol.c, try_charge_memcg(). CHARGE_AGAIN: call again after the time spent;
    CHARGE_OOM_WAIT: v1 with oom_kill_disable, the task sleeps until memory is uncharged. The OOM
    killer looks when the last try is over, not at the moment at which the tries began.
    """
    if c <= 0:
        return CHARGE_OK
    memcg = k.memcg[c]
    if memcg.stock >= nr:
        memcg.stock -= nr
        return CHARGE_OK
    task = k.task[t]
    if task.oom_memcg > 0:
        return end_tries(k, fr, pt, t, c, nr, user_fault)
    batch = max(nr, MEMCG_CHARGE_BATCH)
    k.work_ns += k.cost.charge_ns
    while True:
        over = _try_counters(k, c, batch)
        if over < 0:
            memcg.stock += batch - nr
            _note_over_high(k, t, c, batch)
            reset_charge(k, t)
            return CHARGE_OK
        if batch > nr:
            batch = nr
            continue
        may_swap = 1 if over < 1024 else 0
        over = over % 1024
        memcg_event(k, over, EV_MAX)
        reclaimed = try_to_free_mem_cgroup_pages(k, fr, pt, over, nr, may_swap)
        if mem_cgroup_margin(k, over) >= nr:
            continue
        if not task.drained:
            drain_all_stock(k, over)
            task.drained = 1
            continue
        if reclaimed:  # nr pages are as many charges of one page: below the costly order
            continue
        if task.retries > 0:
            task.retries -= 1
            continue
        if may_short and mem_cgroup_margin(k, over) > 0:
            reset_charge(k, t)
            return CHARGE_SHORT
        task.oom_memcg = over
        return CHARGE_AGAIN


@rare
def charge_kthread(k, fr, pt, c, nr):
    """Charge nr pages to group c for a kernel thread, which reclaims for it; whether it could.

    Kernel
    ------
    mm/memcontrol.c, try_charge_memcg(). It would call the OOM killer in the end; here it gives up.
    """
    if c <= 0:
        return True
    memcg = k.memcg[c]
    if memcg.stock >= nr:
        memcg.stock -= nr
        return True
    batch = max(nr, MEMCG_CHARGE_BATCH)
    retries = MAX_RECLAIM_RETRIES
    while retries >= 0:
        k.work_ns += k.cost.charge_ns
        over = _try_counters(k, c, batch)
        if over < 0:
            memcg.stock += batch - nr
            return True
        if batch > nr:
            batch = nr
            continue
        memcg_event(k, over % 1024, EV_MAX)
        may_swap = 1 if over < 1024 else 0
        reclaimed = try_to_free_mem_cgroup_pages(k, fr, pt, over % 1024, nr, may_swap)
        if not reclaimed and mem_cgroup_margin(k, over % 1024) < nr:
            retries -= 1
    return False


@jit
def try_charge_huge(k, t, c, nr):
    """Charge nr pages at once, without reclaim or OOM: whether there was room.

    Kernel: try_charge_memcg() with GFP_TRANSHUGE_LIGHT, which may not block.
    """
    if c <= 0:
        return True
    if k.memcg[c].stock >= nr:
        k.memcg[c].stock -= nr
        return True
    k.work_ns += k.cost.charge_ns
    if _try_counters(k, c, nr) >= 0:
        return False
    _note_over_high(k, t, c, nr)
    return True


@jit
def calculate_overage(usage, high):
    """How far above: (usage - high) / high in 20-bit fixed point (calculate_overage)."""
    if usage <= high:
        return 0
    return ((usage - high) << MEMCG_DELAY_PRECISION_SHIFT) // max(high, 1)


@jit
def high_delay_jiffies(overage, hz, nr):
    """Sleep for charging nr pages at an overage (calculate_high_delay). [jiffies]

    Worked example: high 25600 pages, usage 26880 (105 MiB over 100), nr 64, HZ 1000: 159.
    """
    if overage == 0:
        return 0
    penalty = overage * overage * hz
    penalty >>= MEMCG_DELAY_PRECISION_SHIFT
    penalty >>= MEMCG_DELAY_SCALING_SHIFT
    return penalty * nr // MEMCG_CHARGE_BATCH


@jit
def _reclaim_high(k, fr, pt, c, nr):
    """Reclaim from every level above its memory.high (reclaim_high): pages."""
    reclaimed = 0
    while c > 0:
        if k.memcg[c].memory.usage > k.memcg[c].memory.high:
            memcg_event(k, c, EV_HIGH)
            reclaimed += try_to_free_mem_cgroup_pages(k, fr, pt, c, nr, 1)
        c = k.memcg[c].parent
    return reclaimed


@jit
def _penalty_jiffies(k, c, nr):
    memory = 0
    swap = 0
    while c > 0:
        memcg = k.memcg[c]
        memory = max(memory, calculate_overage(memcg.memory.usage, memcg.memory.high))
        over = calculate_overage(memcg.swap.usage, memcg.swap.high)
        if over:
            memcg_event(k, c, EV_SWAP_HIGH)
        swap = max(swap, over)
        c = memcg.parent
    penalty = high_delay_jiffies(memory, k.hz, nr) + high_delay_jiffies(swap, k.hz, nr)
    return min(penalty, MEMCG_MAX_HIGH_DELAY_S * k.hz)


@jit
def _over_high_group(k, c):
    """The group whose memory.high or swap.high is exceeded, the nearest to c; else c."""
    level = c
    while level > 0:
        memcg = k.memcg[level]
        if memcg.memory.usage > memcg.memory.high or memcg.swap.usage > memcg.swap.high:
            return level
        level = memcg.parent
    return c


@jit
def handle_over_high(k, fr, pt, t, c):
    """Reclaim and throttle a task that charged above memory.high; the sleep [ns].

    Kernel
    ------
    mm/memcontrol.c, mem_cgroup_handle_over_high(). Up to 10 ms is forgiven; the sleep is a
    memory stall of the task.
    """
    task = k.task[t]
    nr = task.over_high
    if nr == 0:
        return 0
    task.over_high = 0
    retries = MAX_RECLAIM_RETRIES
    again = False
    while True:
        reclaimed = _reclaim_high(k, fr, pt, c, 32 if again else nr)
        penalty = _penalty_jiffies(k, c, nr)
        if penalty <= k.hz // 100:
            return 0
        if reclaimed or retries > 0:
            if not reclaimed:
                retries -= 1
            again = True
            continue
        break
    sleep = penalty * (NS_PER_S // k.hz)
    tell_throttle(k, t, _over_high_group(k, c), sleep)
    k.wait_ns += sleep
    k.memstall_ns += sleep
    task.throttle_ns += sleep
    k.memcg[c].throttle_ns += sleep
    return sleep
