"""Limits of dirty page cache and the pause of writers (mm/page-writeback.c).

    dirtyable = free - reserve + file LRU;  thresh, bg = 20 %, 10 % of it (node, and v2 memcg)
    dirty <= (thresh + bg) / 2:  the writer runs free, looks again after nr_dirtied_pause pages
    above:                       it runs at dirty_ratelimit * pos_ratio, sleeping off the rest
    every 200 ms:                write bandwidth and dirty_ratelimit of the device are estimated

Departs from the kernel: one estimate per device instead of one per (memcg, device); the hard
limit is the present threshold, not a value that trails it (domain_update_dirty_limit).
"""

from __future__ import annotations

import math

from capplan.mm._jit import jit
from capplan.mm.page_alloc import global_dirtyable
from capplan.mm.state import (
    INIT_BW,
    NEVER_NS,
    NS_PER_MS,
    NS_PER_S,
    ST_FILE,
    ST_FILE_DIRTY,
    ST_FILE_WRITEBACK,
    ST_SHMEM,
)
from capplan.mm.swap import local_ns

__all__ = [
    "INIT_BW",
    "balance_dirty_pages_ratelimited",
    "bandwidth_estimate_start",
    "dirty_limits",
    "memcg_domain",
    "over_background",
    "pos_ratio_polynom",
    "update_bandwidth",
    "wakeup_flusher",
    "wb_calc_thresh",
    "wb_position_ratio",
]

MAX_PAUSE_NS = NS_PER_S // 5  # MAX_PAUSE, HZ / 5
BANDWIDTH_INTERVAL_NS = NS_PER_S // 5  # BANDWIDTH_INTERVAL, HZ / 5
COMPLETIONS_PERIOD_NS = 3 * NS_PER_S  # VM_COMPLETIONS_PERIOD_LEN
DIRTY_POLL_THRESH = 32  # pages: 128 KiB
TARGET_PAUSE_NS = 10 * NS_PER_MS  # wb_min_pause(): HZ / 100


