from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.errors import InputError
from capplan.spec.trace import (
    TraceQuery,
    clipped_samples,
    find_restarts,
    fit_to_run,
    load_trace,
)

MIB = 1 << 20


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def query(path: Path, **changes: object) -> TraceQuery:
    return TraceQuery(**({"file": path, "time": "time", "value": "web"} | changes))  # type: ignore[arg-type]


WIDE = "time,web,db\n0,100,7\n60,110,8\n120,120,9\n"
LONG = (
    "timestamp_s,container,metric,value\n"
    "1000,web,memory,5\n1060,web,memory,6\n"
    "1000,db,memory,7\n1000,web,cpu,0.1\n1060,db,memory,8\n"
)


def test_load_trace_wide_file_gives_the_column(tmp_path: Path) -> None:
    trace = load_trace(query(write(tmp_path / "t.csv", WIDE), unit_bytes=MIB))
    assert trace.t_s.tolist() == [0, 60, 120]
    assert (trace.bytes / MIB).tolist() == [100, 110, 120]
    assert trace.lines.tolist() == [2, 3, 4]
    assert trace.interval_s == 60
    assert len(trace) == 3


def test_load_trace_long_file_keeps_the_filtered_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", LONG)
    trace = load_trace(
        TraceQuery(path, "timestamp_s", "value", {"container": "db", "metric": "memory"})
    )
    assert trace.bytes.tolist() == [7, 8]
    assert trace.lines.tolist() == [4, 6]
    assert trace.t_s.tolist() == [0, 60]


def test_load_trace_numeric_filter_matches_its_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,pod,web\n0,3,1\n0,4,9\n60,3,2\n")
    assert load_trace(query(path, where={"pod": "3"})).bytes.tolist() == [1, 2]


def test_load_trace_gzip_is_read_like_plain(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(WIDE)
    assert load_trace(query(path, value="db")).bytes.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ("1700000000,1700000060", "auto"),
        ("1700000000000,1700000060000", "auto"),
        ("1700000000000000,1700000060000000", "auto"),
        ("1700000000000000000,1700000060000000000", "auto"),
        ("2023-11-14T22:13:20Z,2023-11-14T22:14:20Z", "auto"),
        ("2023-11-14 22:13:20,2023-11-14 22:14:20", "iso8601"),
        ("0,60000", "ms"),
    ],
)
def test_load_trace_time_units_all_mean_a_minute(tmp_path: Path, times: str, unit: str) -> None:
    first, second = times.split(",")
    path = write(tmp_path / "t.csv", f"time,web\n{first},1\n{second},2\n")
    trace = load_trace(query(path, time_unit=unit))
    assert trace.t_s.tolist() == pytest.approx([0, 60], abs=1e-6)


def test_load_trace_fraction_is_a_share_of_its_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,web\n0,0.25\n60,0.5\n")
    assert load_trace(query(path, unit_bytes=500.0 * MIB)).bytes.tolist() == [125 * MIB, 250 * MIB]


def test_load_trace_empty_cells_are_lost_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,web\n0,1\n60,\n120,3\n\n180,4\n")
    trace = load_trace(query(path))
    assert trace.bytes.tolist() == [1, 3, 4]
    assert trace.lines.tolist() == [2, 4, 6]  # the blank line counts


def test_load_trace_repeated_row_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,web\n0,1\n0,1\n60,3\n")
    assert load_trace(query(path)).bytes.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,web\n0,1\n60,2\n30,3\n", r"t\.csv:4: time: time runs backwards by 30 s"),
        ("time,web\n0,1\n60,2\n60,3\n", r"t\.csv:4: time: time stands still"),
        ("time,web\n0,1\n60,-2\n", r"t\.csv:3: web: -2 is negative"),
        ("time,web\n0,1\n60,x\n", r"t\.csv:3: web: 'x' is not a number"),
        ("time,web\nnever,1\n60,2\n", r"t\.csv:2: time: 'never' is not a time"),
        ("time,web\n0,1\n60,inf\n", r"t\.csv:3: web: 'inf' is not a number"),
        ("time,web\n", r"t\.csv: web: no row has a value"),
        ("", r"t\.csv:1: the trace is empty"),
        ("time,wbe\n0,1\n", r"(?s)t\.csv:1: there is no column 'web'.*did you mean 'wbe'"),
        (
            "time,web\n0,1\n60,2\n120,3\n1000,4\n",
            r"(?s)t\.csv:5: time: a gap of 880 s.*at most 300 s",
        ),
        ("time,web\n0,1\n60,2,3\n", r"t\.csv: not a CSV file: .* line 3"),
    ],
)
def test_load_trace_bad_file_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(InputError, match=message):
        load_trace(query(path))


def test_load_trace_names_all_bad_rows_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,web\n0,1\n60,x\n120,-2\nsoon,4\n90,5\n150,6\n")
    with pytest.raises(InputError, match="is not a number") as raised:
        load_trace(query(path))
    assert [(problem.place.line, problem.message) for problem in raised.value.problems] == [
        (3, "'x' is not a number"),
        (4, "-2 is negative"),
        (5, "'soon' is not a time"),
        (6, "time runs backwards by 30 s"),
    ]


