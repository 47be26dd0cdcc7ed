"""What a validation writes, and the command that runs it."""

from __future__ import annotations

import gzip
import io
import json
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from capplan.cli.validate import validate
from capplan.sim.result import Event, Run, TaskTotals
from capplan.sim.scenario import Scenario
from capplan.validate import judge as judge_module
from capplan.validate.__main__ import main
from capplan.validate.judge import Verdict, find_recordings, judge, judge_all
from capplan.validate.output import as_json, render, row_of, side_by_side, write_json
from capplan.validate.picture import draw, save
from capplan.validate.recording import scenario_of
from capplan.validate.score import score
from capplan.validate.sensitivity import costs_of_all, scale_cost
from capplan.validate.truth import Course, Happening, Recording, course_of_run, load_recording
from tests.validate.handmade import make_course


def verdict_of(recording: Recording, course: Course) -> Verdict:
    return Verdict(recording, course, score(recording, course), 1.5)


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Callable[[Course], None]:
    """Let every judged recording be predicted as the given course."""

    def use(course: Course) -> None:
        def judged(recording: Recording, change: object = None) -> Verdict:
            return verdict_of(recording, course)

        monkeypatch.setattr(judge_module, "judge", judged)

    return use


def test_truth_is_read(written: pathlib.Path) -> None:
    truth = load_recording(written).truths[0]
    assert truth.happenings == (
        Happening(9.1, "oom_kill", "alloc", "memcg", 5),
        Happening(9.5, "exit", "other"),
    )
    assert np.isnan(truth.series["process.alloc.rss_pages"][0])


@pytest.mark.parametrize("name", ["scenario.json", "truth.json.gz", "truth-2.json.gz"])
def test_missing_file_is_named(written: pathlib.Path, name: str) -> None:
    (written / name).unlink()
    with pytest.raises(ValueError, match=f"no recording: {name} is missing"):
        find_recordings([written])


