from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capplan.errors import InputError
from capplan.sim.scenario import Access, Process, Scenario
from tests.sim.expand_cases import MIB, S, mapping, scenario


def trace_profile(**trace: Any) -> dict[str, Any]:
    given = {"file": "t.csv", "measures": "rss", "columns": {"value": "web"}} | trace
    return {"capplan": 1, "profile": "p", "processes": {"app": {"trace": given}}}


def write_trace(tmp_path: Path, *values: float, step: int = 60) -> None:
    rows = [f"{i * step},{value}" for i, value in enumerate(values)]
    (tmp_path / "t.csv").write_text("\n".join(["time,web", *rows]), encoding="utf-8")


def traced(
    tmp_path: Path, replicate: int = 0, start: str = "warm", **trace: Any
) -> tuple[Scenario, Process]:
    found = scenario(
        tmp_path,
        {"web": {"profile": trace_profile(**({"unit": "MiB"} | trace))}},
        run={"duration": "5min", "start": start},
        replicate=replicate,
    )
    return found, found.processes[0]


def points(process_: Process, task: int = 0) -> list[tuple[int, int]]:
    """(second, MiB) of a task's trace."""
    trace = process_.tasks[task].trace
    assert trace is not None
    return list(zip((trace.at_ns // S).tolist(), (trace.pages / MIB).tolist(), strict=True))


def test_trace_warm_begins_at_its_first_value(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 120, 90)
    found, app = traced(tmp_path)
    trace = mapping(found, "web/app/trace")
    assert (trace.size_pages, trace.resident_pages, trace.max_pages) == (25600, 25600, 30720)
    assert points(app) == [(60, 120), (120, 90)]
    assert app.tasks[0].clock == "schedule"
    assert not app.tasks[0].exit_at_end


def test_trace_cold_asks_for_its_first_value_at_once(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 120, 90)
    found, app = traced(tmp_path, start="cold")
    assert mapping(found, "web/app/trace").size_pages == 0
    assert points(app) == [(0, 100), (60, 120), (120, 90)]


def test_trace_scale_add_and_offset(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 120, 90, 80)
    _, app = traced(tmp_path, scale=2.0, add="10Mi", offset="60s", start="cold")
    assert points(app) == [(0, 250), (60, 190), (120, 170)]


def test_trace_usage_is_split_and_the_cache_never_falls(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 200, 50)
    found, app = traced(tmp_path, measures="usage", anon_share=0.75, start="cold")
    assert points(app) == [(0, 75), (60, 150), (120, 37.5)]
    assert points(app, 1) == [(0, 25), (60, 50), (120, 50)]
    cache = mapping(found, "web/app/cache")
    assert (cache.kind, cache.via, cache.size_pages, cache.max_pages) == (
        "file", "read", 0, 50 * MIB,
    )  # fmt: skip
    assert not any("anonymous" in a for a in found.assumptions)


def test_trace_warm_cache_begins_with_what_is_in_memory(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 200)
    found, app = traced(tmp_path, measures="usage", anon_share=0.75)
    cache = mapping(found, "web/app/cache")
    assert (cache.size_pages, cache.resident_pages, cache.max_pages) == (6400, 6400, 12800)
    assert points(app, 1) == [(60, 50)]


def test_trace_usage_without_a_share_is_an_assumption(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 200)
    found, app = traced(tmp_path, measures="working_set", start="cold")
    assert points(app) == [(0, 70), (60, 140)]
    assert any("70 % of working set is anonymous" in a for a in found.assumptions)


def test_trace_assumed_share_varies_in_a_risk_run(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 200)
    shares = set()
    for replicate in range(1, 6):
        _, app = traced(tmp_path, replicate, measures="usage", start="cold")
        shares.add(points(app)[0][1])
    assert len(shares) == 5
    assert all(47 <= share <= 99.1 for share in shares)


def test_trace_columns_of_anon_and_file_need_no_share(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time,a,f\n0,10,4\n60,20,8\n", encoding="utf-8")
    found, app = traced(
        tmp_path, measures="usage", columns={"anon": "a", "file": "f"}, start="cold"
    )
    assert points(app) == [(0, 10), (60, 20)]
    assert points(app, 1) == [(0, 4), (60, 8)]
    assert not any("anonymous" in a for a in found.assumptions)


def test_trace_drop_to_zero_is_a_restart(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 110, 0, 50, 60)
    found, first = traced(tmp_path)
    second = found.processes[1]
    assert (first.name, second.name) == ("web/app", "web/app#2")
    assert points(first) == [(60, 110)]
    assert first.tasks[0].exit_at_end
    assert second.start_ns == 120 * S
    assert points(second) == [(120, 0), (180, 50), (240, 60)]
    assert not second.tasks[0].exit_at_end
    assert mapping(found, "web/app#2/trace").size_pages == 0


def test_trace_that_ends_a_life_is_not_restarted_besides(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 110, 0, 50, 60)
    container = {"profile": trace_profile(unit="MiB"), "restart": "Always"}
    first, second = scenario(tmp_path, {"web": container}, run={"duration": "5min"}).processes
    assert first.restart == "OnFailure"  # the trace has its next life itself
    assert second.restart == "Always"


@pytest.mark.parametrize(
    ("at_end", "last", "exits"),
    [("hold", (60, 120), False), ("exit", (60, 120), True), ("repeat", (300, 120), False)],
)
def test_trace_shorter_than_the_run(
    tmp_path: Path, at_end: str, last: tuple[int, int], exits: bool
) -> None:
    write_trace(tmp_path, 100, 120)
    _, app = traced(tmp_path, at_end=at_end)
    assert points(app)[-1] == last
    assert app.tasks[0].exit_at_end is exits


def test_trace_at_its_limit_is_flagged_as_clipped(tmp_path: Path) -> None:
    write_trace(tmp_path, 90, 128, 128, 127.5, 100)
    found, _ = traced(tmp_path, limit="128Mi")
    assert any("3 of 5 samples sit at the limit of 128 MiB" in a for a in found.assumptions)
    found, _ = traced(tmp_path, limit="256Mi")
    assert not any("clipped" in a for a in found.assumptions)


def test_trace_jitter_has_its_spread_and_is_repeatable(tmp_path: Path) -> None:
    write_trace(tmp_path, *[400] * 300, step=1)
    _, once = traced(tmp_path, jitter=0.05)
    _, again = traced(tmp_path, jitter=0.05)
    _, other = traced(tmp_path, 1, jitter=0.05)
    assert once == again
    assert once != other
    values = np.array([value for _, value in points(once)])
    assert values.std() / 400 == pytest.approx(0.05, rel=0.2)
    assert values.mean() == pytest.approx(400, rel=0.01)


def test_what_runs_share_of_a_trace_is_that_of_the_same_question(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 120, 90, 90, 90)
    asked: list[dict[str, Any]] = [
        {},
        {"offset": "60s"},
        {"at_end": "repeat"},
        {"limit": "90Mi"},
        {"limit": "1Gi", "start": "cold"},
    ]

    def answers() -> list[tuple[list[tuple[int, int]], bool]]:
        found = [traced(tmp_path, **given) for given in asked]
        return [
            (points(app), any("clipped" in note for note in whole.assumptions))
            for whole, app in found
        ]

    first = answers()
    assert [(times[-1][0], times[0][1], clipped) for times, clipped in first] == [
        (240, 120, False),
        (180, 90, False),
        (300, 120, False),
        (240, 120, True),
        (240, 100, False),
    ]
    assert answers() == first  # the second time from what was kept
    write_trace(tmp_path, 50, 60, 70, 80, 95, step=120)
    _, app = traced(tmp_path)
    assert points(app) == [(120, 60), (240, 70), (360, 80)]  # the file is another


def test_trace_access_is_the_files_or_an_assumption(tmp_path: Path) -> None:
    write_trace(tmp_path, 120, 120)
    _, app = traced(tmp_path)
    assert app.tasks[0].access == Access("uniform", 120 * MIB / 120)
    _, app = traced(tmp_path, access={"pattern": "cyclic", "rate": "1Mi/s"})
    assert app.tasks[0].access == Access("cyclic", float(MIB))


def test_trace_file_access_is_the_page_caches_alone(tmp_path: Path) -> None:
    rows = ["time,anon,file", "0,100,40", "60,100,50"]
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    given = {"access": {"pattern": "cyclic", "rate": "1Mi/s"}, "measures": "usage"}
    columns = {"time": "time", "anon": "anon", "file": "file"}
    _, app = traced(tmp_path, columns=columns, **given)
    assert [task.access for task in app.tasks] == [Access("cyclic", float(MIB))] * 2
    again = {"pattern": "uniform", "rate": "12Mi/s"}
    _, app = traced(tmp_path, columns=columns, file_access=again, **given)
    assert app.tasks[0].access == Access("cyclic", float(MIB))
    assert app.tasks[1].access == Access("uniform", 12.0 * MIB)


def test_trace_that_is_broken_names_file_and_line(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, -1)
    with pytest.raises(InputError, match=r"t\.csv:3: web: -1 is negative"):
        traced(tmp_path)


def test_trace_masked_window_is_bridged_and_told(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 120, 900, 900, 160)
    found, app = traced(tmp_path, mask=[{"from": 100, "for": "90s"}])
    assert points(app) == [(60, 120), (240, 160)]
    assert "web: t.csv: 2 of 5 samples are masked and bridged in a straight line" in (
        found.assumptions
    )


def test_trace_masked_by_a_list_of_its_containers_windows(tmp_path: Path) -> None:
    rows = [f"{60 * i},{pod},{v}" for pod in ("a", "b") for i, v in enumerate((1, 2, 90, 40))]
    (tmp_path / "t.csv").write_text("\n".join(["time,pod,web", *rows]), encoding="utf-8")
    (tmp_path / "f.csv").write_text("at,of,kind\n20,a,cpu\n320,b,cpu\n", encoding="utf-8")
    mask = {"file": "f.csv", "from": "at", "for": "59s", "shift": "100s", "match": {"of": "pod"}}
    given = {"mask": [mask], "start": "cold"}
    _, first = traced(tmp_path, filter={"pod": "a"}, **given)
    _, second = traced(tmp_path, filter={"pod": "b"}, **given)
    assert points(first) == [(0, 1), (60, 2), (180, 40)]
    assert points(second) == [(0, 1), (60, 2), (120, 90), (180, 40)]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"for": "5min"}, "a window without a start or an end"),
        ({"from": "soon", "for": "5min"}, "'soon' is not a time"),
        ({"from": 0, "to": 60, "for": "5min"}, "both to and for"),
        ({"file": "f.csv", "from": "at"}, "a file of windows without their ends"),
        ({"from": 0, "for": "1min", "shift": "1h"}, "without a file"),
        ({"file": "none.csv", "from": "at", "to": "end"}, "no file 'none.csv'"),
        (
            {"file": "t.csv", "from": "time", "for": "1s", "match": {"web": "pod"}},
            "match names pod, which filter does not have",
        ),
    ],
)
def test_trace_mask_that_makes_no_sense_is_refused(
    tmp_path: Path, mask: dict[str, Any], message: str
) -> None:
    write_trace(tmp_path, 100, 120)
    with pytest.raises(InputError, match=message):
        traced(tmp_path, mask=[mask])