def test_load_trace_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: the trace cannot be read: No such file"):
        load_trace(query(tmp_path / "none.csv"))


def test_load_trace_broken_gzip_is_an_input_error(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv.gz", "time,web\n0,1\n")
    with pytest.raises(InputError, match="cannot be read"):
        load_trace(query(path))


def test_load_trace_unknown_container_is_suggested(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", LONG)
    wanted = TraceQuery(path, "timestamp_s", "value", {"container": "wep", "metric": "memory"})
    with pytest.raises(InputError, match=r"(?s)container: no row has 'wep'.*did you mean 'web'"):
        load_trace(wanted)


def test_load_trace_filters_that_never_meet_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", LONG)
    wanted = TraceQuery(path, "timestamp_s", "value", {"container": "db", "metric": "cpu"})
    with pytest.raises(InputError, match="no row with container = 'db' and metric = 'cpu' has"):
        load_trace(wanted)


def test_load_trace_gap_within_max_gap_is_allowed(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,web\n0,1\n60,2\n120,3\n1000,4\n")
    assert load_trace(query(path, max_gap_s=900.0)).t_s[-1] == 1000


def test_load_trace_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,web\n0,1\n")
    assert load_trace(query(path)).bytes.tolist() == [1]
    write(path, "time,web\n0,12345\n")
    assert load_trace(query(path)).bytes.tolist() == [12345]


def test_load_trace_counter_reset_is_a_restart(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,web,cpu\n0,5,10\n60,5,20\n120,5,1\n180,5,2\n")
    trace = load_trace(query(path, counter="cpu"))
    assert trace.restarts.tolist() == [False, False, True, False]


def test_find_restarts_worked_example() -> None:
    values = np.array([400.0, 410.0, 0.0, 0.0, 380.0, 200.0])
    assert find_restarts(values).tolist() == [False, False, True, False, False, False]


def test_find_restarts_counter_reset() -> None:
    found = find_restarts(np.array([4.0, 4.0, 4.0]), np.array([10.0, 20.0, 1.0]))
    assert found.tolist() == [False, False, True]


def test_clipped_samples_needs_three_in_a_row() -> None:
    assert clipped_samples(np.array([90.0, 99.5, 100.0, 99.9, 60.0]), 100.0) == 3
    assert clipped_samples(np.array([90.0, 99.5, 80.0, 99.9, 60.0]), 100.0) == 0
    assert clipped_samples(np.array([99.5, 99.5, 99.5]), -1.0) == 0
    assert clipped_samples(np.array([]), 100.0) == 0


def test_fit_to_run_repeats_after_one_interval() -> None:
    times, index = fit_to_run(np.array([0.0, 60.0, 120.0]), 150.0, repeat=True)
    assert times.tolist() == [0, 60, 120, 180]
    assert index.tolist() == [0, 1, 2, 0]


def test_fit_to_run_skips_the_beginning_but_keeps_the_value_there() -> None:
    times, index = fit_to_run(np.array([0.0, 60.0, 120.0, 180.0]), 60.0, offset_s=-90.0)
    assert times.tolist() == [0, 30, 90]
    assert index.tolist() == [1, 2, 3]


def test_fit_to_run_past_the_end_holds_the_last_value() -> None:
    times, index = fit_to_run(np.array([0.0, 60.0]), 600.0, offset_s=-1000.0)
    assert times.tolist() == [0]
    assert index.tolist() == [1]


@given(
    steps=st.lists(st.floats(0.5, 100.0), min_size=1, max_size=30),
    duration=st.floats(1.0, 1000.0),
    offset=st.floats(-500.0, 500.0),
    repeat=st.booleans(),
)
def test_fit_to_run_times_rise_and_begin_in_the_run(
    steps: list[float], duration: float, offset: float, repeat: bool
) -> None:
    t_s = np.concatenate(([0.0], np.cumsum(steps)))
    times, index = fit_to_run(t_s, duration, offset_s=offset, repeat=repeat)
    assert times.size == index.size >= 1
    assert times[0] >= 0
    assert (np.diff(times) > 0).all()
    assert (times[:-1] < duration).all()
    if repeat:
        assert times[-1] >= duration


def test_load_trace_shared_trace_reads_one_pod(shared: Path) -> None:
    file = shared / "traces" / "nezha" / "trainticket_2023-01-29.csv.gz"
    pod = "ts-travel-service-64469b5b48-25zj6"
    trace = load_trace(
        TraceQuery(file, "timestamp_s", "value", {"container": pod, "metric": "memory_usage_bytes"})
    )
    assert len(trace) == 919
    assert trace.bytes[0] / MIB == pytest.approx(479.4, abs=0.05)
    assert trace.bytes.max() / MIB == pytest.approx(557.4, abs=0.05)
    assert not trace.restarts.any()
