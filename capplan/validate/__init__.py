"""Held against real kernels: recordings become scenarios, runs are scored against the truth.

A recording is a folder with ``scenario.json`` (what was configured and what each process
did) and ``truth.json.gz``, ``truth-2.json.gz`` (what the kernel did, in two runs).
"""

from __future__ import annotations
