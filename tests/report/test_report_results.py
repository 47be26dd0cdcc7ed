"""The result directory: what is in it, that it is whole, and that its bytes repeat."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pathlib
import time

import numpy as np
import pandas as pd
import pytest

from capplan.errors import InputError
from capplan.plan.outcome import analyse
from capplan.report import files, results
from tests.plan.synthetic import Maker, memcg_kill, quiet

FILES = {
    "summary.json", "events.csv", "timeseries.csv.gz", "resolved.json", "memory.png", "run.json",
}  # fmt: skip


def test_write_leaves_all_files_and_nothing_else(tmp_path: pathlib.Path) -> None:
    run = quiet().run()
    written = results.write(analyse(run), run, tmp_path / "deep" / "out")
    assert {path.name for path in written} == FILES
    assert {path.name for path in (tmp_path / "deep" / "out").iterdir()} == FILES


def test_write_summary_has_verdict_first_and_provenance(tmp_path: pathlib.Path) -> None:
    run = memcg_kill().run()
    outcome = analyse(run)
    results.write(outcome, run, tmp_path, command="capplan simulate n.yaml", picture=False)
    data = json.loads((tmp_path / "summary.json").read_text())
    assert list(data)[:3] == ["fits", "verdict", "format"]
    assert (data["fits"], data["verdict"], data["format"]) == (False, outcome.verdict, 1)
    provenance = data["provenance"]
    assert (provenance["capplan"], provenance["seed"]) == ("0.1.0", 1)
    assert provenance["command"] == "capplan simulate n.yaml"
    assert provenance["input"]["node"]["release"] == "6.1"


def test_write_resolved_input_is_yaml_when_given(tmp_path: pathlib.Path) -> None:
    run = quiet().run()
    resolved = {"capplan": 1, "node": {"memory": "1Gi"}, "from": pathlib.Path("n.yaml")}
    results.write(analyse(run), run, tmp_path, resolved=resolved, picture=False)
    text = (tmp_path / "resolved.yaml").read_text()
    assert text == "capplan: 1\nnode:\n  memory: 1Gi\nfrom: n.yaml\n"
    assert not (tmp_path / "resolved.json").exists()


def test_write_same_run_gives_same_bytes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, hour in (("a", 1e9), ("b", 1.5e9)):
        monkeypatch.setattr(time, "time", lambda hour=hour: hour)
        run = memcg_kill().run()
        results.write(analyse(run), run, tmp_path / name)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_write_events_can_be_read_by_anybody(tmp_path: pathlib.Path) -> None:
    made = memcg_kill().container('=cmd,"x"', [(0, 1)])
    run = made.run()
    results.write(analyse(run), run, tmp_path, picture=False)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "events.csv").read_text())))
    kill = next(row for row in rows if row["event"] == "oom_kill")
    assert (kill["t"], kill["name"], kill["scope"]) == ("80", "web", "memcg")
    assert json.loads(kill["detail"])["points"] == 35915
    assert '\'=cmd,"x"' in {row["name"] for row in rows}


def test_write_timeseries_is_exact_and_keeps_extremes(tmp_path: pathlib.Path) -> None:
    made = quiet().put("zone.Normal.free|min", [np.nan, 0.1 + 0.2] + [2.0] * 99)
    run = made.run()
    results.write(analyse(run), run, tmp_path, picture=False)
    text = gzip.decompress((tmp_path / "timeseries.csv.gz").read_bytes()).decode()
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["t", *(name for name in run.series if name != "t")]
    for name, column in zip(head, zip(*rows)):
        np.testing.assert_array_equal([float(cell or "nan") for cell in column], run.series[name])
    assert rows[1][0] == "1"
    frame = pd.read_csv(tmp_path / "timeseries.csv.gz", index_col="t")
    assert frame.shape == (101, len(head) - 1)


def test_write_failure_leaves_no_summary_and_no_scraps(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise ZeroDivisionError("in the picture")

    monkeypatch.setattr(results, "_picture", fail)
    run = quiet().run()
    with pytest.raises(ZeroDivisionError, match="in the picture"):
        results.write(analyse(run), run, tmp_path)
    assert "summary.json" not in {path.name for path in tmp_path.iterdir()}
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*"))


def test_write_where_a_file_stands_is_an_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "out").write_text("in the way")
    run = quiet().run()
    with pytest.raises(InputError, match="out: cannot be written"):
        results.write(analyse(run), run, tmp_path / "out")


def test_read_gives_back_the_outcome(tmp_path: pathlib.Path) -> None:
    run = memcg_kill().run()
    outcome = analyse(run)
    results.write(outcome, run, tmp_path, picture=False)
    assert results.read(tmp_path).outcome == outcome
    assert results.read(tmp_path / "summary.json").provenance["seed"] == 1


def test_summary_has_no_nan() -> None:
    run = Maker().container("web", [(0, 1)], stall_s=float("nan")).run()
    content = files.as_json(results.summary(analyse(run), run))
    assert b"NaN" not in content


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "no summary.json here\n    expected a directory that capplan wrote"),
        ("{", "cannot be read"),
        ("[]", "format 'None' is not known"),
        ('{"format": 2}', "format '2' is not known\n    expected format 1"),
        ('{"format": 1}', "not a whole result"),
    ],
)
def test_read_refuses_what_is_no_result(
    tmp_path: pathlib.Path, content: str | None, match: str
) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=match):
        results.read(tmp_path)
