"""The nodes of :mod:`benchmarks.nodes` as files, as a user would have them: a day of traces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.nodes import CONTAINERS, READ_RATE, REVISIT_S, ROUGHNESS

MINUTES = 1441  # a point a minute, both ends
BASE_MIB = 650.0
NODE = """\
capplan: 1
name: {name}
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
{containers}run: {{duration: 24h, start: warm, seed: 1{run}}}
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
            access: {{pattern: uniform, rate: 440Ki/s}}
"""


# Half of the containers come back to all of a table, half go round a file: together more than
# there is (see nodes.pressure).
TABLE = f"""\
        table:
          regions:
            rows:
              kind: anon
              size: 1020Mi
              access: {{pattern: uniform, rate: {1020 / REVISIT_S * 1024:.1f}Ki/s}}
"""
READER = f"""\
        reader:
          regions:
            file: {{kind: file, via: read, size: 640Mi, resident: 0}}
          phases:
            - read: {{region: file, pattern: cyclic, rate: {READ_RATE * 4:.1f}Ki/s, for: 24h}}
"""


def write_idle_day(folder: Path) -> Path:
    """Write node.yaml and day.csv (one column a container); return the node file's path."""
    return _write(folder, "idle-day", lambda i: CONTAINER.format(i=i), "")


def write_pressure_day(folder: Path, granule: int) -> Path:
    """The same under pressure, in granules of ``2**granule`` pages."""

    def container(i: int) -> str:
        return CONTAINER.format(i=i) + (TABLE if i < CONTAINERS // 2 else READER)

    return _write(folder, "pressure-day", container, f", granule: {granule}")


def _write(folder: Path, name: str, container: Callable[[int], str], run: str) -> Path:
    minutes = np.arange(MINUTES)
    columns = [minutes * 60.0]
    for number in range(CONTAINERS):
        draws = np.random.default_rng(number)
        wave = 0.1 * np.sin(2 * np.pi * (minutes / 1440 + number / CONTAINERS))
        columns.append(BASE_MIB * (1 + wave) + draws.normal(0, ROUGHNESS / 1.13, MINUTES))
    head = ",".join(["minute", *(f"c{i}" for i in range(CONTAINERS))])
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "day.csv", np.column_stack(columns), "%.3f", ",", header=head, comments="")
    containers = "".join(map(container, range(CONTAINERS)))
    path = folder / "node.yaml"
    path.write_text(NODE.format(name=name, containers=containers, run=run), encoding="utf-8")
    return path