def write_peaks(tmp_path: Path, *rows: tuple[float, float]) -> None:
    lines = [f"{900 * i},{mean},{high}" for i, (mean, high) in enumerate(rows)]
    (tmp_path / "t.csv").write_text("\n".join(["time,web,high", *lines]), encoding="utf-8")


def peaked(tmp_path: Path, replicate: int = 0, **trace: Any) -> tuple[Scenario, Process]:
    profile = trace_profile(unit="MiB", peaks={"value": "high"}, **trace)
    run = {"duration": "1h", "start": "cold"}
    found = scenario(tmp_path, {"web": {"profile": profile}}, run=run, replicate=replicate)
    return found, found.processes[0]


def test_trace_peak_stands_in_the_middle_of_its_interval(tmp_path: Path) -> None:
    write_peaks(tmp_path, (100, 150), (120, 120), (90, 100), (90, 300))
    found, app = peaked(tmp_path)
    # the second and the third peak are no higher than the samples beside them; the last has none
    assert points(app) == [(0, 100), (450, 150), (900, 120), (1800, 90), (2250, 100), (2700, 90)]
    assert any("the peak of each 15 min stands in its middle" in a for a in found.assumptions)


def test_trace_peak_is_anonymous_and_the_cache_stays(tmp_path: Path) -> None:
    write_peaks(tmp_path, (100, 150), (100, 100))
    _, app = peaked(tmp_path, measures="usage", anon_share=0.75)
    assert points(app) == [(0, 75), (450, 125), (900, 75)]
    assert points(app, 1) == [(0, 25), (450, 25), (900, 25)]


