"""The committed figures, the pages made of them, and what a verdict is told of them."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np
import pytest

from capplan.sim.scenario import Cgroup, Mapping, Node, Op, Process, Scenario, Swap, Task, Zone
from capplan.validate import docs, fidelity
from capplan.validate.measured import mechanisms_table, worst_of
from capplan.validate.mechanisms import TITLES, exercised
from capplan.validate.sensitivity import Outcome, PageCacheOutcome

ACCEPT = "CAPPLAN_GOLDEN_ACCEPT" in os.environ


def scenario(*ops: Op, swap: bool = False, **more: Any) -> Scenario:
    node = Node((Zone(0, "Normal", 4096, 4096, 4096),), cpus=1, release="6.1",
                swaps=(Swap("vda", 100, -2),) if swap else (), **more.pop("node", {}))  # fmt: skip
    process = Process("p", "a", "p", tasks=(Task(ops),), oom_score_adj=more.pop("adj", 0))
    group = more.pop("group", Cgroup("a"))
    kind = more.pop("kind", "file")
    return Scenario("case", node, "v2", (group,), (Mapping("m", kind, 100),), (process,), **more)


def counters(**grown: float) -> dict[str, np.ndarray[Any, Any]]:
    return {f"vmstat.{name}": np.array([5.0, 5.0 + by]) for name, by in grown.items()}


def test_growth_alone_is_told_where_nothing_was_taken() -> None:
    assert exercised(scenario(), counters(pgsteal_kswapd=0), ()) == ("growth",)


@pytest.mark.parametrize(
    ("scope", "expected"), [("memcg", ("memcg_oom",)), ("global", ("global_oom",))]
)
def test_a_kill_counts_by_its_scope(scope: str, expected: tuple[str, ...]) -> None:
    assert exercised(scenario(), {}, {("oom_kill", scope)}) == expected


def test_a_kill_among_unlike_adjustments_counts_for_them_too() -> None:
    found = exercised(scenario(adj=300), {}, {("oom_kill", "memcg")})
    assert found == ("memcg_oom", "oom_score_adj")


def test_swap_is_the_nodes_where_kswapd_was_at_work() -> None:
    at_limit = counters(pswpout=5000)
    assert exercised(scenario(swap=True), at_limit, ()) == ("memcg_swap",)
    of_node = at_limit | counters(pgsteal_kswapd=5000)
    assert exercised(scenario(swap=True), of_node, ()) == ("global_swap",)


def test_page_cache_of_a_group_is_seen_in_memory_stat_only() -> None:
    """The kernel's vmstat does not count what a group's own reclaim takes."""
    own = {"cgroup.a.stat.pgsteal": np.array([0.0, 9000.0])}
    assert exercised(scenario(), own, ()) == ("memcg_file",)
    assert exercised(scenario(), own | counters(pgsteal_kswapd=9000), ()) == ("global_file",)


def test_protection_and_generations_need_reclaim() -> None:
    group = Cgroup("a", memory_low=100)
    node = {"lru_gen": True}
    assert exercised(scenario(group=group, node=node), {}, ()) == ("growth",)
    found = exercised(scenario(group=group, node=node), counters(pgsteal_kswapd=9000), ())
    assert found == ("global_file", "protection", "lru_gen")


def test_throttling_needs_a_limit_and_an_event() -> None:
    events = {"cgroup.a.events.high": np.array([0.0, 3.0])}
    assert exercised(scenario(group=Cgroup("a", memory_high=10)), events, ()) == ("memory_high",)
    assert exercised(scenario(), events, ()) == ("growth",)


@pytest.mark.parametrize(("kind", "expected"), [("file", "writeback"), ("shmem", "shmem")])
def test_writes_count_by_what_they_go_to(kind: str, expected: str) -> None:
    found = exercised(scenario(Op("write", "m", 10), kind=kind), {}, ())
    assert found == (expected, "growth")


def test_missing_values_do_not_hide_growth() -> None:
    series = {"vmstat.pgsteal_kswapd": np.array([np.nan, 0.0, 9000.0, np.nan])}
    assert exercised(scenario(), series, ()) == ("global_file",)


def test_every_mechanism_of_the_figures_has_a_title() -> None:
    known = fidelity.load()["mechanisms"]
    assert set(known) <= set(TITLES)
    assert {"memcg_oom", "global_oom", "memory_high", "zswap", "pause", "lru_gen"} <= set(known)


def test_a_mechanism_without_a_recording_says_so() -> None:
    (found,) = fidelity.of_mechanisms(["agent"], TITLES)
    assert found.text == "eviction by a user-space agent: held against no recording"


def test_text_of_a_mechanism_names_what_was_measured() -> None:
    found = fidelity.Fidelity("zswap", "zswap", 3, 2, 0.0043, 0.0037, 0.91, ("a", "b", "c"))
    assert found.text == (
        "zswap: 2 of 3 recordings pass (node 0.4 %, groups 0.4 %, kills 0.9 s off on the mean)"
    )


def test_mechanisms_follow_from_the_recordings() -> None:
    data = fidelity.load()
    assert mechanisms_table(data["recordings"]) == data["mechanisms"]


def test_worst_is_relative_to_what_is_allowed() -> None:
    series = {"a": {"error": 0.02, "allowed": 0.05}, "b": {"error": 0.015, "allowed": 0.02}}
    assert worst_of({"series": series}) == "b"


def test_pages_are_those_of_the_figures(root: pathlib.Path) -> None:
    """Neither the figures nor the pages were touched alone; CAPPLAN_GOLDEN_ACCEPT writes them."""
    data = docs.read_data(root / "docs")
    texts = docs.pages(data, docs.expected_failures([root / "tests" / "recordings"]))
    if ACCEPT:
        docs.write(root / "docs", data, texts)
    for name, text in texts.items():
        assert (root / "docs" / name).read_text(encoding="utf-8") == text, name


def test_pictures_of_the_page_are_there(root: pathlib.Path) -> None:
    for name in docs.PICTURES:
        picture = (root / "docs" / "fidelity" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 150_000


def test_a_page_that_lacks_a_figure_is_not_written() -> None:
    with pytest.raises(Exception, match="'oom' is undefined"):
        docs.pages({key: v for key, v in fidelity.load().items() if key != "oom"})


def test_foreign_names_cannot_break_a_table() -> None:
    report = {
        "name": "r", "source": "s", "kernel": "5.0", "era": "3.10", "memcg": False, "tasks": 1,
        "victim": "a|b\n<c>", "ours": "x", "same": False, "score": None, "printed": None,
    }  # fmt: skip
    text = docs.evidence_page([report], [])
    assert "| a\\|b\\<c\\> | x | NO |" in text


def test_a_changed_cost_is_told_with_what_it_loses() -> None:
    recordings = {name: {"passed": name != "c"} for name in "abc"}
    outcomes = [
        Outcome("fill_ns", 0.8, ("a", "b"), ("c",)),
        Outcome("fill_ns", 1.2, ("b",), ("a", "c")),
    ]
    found = docs.with_sensitivity({"recordings": recordings}, outcomes)["sensitivity"]
    assert found == {
        "cases": 2,
        "recordings": 3,
        "passed": 2,
        "changed": [{"cost": "fill_ns", "factor": 1.2, "failed": ["a"]}],
    }


def test_page_cache_study_tells_the_costs_that_move_a_figure() -> None:
    def case(cost: str, factor: float, operations: float, *missed: str) -> PageCacheOutcome:
        return PageCacheOutcome(cost, factor, operations, 0.00368, 0.0047, 0.0165, missed)

    outcomes = [
        case("", 1.0, 0.1101),
        case("scan_ns", 1.2, 0.1102),  # not in the figures that are shown
        case("write_copy_ns", 1.2, 0.1763, "operations"),
    ]
    found = docs.with_page_cache_sensitivity({}, outcomes)["page_cache_sensitivity"]
    assert found["cases"] == 2
    assert found["base"]["operations"] == 0.11
    assert [(row["cost"], row["missed"]) for row in found["changed"]] == [
        ("write_copy_ns", ["operations"])
    ]


def test_figures_lie_in_the_package_of_a_checkout(tmp_path: pathlib.Path) -> None:
    assert docs.data_path(tmp_path / "docs") == tmp_path / "docs" / "fidelity.json"
    (tmp_path / "capplan" / "validate").mkdir(parents=True)
    assert docs.data_path(tmp_path / "docs").parent.name == "validate"


def test_figures_of_another_format_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "FORMAT", 2)
    fidelity.load.cache_clear()
    with pytest.raises(ValueError, match="format 1 is not 2"):
        fidelity.load()
