"""A run written and read back: nothing that a picture asks for is lost."""

from __future__ import annotations

import gzip
import json
import pathlib

import numpy as np
import pytest

from capplan.errors import InputError
from capplan.plan.outcome import analyse
from capplan.report import record, results
from capplan.sim.scenario import Change
from tests.plan.synthetic import Maker, memcg_kill, pages, quiet


def _written(maker: Maker, folder: pathlib.Path) -> record.Recorded:
    run = maker.run()
    results.write(analyse(run), run, folder, picture=False)
    return record.read(folder)


def test_run_comes_back(tmp_path: pathlib.Path) -> None:
    maker = memcg_kill()
    maker.changes.append(Change(5, "web", "memory.max", pages(99)))
    run = maker.run()
    back = _written(maker, tmp_path).run
    assert back.events == run.events
    assert back.totals == run.totals
    assert back.wmarks == run.wmarks
    assert back.scenario.cgroups == run.scenario.cgroups
    assert back.scenario.changes == run.scenario.changes
    assert back.scenario.node == run.scenario.node
    assert set(back.series) == set(run.series)
    for name, values in run.series.items():
        np.testing.assert_array_equal(back.series[name], values)


def test_what_was_not_sampled_stays_so(tmp_path: pathlib.Path) -> None:
    values = np.full(101, np.nan)
    values[3] = 0.1 + 0.2
    back = _written(quiet().put("vmstat.pgscan_kswapd", values), tmp_path).run
    np.testing.assert_array_equal(back.series["vmstat.pgscan_kswapd"], values)


@pytest.mark.parametrize("name", ["=cmd()", "'quoted", "+1", 'a,b\n"c', "<script>", "@x"])
def test_foreign_names_come_back(name: str, tmp_path: pathlib.Path) -> None:
    back = _written(Maker().container(name, [(0, 10)]), tmp_path).run
    assert back.events[0].name == name
    assert f"process.{name}.rss_pages" in back.series


def test_demand_is_recorded_where_it_does_not_fit(tmp_path: pathlib.Path) -> None:
    assert list(_written(memcg_kill(), tmp_path / "bad").planned) == ["web", "db"]
    assert _written(quiet(), tmp_path / "good").planned == {}


def test_missing_table_is_named(tmp_path: pathlib.Path) -> None:
    _written(quiet(), tmp_path)
    (tmp_path / "events.csv").unlink()
    with pytest.raises(InputError, match=r"events\.csv: missing\n +expected a result directory"):
        record.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": 99}', "format '?99'? is not known"),
        ("[]", "format .* is not known"),
        ('{"format": 1}', "not a whole result"),
        ("{", "not a whole result"),
    ],
)
def test_broken_record_is_an_input_error(text: str, said: str, tmp_path: pathlib.Path) -> None:
    _written(quiet(), tmp_path)
    (tmp_path / record.RUN).write_text(text)
    with pytest.raises(InputError, match=said):
        record.read(tmp_path)


def test_gzip_bomb_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _written(quiet(), tmp_path)
    monkeypatch.setattr(record, "MAX_BYTES", 1 << 20)
    with gzip.open(tmp_path / "timeseries.csv.gz", "wb") as out:
        out.write(b"t\n" + b"0" * (2 << 20))
    with pytest.raises(InputError, match="more than 1 MiB unpacked"):
        record.read(tmp_path)


def test_cut_gzip_is_an_input_error(tmp_path: pathlib.Path) -> None:
    _written(quiet(), tmp_path)
    path = tmp_path / "timeseries.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        record.read(tmp_path)


def test_programs_are_left_out(tmp_path: pathlib.Path) -> None:
    _written(quiet(), tmp_path)
    data = json.loads((tmp_path / record.RUN).read_text())
    assert [p["tasks"] for p in data["scenario"]["processes"]] == [[], []]