def test_trace_peak_before_a_restart_belongs_to_the_life_that_ends(tmp_path: Path) -> None:
    write_peaks(tmp_path, (100, 150), (1, 40), (80, 80))
    found, first = peaked(tmp_path)
    assert points(first) == [(0, 100), (450, 150)]
    assert points(found.processes[1]) == [(900, 1), (1800, 80)]


def test_trace_peak_is_anywhere_in_its_interval_in_runs_of_many(tmp_path: Path) -> None:
    write_peaks(tmp_path, (100, 150), (100, 100))
    times = set()
    for replicate in range(1, 9):
        (_, start), (at, high), _ = points(peaked(tmp_path, replicate)[1])
        assert (start, high) == (100, 150)
        times.add(at)
    assert len(times) == 8
    assert 0 < min(times) < 300 < 600 < max(times) < 900


def test_trace_trend_goes_on_after_the_end(tmp_path: Path) -> None:
    # 1 MiB a minute in its second half; the start and a burst are not the trend
    values = [10.0] * 20 + [float(10 + i) for i in range(20)]
    values[30] = 400
    write_trace(tmp_path, *values)
    profile = trace_profile(unit="MiB", at_end="trend")
    found = scenario(tmp_path, {"web": {"profile": profile}}, run={"duration": "89min"})
    assert points(found.processes[0])[-2:] == [(39 * 60, 29), (89 * 60, pytest.approx(79, abs=0.1))]
    assert any("1.41 GiB a day" in a for a in found.assumptions)


