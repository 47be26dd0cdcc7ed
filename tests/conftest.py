"""Set-up shared by all tests.

The environment is set here, before anything imports :mod:`capplan.mm`: the decorators of
``capplan/mm/_jit.py`` read it once.
"""

from __future__ import annotations

import os
import pathlib

import hypothesis
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
EVIDENCE = ("evidence", "beside the checkout")  # in the reason of a skip
EVIDENCE_TEST = ("evidence", True)  # of user_properties
OUTCOMES = ("passed", "failed", "skipped", "xfailed", "xpassed")

os.environ.setdefault("CAPPLAN_CACHE_DIR", str(ROOT / "build" / "engine-cache"))
os.environ.setdefault("MPLBACKEND", "Agg")

hypothesis.settings.register_profile(
    "capplan",
    deadline=None,  # the first example of a test may compile
    max_examples=60,
    derandomize="CI" in os.environ,  # the same commit gives the same answer
)
hypothesis.settings.load_profile("capplan")


def _shared_dir() -> pathlib.Path | None:
    """Return the folder of recordings and traces, if this machine has one."""
    named = os.environ.get("CAPPLAN_SHARED")
    folder = pathlib.Path(named) if named else ROOT.parent / "shared"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Recordings of real kernels and traces; the test is skipped where there are none."""
    folder = _shared_dir()
    if folder is None:
        pytest.skip("no evidence folder (set CAPPLAN_SHARED, or put it at ../shared)")
    return folder


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """Return the top of the checkout."""
    return ROOT


# Each process wants between 60 and 140 MiB; at 100 MiB half of the runs are killed.
UNCERTAIN_NODE = """
capplan: 1
node: {memory: 1Gi, cpus: 2, kernel: "6.12"}
containers:
  web:
    memory.max: 100Mi
    profile:
      capplan: 1
      profile: web
      processes:
        p:
          regions: {heap: {kind: anon}}
          phases:
            - grow: {region: heap, to: {uniform: {low: 60Mi, high: 140Mi}}, rate: 200Mi/s}
            - hold: 1s
run: {duration: 3s, granule: 3}
"""


@pytest.fixture(scope="session")
def uncertain_text() -> str:
    """What `uncertain_node` holds."""
    return UNCERTAIN_NODE


@pytest.fixture
def uncertain_node(tmp_path: pathlib.Path) -> pathlib.Path:
    """A node file whose only process is OOM-killed in half of the replicates."""
    path = tmp_path / "node.yaml"
    path.write_text(UNCERTAIN_NODE, encoding="utf-8")
    return path


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that need the evidence folder; reports of workers carry the mark along."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.user_properties.append(EVIDENCE_TEST)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests need the evidence folder and how many of them were skipped."""
    reports = [r for outcome in OUTCOMES for r in terminalreporter.stats.get(outcome, ())]
    marks = [map(tuple, getattr(r, "user_properties", ())) for r in reports]
    needing = sum(EVIDENCE_TEST in of_one for of_one in marks)
    if needing:
        skips = terminalreporter.stats.get("skipped", ())
        skipped = sum(any(word in str(r.longrepr) for word in EVIDENCE) for r in skips)
        terminalreporter.write_line(f"evidence: {needing} tests need ../shared, {skipped} skipped")
