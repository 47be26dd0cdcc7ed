"""Results for the tests of pages, made by hand: no engine is needed."""

from __future__ import annotations

import pathlib
import re
from collections import Counter

import html5lib
import numpy as np

from capplan.plan.outcome import analyse
from capplan.report import deliver, results
from capplan.report.page import Material
from tests.plan.synthetic import Maker, memcg_kill, pages

SCRIPT = "<script>alert(1)</script>"


def written(maker: Maker, folder: pathlib.Path) -> Material:
    """A result directory of what ``maker`` made, read back."""
    run = maker.run()
    results.write(analyse(run), run, folder, command="capplan simulate x.yaml", picture=False)
    return deliver.material(folder)


def rich() -> Maker:
    """A kill at a limit, with swap, zswap, pressure and free lists recorded."""
    made = memcg_kill()
    t = made.t
    made.put("psi.memory.some.total_us", np.maximum(t - 60, 0) * 2e5)
    made.put("psi.memory.full.total_us", np.maximum(t - 60, 0) * 1e5)
    made.put("vmstat.pgscan_kswapd", np.maximum(t - 40, 0) * 300)
    made.put("vmstat.pgmajfault", np.maximum(t - 50, 0) * 7)
    made.put("meminfo_kb.SwapFree", 100 * 1024 - np.clip(t - 50, 0, 20) * 1024)
    made.put("vmstat.pswpout", np.clip(t - 50, 0, 20) * 256)
    made.put("vmstat.pswpin", np.clip(t - 60, 0, 20) * 64)
    for order in range(11):
        made.put(f"zone.Normal.order{order}", np.linspace(40, order, t.size))
    return made


def hostile() -> Maker:
    """A container whose name is a script, one that is a template, one that hides."""
    made = Maker()
    limits = {"memory_max": pages(100)}
    made.container(SCRIPT, [(0, 10), (50, 99)], limits=limits, state="killed")
    made.event(50.0, "oom_kill", SCRIPT, "memcg", oom_cgroup=SCRIPT, points=1, anon_rss_kb=1)
    made.container("{{ 7 * 7 }}", [(0, 200)])
    return made.container("a\u202eb\x1b[31m", [(0, 150)])


def many(count: int = 200) -> Maker:
    """As many containers, the last ones largest."""
    made = Maker()
    for n in range(count):
        limits = {"memory_max": pages(8)}
        made.container(f"web-{n:03}", [(0, 1), (100, 1 + 3 * n / count)], limits=limits)
    return made


def faults(text: str) -> list[str]:
    """What the HTML standard's parser complains of, and names that two elements share."""
    parser = html5lib.HTMLParser()
    parser.parse(text)
    found = [f"{place}: {code}" for place, code, _ in parser.errors]
    ids = Counter(re.findall(r'\sid="([^"]+)"', text))
    return found + [f"id {name} {count} times" for name, count in ids.items() if count > 1]