def test_trace_trend_is_drawn_within_its_interval(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(100, 5, 200) + np.arange(200)
    write_trace(tmp_path, *values.round(3))
    ends = set()
    for replicate in range(6):
        found = scenario(
            tmp_path,
            {"web": {"profile": trace_profile(unit="MiB", at_end="trend")}},
            run={"duration": "10h"},
            replicate=replicate,
        )
        ends.add(points(found.processes[0])[-1][1])
    assert len(ends) == 6
    assert all(600 < end < 800 for end in ends)


def test_trace_too_short_for_a_trend_is_refused(tmp_path: Path) -> None:
    write_trace(tmp_path, *range(100, 108))
    with pytest.raises(InputError, match="trend needs 9 samples, there are 8"):
        scenario(
            tmp_path,
            {"web": {"profile": trace_profile(unit="MiB", at_end="trend")}},
            run={"duration": "1h"},
        )


def test_assumptions_of_the_file_come_first_and_containers_share_theirs(tmp_path: Path) -> None:
    write_trace(tmp_path, 100, 120)
    profile = trace_profile(unit="MiB", measures="usage")
    found = scenario(
        tmp_path,
        {"a": {"profile": profile, "replicas": 2}, "b": {"profile": profile}},
        assumptions=["RAM is guessed"],
    )
    assert found.assumptions[0] == "RAM is guessed"
    told = [a for a in found.assumptions if "anonymous" in a]
    assert len(told) == 1
    assert told[0].startswith("a, b: t.csv: 70 % of usage")
