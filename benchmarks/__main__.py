"""All benchmarks, one after the other."""

from __future__ import annotations

from benchmarks import footprint, node_day, page_ops

page_ops.main()
node_day.main()
footprint.main()