@jit
def dirty_limits(k, available):
    """(thresh, background) of a domain with ``available`` dirtyable pages (domain_dirty_limits).

    Worked example: 1,000,000 pages at 20 % and 10 %: 199951 and 99853.
    """
    if k.dirty_bytes:
        thresh = (k.dirty_bytes + 4095) // 4096
    else:
        thresh = (k.dirty_ratio * 4096 // 100) * available // 4096
    if k.dirty_background_bytes:
        background = (k.dirty_background_bytes + 4095) // 4096
    else:
        background = (k.dirty_background_ratio * 4096 // 100) * available // 4096
    if background >= thresh:
        background = thresh // 2
    return thresh, background


@jit
def memcg_domain(k, c):
    """(available, dirty and under writeback) of a v2 group's own domain (mem_cgroup_wb_stats).

    Worked example: 50,000 pages of file cache, 10,000 of them dirty, room for 20,000, plenty
    of clean cache elsewhere: 70,000 available, so limits of 13996 and 6989.
    """
    memcg = k.memcg[c]
    file = memcg.stat[ST_FILE] - memcg.stat[ST_SHMEM]
    dirty = memcg.stat[ST_FILE_DIRTY] + memcg.stat[ST_FILE_WRITEBACK]
    headroom = NEVER_NS
    level = c
    while level > 0:
        counter = k.memcg[level].memory
        ceiling = min(counter.max, counter.high)
        headroom = min(headroom, ceiling - min(ceiling, counter.usage))
        level = k.memcg[level].parent
    clean = file - min(file, memcg.stat[ST_FILE_DIRTY])
    available = global_dirtyable(k)
    all_clean = available - min(available, k.nr_dirty)
    other = all_clean - min(all_clean, clean)
    return file + min(headroom, other), dirty


@jit
def wakeup_flusher(k):
    """Have the flusher run now, if it is not at work (wb_start_background_writeback)."""
    if k.flusher_work != 0:
        return
    k.flusher_on = 1
    if k.flusher_due_ns > k.now_ns:
        k.flusher_due_ns = k.now_ns


@jit
def _age_completions(k):
    """Halve what devices have completed for each period that is over (fprop_new_period)."""
    periods = (k.now_ns - k.completions_ns) // COMPLETIONS_PERIOD_NS
    if periods <= 0:
        return
    k.completions_ns += periods * COMPLETIONS_PERIOD_NS
    keep = 0.5 ** min(periods, 60)
    k.completions *= keep
    for d in range(k.nr_disks):
        k.disk[d].completions *= keep
    if k.completions < 1.0:
        k.completions = 0.0


@jit
def wb_calc_thresh(k, d, thresh):
    """The share of ``thresh`` that device d has by its part of recent completions [pages]."""
    _age_completions(k)
    if k.completions <= 0.0:
        return 0
    return int(thresh * min(k.disk[d].completions / k.completions, 1.0))


@jit
def over_background(k, d):
    """Whether the node, device d or any v2 group is over its background limit.

    Kernel: wb_over_bg_thresh(). A device that has completed nothing lately has no share of
    the limit, so the first wake of its flusher begins to write whatever there is.
    """
    _, background = dirty_limits(k, global_dirtyable(k))
    if k.nr_dirty > background:
        return True
    if k.disk[d].nr_dirty > wb_calc_thresh(k, d, background):
        return True
    if k.cgroup_v1:
        return False
    for c in range(1, k.nr_memcgs):
        if k.memcg[c].stat[ST_FILE_DIRTY] > 0:
            available, _ = memcg_domain(k, c)
            _, background = dirty_limits(k, available)
            if k.memcg[c].stat[ST_FILE_DIRTY] > background:
                return True
    return False


@jit
def pos_ratio_polynom(setpoint, dirty, limit):
    """1 + ((setpoint - dirty) / (limit - setpoint))^3, within 0 and 2.

    Worked example: setpoint 1500, limit 2000: dirty 1500 gives 1, 1000 gives 2, 1750 gives
    1 - 1/8 (but for the 1 that keeps the division defined).
    """
    x = (setpoint - dirty) / (limit - setpoint + 1.0)
    return min(max(1.0 + x * x * x, 0.0), 2.0)


@jit
def wb_position_ratio(k, d, dirty, wb_dirty, thresh, background):
    """By how much writers may exceed the device's balanced rate, or must stay below it.

    Two control lines, multiplied: the cubic one of the domain, and a straight one of the
    device around its share of the setpoint, 8 seconds of its bandwidth wide.

    Parameters
    ----------
    dirty, thresh, background : pages of the domain (node or memcg)
    wb_dirty : pages of it that are dirty or under writeback on device d
    """
    if dirty >= thresh:
        return 0.0
    freerun = (thresh + background) // 2
    setpoint = (freerun + thresh) // 2
    ratio = pos_ratio_polynom(1.0 * setpoint, 1.0 * dirty, 1.0 * thresh)
    share = max(min(wb_calc_thresh(k, d, thresh), thresh), (thresh - dirty) // 8)
    x = share / (thresh + 1.0)
    wb_setpoint = setpoint * x
    span = (thresh - share + 8.0 * k.disk[d].avg_write_bandwidth) * x
    intercept = wb_setpoint + span
    if wb_dirty < intercept - span / 4.0:
        ratio *= (intercept - wb_dirty) / (span + 1.0)
    else:
        ratio /= 4.0
    half = share / 2.0
    if wb_dirty < half:
        ratio *= half / wb_dirty if wb_dirty > half / 8.0 else 8.0
    return ratio


@jit
def _bandwidth_window_ns(k):
    """roundup_pow_of_two(3 * HZ) jiffies."""
    jiffies = 1
    while jiffies < 3 * k.hz:
        jiffies *= 2
    return jiffies * (NS_PER_S // k.hz)


@jit
def _update_write_bandwidth(k, disk, elapsed_ns):
    """Weigh in what the device wrote lately (wb_update_write_bandwidth) [pages/s]."""
    window = _bandwidth_window_ns(k)
    rate = (disk.written - disk.written_stamp) * NS_PER_S / elapsed_ns
    average = disk.avg_write_bandwidth
    old = disk.write_bandwidth
    if elapsed_ns > window:
        average = rate
    else:
        rate = (rate * elapsed_ns + old * (window - elapsed_ns)) / window
        if average > old and old >= rate:
            average -= (average - old) / 8.0
        if average < old and old <= rate:
            average += (old - average) / 8.0
    disk.write_bandwidth = rate
    disk.avg_write_bandwidth = max(average, 1.0)


@jit
def _update_dirty_ratelimit(disk, ratio, dirty, setpoint, elapsed_ns):
    """Move the base rate of writers towards the balanced one (wb_update_dirty_ratelimit)."""
    base = disk.dirty_ratelimit
    dirty_rate = (disk.dirtied - disk.dirtied_stamp) * NS_PER_S / elapsed_ns
    task = base * ratio + 1.0
    balanced = min(task * disk.avg_write_bandwidth / (dirty_rate + 1.0), disk.avg_write_bandwidth)
    step = 0.0
    if dirty < setpoint:
        x = min(disk.balanced_dirty_ratelimit, balanced, task)
        if base < x:
            step = x - base
    else:
        x = max(disk.balanced_dirty_ratelimit, balanced, task)
        if base > x:
            step = base - x
    # small steps are noise: halved once per multiple of themselves that the base holds
    shift = int(base / (2.0 * step + 1.0))
    step = math.ceil(step / 2.0**shift / 8.0) if shift < 64 else 0.0
    base += step if base < balanced else -step
    disk.dirty_ratelimit = max(base, 1.0)
    disk.balanced_dirty_ratelimit = balanced


@jit
def update_bandwidth(k, d, ratio, dirty, setpoint):
    """Renew device d's estimates if 200 ms have passed; ratio < 0: without the rate limit."""
    disk = k.disk[d]
    elapsed = local_ns(k) - disk.bw_stamp_ns
    if elapsed < BANDWIDTH_INTERVAL_NS:
        return
    if ratio >= 0.0:
        _update_dirty_ratelimit(disk, ratio, dirty, setpoint, elapsed)
    _update_write_bandwidth(k, disk, elapsed)
    disk.dirtied_stamp = disk.dirtied
    disk.written_stamp = disk.written
    disk.bw_stamp_ns += elapsed


@jit
def bandwidth_estimate_start(k, d):
    """A device that was idle for a second is not judged by it (wb_bandwidth_estimate_start)."""
    disk = k.disk[d]
    now = local_ns(k)
    if disk.wb_pages == 0 and now - disk.bw_stamp_ns > NS_PER_S:
        disk.dirtied_stamp = disk.dirtied
        disk.written_stamp = disk.written
        disk.bw_stamp_ns = now


@jit
def _max_pause(k, disk, wb_dirty):
    """Short pauses where little is dirty, so that the device stays busy (wb_max_pause) [ns]."""
    jiffies = 1
    while jiffies < 1 + k.hz // 8:
        jiffies *= 2
    jiffy = NS_PER_S // k.hz
    pause = wb_dirty / (1.0 + disk.avg_write_bandwidth / jiffies) * jiffy + jiffy
    return min(int(pause), MAX_PAUSE_NS)


@jit
def _min_pause(disk, task, max_pause, limit):
    """Half the pause that is aimed at; sets when the task looks next (wb_min_pause) [ns]."""
    apart = math.log2(max(disk.avg_write_bandwidth, 1.0)) - math.log2(disk.dirty_ratelimit)
    aim = min(TARGET_PAUSE_NS * (1.0 + max(apart, 0.0)), max_pause / 2.0)
    pages = disk.dirty_ratelimit * aim / NS_PER_S
    if pages < DIRTY_POLL_THRESH:
        aim = max_pause
        pages = min(disk.dirty_ratelimit * aim / NS_PER_S, 1.0 * DIRTY_POLL_THRESH)
    if pages > limit * max_pause / NS_PER_S:
        aim = max_pause
        pages = limit * aim / NS_PER_S
    task.nr_dirtied_pause = max(int(pages), 1)
    return aim / 2.0 if pages >= DIRTY_POLL_THRESH else aim


@jit
def _poll_interval(dirty, thresh):
    """Pages that a free running writer may dirty before it looks again (dirty_poll_interval)."""
    pages = 1
    left = thresh - dirty
    while left >= 4:
        left //= 4
        pages *= 2
    return pages


@jit
def _run_free(k, task, interval):
    task.dirty_paused_ns = local_ns(k)
    task.nr_dirtied = 0
    task.nr_dirtied_pause = interval
    task.dirty_blocked = 0
    return 0.0


@jit
def _throttle(k, task, d, ratio, wb_dirty):
    """Pause of a task that dirtied task.nr_dirtied pages [ns]."""
    disk = k.disk[d]
    limit = math.floor(disk.dirty_ratelimit * ratio)
    max_pause = _max_pause(k, disk, wb_dirty)
    min_pause = _min_pause(disk, task, max_pause, limit)
    now = local_ns(k)
    if limit <= 0.0:
        task.dirty_blocked = 1
        task.dirty_paused_ns = now + max_pause
        return 1.0 * max_pause
    task.dirty_blocked = 0
    period = task.nr_dirtied * NS_PER_S / limit
    pause = period - (now - task.dirty_paused_ns)
    task.nr_dirtied = 0
    if pause < min_pause:
        # what it took to write counts; after a second of it the account is closed
        if pause < -NS_PER_S:
            task.dirty_paused_ns = now
        else:
            task.dirty_paused_ns += int(period)
        return 0.0
    pause = min(pause, 1.0 * max_pause)
    task.dirty_paused_ns = now + int(pause)
    return pause


@jit
def _balance(k, task, c, d):
    """The pause of a writer of group c to device d [ns] (balance_dirty_pages)."""
    thresh, background = dirty_limits(k, global_dirtyable(k))
    dirty = k.nr_dirty + k.nr_writeback
    freerun = (thresh + background) // 2
    own = c > 0 and not k.cgroup_v1
    m_dirty, m_thresh, m_background = 0, 0, 0
    if own:
        available, m_dirty = memcg_domain(k, c)
        m_thresh, m_background = dirty_limits(k, available)
    if k.nr_dirty > background:
        wakeup_flusher(k)
    if dirty <= freerun and (not own or m_dirty <= (m_thresh + m_background) // 2):
        interval = _poll_interval(dirty, thresh)
        if own:
            interval = min(interval, _poll_interval(m_dirty, m_thresh))
        return _run_free(k, task, interval)
    wakeup_flusher(k)
    wb_dirty = k.disk[d].nr_dirty + k.disk[d].wb_pages
    ratio = wb_position_ratio(k, d, dirty, wb_dirty, thresh, background)
    setpoint = (freerun + thresh) // 2
    if own:
        m_ratio = wb_position_ratio(k, d, m_dirty, m_dirty, m_thresh, m_background)
        if m_ratio < ratio:
            ratio = m_ratio
            wb_dirty = m_dirty
            dirty = m_dirty
            setpoint = ((m_thresh + m_background) // 2 + m_thresh) // 2
    update_bandwidth(k, d, ratio, dirty, setpoint)
    return _throttle(k, task, d, ratio, wb_dirty)


@jit
def balance_dirty_pages_ratelimited(k, t, c, d, nr):
    """Task t of group c dirtied nr pages of a file on device d: the pause that follows [ns].

    nr 0: the task was blocked (dirty at the limit) and asks again; see task.dirty_blocked.
    """
    task = k.task[t]
    task.nr_dirtied += nr
    if not task.dirty_blocked and task.nr_dirtied < task.nr_dirtied_pause:
        return 0.0
    return _balance(k, task, c, d)
