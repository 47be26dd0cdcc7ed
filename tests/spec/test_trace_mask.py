from __future__ import annotations

from pathlib import Path

import pytest

from capplan.errors import InputError
from capplan.spec.moment import moment_s
from capplan.spec.trace import TraceQuery, Window, load_trace
from capplan.spec.trace_mask import WindowQuery, read_windows

HEAD = "day,at,until,pod\n"
LIST = HEAD + "mon,100,160,web\nmon,400,460,db\ntue,900,960,web\n"


def trace(path: Path, *rows: str, masked: tuple[Window, ...] = ()) -> TraceQuery:
    path.write_text("\n".join(["time,web", *rows]), encoding="utf-8")
    return TraceQuery(path, "time", "web", masked=masked)


def windows(tmp_path: Path, text: str = LIST, **query: object) -> tuple[Window, ...]:
    path = tmp_path / "faults.csv"
    path.write_text(text, encoding="utf-8")
    return read_windows(WindowQuery(path, "at", **query))  # type: ignore[arg-type]


def test_read_windows_by_a_column_of_ends(tmp_path: Path) -> None:
    assert windows(tmp_path, end="until", where={"pod": "db"}) == (Window(400, 460),)


def test_read_windows_by_length_and_shifted(tmp_path: Path) -> None:
    found = windows(tmp_path, length_s=30.0, shift_s=3600.0, where={"day": "tue"})
    assert found == (Window(4500, 4530),)


def test_read_windows_of_a_container_without_any(tmp_path: Path) -> None:
    assert windows(tmp_path, match={"pod": "cache"}) == ()
    assert windows(tmp_path, where={"day": "mon"}, match={"pod": "web"}) == (Window(100, 100),)


def test_read_windows_filter_that_no_row_meets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row has 'mno'") as caught:
        windows(tmp_path, where={"day": "mno"})
    assert caught.value.problems[0].suggestion == "mon"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("mon,soon,160,web", r"faults\.csv:3: at: 'soon' is not a time"),
        ("mon,100,,web", r"faults\.csv:3: until: 'nan' is not a time"),
        ("mon,100,40,web", r"faults\.csv:3: until: the window ends 60 s before it begins"),
    ],
)
def test_read_windows_bad_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        windows(tmp_path, HEAD + "mon,10,20,web\n" + row + "\n", end="until")


def test_moment_of_a_number_or_a_date() -> None:
    assert moment_s("1661270000") == moment_s("1661270000000") == 1661270000
    # no zone: UTC
    assert moment_s("2022-08-23T15:53:20") == moment_s("2022-08-23T17:53:20+02:00") == 1661270000
    for text in ("soon", "inf", "2022-13-01"):
        with pytest.raises(ValueError, match=r".+"):
            moment_s(text)


def test_masked_samples_are_left_out_both_ends_too(tmp_path: Path) -> None:
    rows = ("0,1", "60,2", "120,900", "180,900", "240,5")
    found = load_trace(trace(tmp_path / "t.csv", *rows, masked=(Window(120, 180),)))
    assert found.t_s.tolist() == [0, 60, 240]
    assert found.bytes.tolist() == [1, 2, 5]
    assert found.lines.tolist() == [2, 3, 6]
    assert (found.masked, found.origin_s) == (2, 0)


def test_masked_beginning_moves_the_origin(tmp_path: Path) -> None:
    rows = ("1000,9", "1060,1", "1120,2")
    found = load_trace(trace(tmp_path / "t.csv", *rows, masked=(Window(-1e9, 1059),)))
    assert (found.t_s.tolist(), found.origin_s) == ([0, 60], 1060)


def test_masked_window_bridges_a_gap_and_time_that_runs_backwards(tmp_path: Path) -> None:
    rows = ("0,1", "60,1", "90000,7", "30000,7", "99000,2", "99060,2")
    query = trace(tmp_path / "t.csv", *rows, masked=(Window(100, 98000),))
    assert load_trace(query).t_s.tolist() == [0, 60, 99000, 99060]
    with pytest.raises(InputError, match="a gap of 89940 s"):
        load_trace(trace(tmp_path / "t.csv", *rows))
    # a gap that no window touches is still one
    rows = ("0,1", "60,1", "120,1", "99000,2")
    with pytest.raises(InputError, match="a gap of 98880 s"):
        load_trace(trace(tmp_path / "u.csv", *rows, masked=(Window(-9, -5),)))


def test_everything_masked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every sample is masked"):
        load_trace(trace(tmp_path / "t.csv", "0,1", "60,1", masked=(Window(0, 60),)))
