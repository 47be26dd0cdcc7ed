"""The node of :mod:`benchmarks.nodes` as files, as a user would have it: a day of traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.nodes import CONTAINERS, ROUGHNESS

MINUTES = 1441  # a point a minute, both ends
BASE_MIB = 650.0
NODE = """\
capplan: 1
name: idle-day
node:
  memory: 64Gi
  cpus: 16
  kernel: "6.1"
  swap: [{{device: nvme, size: 32Gi, priority: 1}}]
  zswap: {{enabled: true, max_pool_percent: 40, compressor: lz4, zpool: zsmalloc}}
  disks: {{nvme: nvme}}
  system: {{kernel: 600Mi, daemons: {{memory: 300Mi}}}}
cgroup: {{version: v2, groups: {{kubepods: {{}}}}}}
containers:
{containers}run: {{duration: 24h, start: warm, seed: 1}}
"""
CONTAINER = """\
  c{i}:
    parent: kubepods
    memory.max: 4Gi
    profile:
      capplan: 1
      profile: c{i}
      clock: schedule
      processes:
        main:
          trace:
            file: day.csv
            columns: {{time: minute, value: c{i}}}
            time_unit: s
            measures: rss
            unit: MiB
            at_end: hold
            scale: {{normal: {{mean: 1.0, sd: 0.02}}}}
            access: {{pattern: uniform, rate: 1Mi/s}}
"""


def write_idle_day(folder: Path) -> Path:
    """Write node.yaml and day.csv (one column a container); return the node file's path."""
    minutes = np.arange(MINUTES)
    columns = [minutes * 60.0]
    for number in range(CONTAINERS):
        draws = np.random.default_rng(number)
        wave = 0.1 * np.sin(2 * np.pi * (minutes / 1440 + number / CONTAINERS))
        columns.append(BASE_MIB * (1 + wave) + draws.normal(0, ROUGHNESS / 1.13, MINUTES))
    head = ",".join(["minute", *(f"c{i}" for i in range(CONTAINERS))])
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "day.csv", np.column_stack(columns), "%.3f", ",", header=head, comments="")
    containers = "".join(CONTAINER.format(i=i) for i in range(CONTAINERS))
    path = folder / "node.yaml"
    path.write_text(NODE.format(containers=containers), encoding="utf-8")
    return path
