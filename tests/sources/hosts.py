"""Copied trees of real hosts: ``proc`` and ``sys``, trimmed, unpacked for a test.

``host-v1``: 12 GiB, kernel 6.18, memory controller v1 beside a v2 tree without it (hybrid).
``host-v2``: 1 GiB, Debian's 6.12, v2, multi-gen LRU, made for the purpose.
"""

from __future__ import annotations

import pathlib
import tarfile

DATA = pathlib.Path(__file__).parent / "data"


def unpack(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Unpack ``host-<name>`` below ``folder``; return its root."""
    root = folder / name
    with tarfile.open(DATA / f"host-{name}.tar.xz") as archive:
        # Python 3.11 has filters from 3.11.4 on; Debian 12's is 3.11.2
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(root)
    return root


def only_v1(root: pathlib.Path) -> pathlib.Path:
    """Take the v2 mount off a hybrid host."""
    mounts = root / "proc" / "mounts"
    lines = mounts.read_text().splitlines(keepends=True)
    mounts.write_text("".join(line for line in lines if "cgroup2" not in line))
    return root