def test_broken_files_are_named(written: pathlib.Path) -> None:
    (written / "truth.json.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="hand-made: cannot be read"):
        load_recording(written)
    with gzip.open(written / "truth.json.gz", "wt") as file:
        file.write("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_recording(written)
    (written / "scenario.json").write_text("{}")
    with pytest.raises(ValueError, match="no recording: KeyError"):
        load_recording(written)


def test_folder_of_recordings_stands_for_all(written: pathlib.Path) -> None:
    (found,) = find_recordings([written.parent])
    assert found.name == "hand-made"


def test_empty_folder_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"scenario\.json is missing"):
        find_recordings([tmp_path])


def test_json_has_the_stated_shape(recording: Recording) -> None:
    course = make_course(happenings=(Happening(9.0, "oom_kill", "alloc", "memcg", 5),))
    written = json.loads(json.dumps(as_json([verdict_of(recording, course)]), allow_nan=False))
    assert written["format"] == 1
    (entry,) = written["recordings"]
    assert set(entry) == {"name", "events", "series", "t", "scores", "passed", "why"}
    assert entry["events"] == [
        {"t": 5.0, "event": "paused", "name": "alloc", "scope": None},
        {"t": 9.0, "event": "oom_kill", "name": "alloc", "scope": "memcg"},
    ]
    assert entry["passed"] is False
    assert len(entry["t"]) == len(entry["series"]["cgroup.a.stat.anon"])
    assert entry["series"]["process.alloc.rss_pages"][0] is None
    assert set(entry["series"]) <= set(recording.truths[0].series)


def test_scores_show_both_truths(recording: Recording) -> None:
    (entry,) = as_json([verdict_of(recording, make_course(shift=1.0))])["recordings"]
    free = entry["scores"]["series"]["meminfo_kb.MemFree"]
    assert free["truths"] == pytest.approx([1024 / 60000] * 2, abs=1e-6)
    assert free["passed"]


def test_json_is_written_whole_or_not_at_all(
    recording: Recording, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = verdict_of(recording, make_course())
    path = write_json([verdict], tmp_path / "out")
    before = path.read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(json, "dump", fails)
    with pytest.raises(OSError, match="disk full"):
        write_json([verdict], tmp_path / "out")
    assert path.read_bytes() == before
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["validate.json"]


def test_table_is_plain_text_off_the_terminal(recording: Recording) -> None:
    out = io.StringIO()
    render([verdict_of(recording, make_course()), verdict_of(recording, make_course(shift=2))], out)
    lines = out.getvalue().splitlines()
    assert lines[0].split()[:5] == ["recording", "passed", "events", "worst", "series"]
    assert lines[0].split()[5:] == ["error", "both", "truths", "allowed"]
    assert lines[1].split()[:3] == ["hand-made", "yes", "yes"]
    assert lines[2].split()[:4] == ["hand-made", "NO", "yes", "meminfo_kb.MemFree"]
    assert "hand-made: meminfo_kb.MemFree: mean error 3.4%, allowed 2.0%" in lines[3]
    assert lines[-1] == "1 of 2 recordings pass (3 s of simulation)"
    assert "\x1b" not in out.getvalue()


def test_table_uses_rich_on_a_terminal(recording: Recording) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    render([verdict_of(recording, make_course())], out)
    assert "│" in out.getvalue()


def test_breakdown_of_the_model_fails_one_recording(recording: Recording, raw: Any) -> None:
    raw["processes"][0]["phases"] = [{"op": "dance"}]
    verdict = judge(recording)
    assert not verdict.passed
    assert verdict.why == ("the model broke down: ValueError: phase 'dance' is not known",)
    assert row_of(verdict)[1] == "NO"
    assert as_json([verdict])["recordings"][0]["t"] == []
    assert draw(verdict) is not None


def test_picture_has_a_row_for_the_node_and_for_each_group(recording: Recording) -> None:
    course = make_course(happenings=(Happening(9.0, "oom_kill", "alloc", "memcg"),))
    figure = draw(verdict_of(recording, course))
    assert [ax.get_title() for ax in figure.axes] == [
        "MemFree",
        "AnonPages",
        "Cached",
        "SwapFree",
        "a: current",
        "a: anon",
        "a: file",
        "a: swap",
    ]
    assert len(figure.axes[0].lines) == 4  # two truths, the model, its kill


def test_picture_is_written(recording: Recording, tmp_path: pathlib.Path) -> None:
    path = save(verdict_of(recording, make_course()), tmp_path)
    assert path.name == "hand-made.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_side_by_side_shows_series_events_and_work(recording: Recording) -> None:
    verdict = verdict_of(recording, make_course(happenings=(Happening(9.0, "exit", "alloc"),)))
    text = "\n".join(side_by_side(verdict, ["stat.anon"], step=5))
    assert "cgroup.a.stat.anon" in text
    assert "model       9.000 exit alloc" in text
    assert "events.max" in text
    assert "MemFree" not in text


def run_of(events: tuple[Event, ...], raw: Any) -> Run:
    t = np.arange(0, 20, 0.25)
    series = {"t": t, "cgroup.a.memory.current": t * 4096, "cgroup.a.memory.current|max": t}
    return Run(scenario_of(raw), events, series, (), {}, "0", 1, 1, 0.0)


def test_run_becomes_a_course(raw: dict[str, Any]) -> None:
    events = (
        Event(1.0, "start", "alloc"),
        Event(3.0, "oom_kill", "alloc", "a", "memcg", {"anon_rss_kb": 12}),
        Event(3.1, "exit", "alloc", "a", "", {"how": "signal", "value": 9}),
        Event(2.0, "exit", "other", "a", "", {"how": "code", "value": 0}),
    )
    course = course_of_run(run_of(events, raw))
    assert [(h.event, h.name) for h in course.happenings] == [
        ("exit", "other"),
        ("oom_kill", "alloc"),
    ]
    assert "cgroup.a.memory.current|max" not in course.series
    assert course.end_s == 20.0


def test_run_is_judged(
    recording: Recording, raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is given the scenario, and its run is scored: marks, series, totals."""
    marks = {"DMA32": (100, 125, 150)}
    totals = (TaskTotals("alloc", "alloc", "a", 1.0, 2, 3.0, 4.0, 5.0, 6, 7, "paused", 0),)
    scenarios = []

    def run(scenario: Scenario) -> Run:
        scenarios.append(scenario)
        return Run(scenario, (), dict(make_course().series), totals, marks, "0", 1, 1, 0.0)

    engine = types.ModuleType("capplan.sim.run")
    vars(engine)["run"] = run
    monkeypatch.setitem(sys.modules, "capplan.sim.run", engine)
    verdict = judge(recording)
    assert verdict.passed, verdict.why
    assert scenarios == [scenario_of(raw)]
    assert verdict.score is not None
    assert verdict.score.tasks["alloc"]["high_throttle_s"] == 4.0
    marks["DMA32"] = (100, 125, 151)
    assert not judge(recording).passed


def test_v1_names_are_those_of_the_truth(raw: dict[str, Any]) -> None:
    course = course_of_run(run_of((), raw), ("cgroup.a.memory.usage_in_bytes",))
    usage = course.series["cgroup.a.memory.usage_in_bytes"]
    assert usage[4] == 4096.0


def test_one_cost_is_scaled(raw: dict[str, Any]) -> None:
    scenario = scenario_of(raw)
    base = scenario.node.costs
    up = scale_cost(scenario, "fill_ns", 1.2, {}).node.costs
    assert up["fill_ns"] == pytest.approx(1.2 * base["fill_ns"])
    assert {k: v for k, v in up.items() if k != "fill_ns"} == {
        k: v for k, v in base.items() if k != "fill_ns"
    }
    assert scale_cost(scenario, "scan_ns", 0.8, {"scan_ns": 100.0}).node.costs["scan_ns"] == 80


def test_contention_is_scaled_by_what_it_adds(raw: dict[str, Any]) -> None:
    changed = scale_cost(scenario_of(raw), "contention", 1.2, {}).node.costs
    assert changed["contention"] == pytest.approx(1 + (82 / 62 - 1) * 1.2)


def test_disk_speed_is_scaled(raw: dict[str, Any]) -> None:
    scenario = scenario_of(raw)
    changed = scale_cost(scenario, "disk.read_latency_ns", 1.2, {}).node.disks[0]
    assert changed.read_latency_ns == round(scenario.node.disks[0].read_latency_ns * 1.2)


def test_all_costs_are_studied(recording: Recording) -> None:
    names = costs_of_all([recording], {"scan_ns": 1.0})
    assert {"scan_ns", "fill_ns", "disk.random_read_ns"} <= set(names)


def test_verdicts_come_in_order(recording: Recording, canned: Callable[[Course], None]) -> None:
    canned(make_course())
    assert [v.passed for v in judge_all([recording, recording, recording])] == [True] * 3
    assert list(judge_all([])) == []


def test_command_passes(
    written: pathlib.Path, tmp_path: pathlib.Path, canned: Callable[[Course], None]
) -> None:
    canned(load_recording(written).truths[0])
    out = tmp_path / "out"
    result = CliRunner().invoke(validate, [str(written), "--jobs", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "1 of 1 recordings pass" in result.output
    assert {p.name for p in out.iterdir()} == {"validate.json", "hand-made.png"}


def test_command_fails_when_one_does(
    written: pathlib.Path, canned: Callable[[Course], None]
) -> None:
    canned(make_course())
    result = CliRunner().invoke(validate, [str(written), "--jobs", "1"])
    assert result.exit_code == 1
    assert "hand-made: alloc: killed at 9.1 s in the kernel only" in result.output


def test_command_says_what_is_no_recording(tmp_path: pathlib.Path) -> None:
    result = CliRunner().invoke(validate, [str(tmp_path / "gone")])
    assert result.exit_code == 2
    assert "gone: no such directory" in result.output


def test_developer_entry(
    written: pathlib.Path, canned: Callable[[Course], None], capsys: pytest.CaptureFixture[str]
) -> None:
    canned(load_recording(written).truths[0])
    assert main([str(written), "--series", "MemFree"]) == 0
    assert "meminfo_kb.MemFree  [t: model | truth | truth-2]" in capsys.readouterr().out
    assert main([str(written), "--only", "nothing-of-that-name"]) == 2
    assert main([str(written / "gone")]) == 2
