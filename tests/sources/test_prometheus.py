"""Prometheus' series become a node whose containers follow them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import capplan
from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources.prometheus import Store, read_files
from capplan.sources.prometheus_node import Burst, Given, draft_of
from capplan.sources.write import write
from capplan.spec.trace import TraceQuery, load_trace
from tests.sources.prometheus_data import GIB, MIB, POD, STEP, T0, answer, line, node, web


def _store(*results: dict[str, Any]) -> Store:
    store = Store()
    store.take_json(json.loads(answer(*results)), "test")
    return store


def _written(out: Path, *results: dict[str, Any], given: Given | None = None) -> str:
    """The profile of web-1, after all was written and loaded."""
    write(draft_of(_store(*results, *node()), given), out)
    return (out / "profiles/web-1.yaml").read_text(encoding="utf-8")


def _rows(out: Path) -> np.ndarray:
    return np.loadtxt(out / "traces/web-1.csv", delimiter=",", skiprows=1)


def test_node_and_limits(tmp_path: Path) -> None:
    kube = [
        line("kube_pod_container_resource_limits", [512 * MIB] * 4, resource="memory", **POD),
        line("kube_pod_container_resource_requests", [256 * MIB] * 4, resource="memory", **POD),
        line("kube_pod_container_resource_requests", [2] * 4, resource="cpu", **POD),
        line("kube_pod_owner", [1] * 4, owner_kind="ReplicaSet", owner_name="web-7f", **POD),
        line("kube_replicaset_owner", [1] * 4, namespace="shop", replicaset="web-7f",
             owner_kind="Deployment", owner_name="web"),
    ]  # fmt: skip
    text = _written(tmp_path, *web(memory_rss=[200 * MIB] * 4), *kube)
    spec = capplan.load(tmp_path / "node.yaml")
    container = spec.containers["web-1"]
    assert container.written() == {"memory.max": 512 * MIB, "memory.oom.group": True}
    assert container.requests_memory == 256 * MIB
    # Burstable: 1000 - 1000 * request / capacity
    assert container.oom_score_adj == 1000 - 1000 * 256 // (8 * 1024 - 200)
    assert (spec.node.memory, spec.node.cpus, spec.node.kernel) == (8 * GIB, 2, "6.1.0-18-amd64")
    assert spec.node.sysctl.written() == {"vm.min_free_kbytes": 67584}
    # MemTotal - MemAvailable - what the container held
    rest = spec.node.system.kernel + spec.node.system.daemons.memory
    assert rest == (2 * GIB - 200 * MIB) - 200 * MIB
    assert "of Deployment web" in text
    assert "page cache is not known" in text


def test_usage_is_split_by_rss_and_cache(tmp_path: Path) -> None:
    rss, cache = [100 * MIB, 120 * MIB], [50 * MIB, 60 * MIB]
    usage = [a + b + 5 * MIB for a, b in zip(rss, cache, strict=True)]
    text = _written(tmp_path, *web(memory_rss=rss, memory_cache=cache, memory_usage_bytes=usage))
    assert _rows(tmp_path).tolist() == [
        [T0, 100 * MIB, 50 * MIB], [T0 + STEP, 120 * MIB, 60 * MIB],
    ]  # fmt: skip
    assert "kernel memory: usage less rss, cache and page tables" in text
    assert "peaks between scrapes are NOT in it" in text


@pytest.mark.parametrize("name", ["working_set", "usage"])
def test_one_figure_alone(tmp_path: Path, name: str) -> None:
    text = _written(tmp_path, *web(**{f"memory_{name}_bytes": [1.0 * MIB, 2 * MIB]}))
    assert f"measures: {name}" in text
    assert "which part of it is page cache is not known" in text


def test_a_trace_at_its_limit_is_clipped(tmp_path: Path) -> None:
    limit = 256 * MIB
    rss = [100 * MIB, limit - MIB, limit - MIB, limit - MIB]
    series = web(memory_rss=rss, spec_memory_limit_bytes=[limit] * 4)
    draft = draft_of(_store(*series, *node()))
    write(draft, tmp_path)
    text = (tmp_path / "profiles/web-1.yaml").read_text(encoding="utf-8")
    assert "CLIPPED: 3 of 4 samples sit at the old limit of 256 MiB" in text
    assert any("the demand was higher" in problem.message for problem in draft.problems)
    below = web(memory_rss=[v / 2 for v in rss], spec_memory_limit_bytes=[limit] * 4)
    assert "CLIPPED" not in _written(tmp_path / "below", *below)


def test_no_limit_is_no_limit(tmp_path: Path) -> None:
    series = web(memory_rss=[MIB] * 4, spec_memory_limit_bytes=[9223372036854771712.0] * 4)
    assert "limit" not in _written(tmp_path, *series)
    assert (
        capplan.load(tmp_path / "node.yaml").containers["web-1"].written().get("memory.max") is None
    )


def test_lost_peaks_come_from_the_high_water_mark(tmp_path: Path) -> None:
    flat = [100 * MIB] * 4
    series = web(
        memory_rss=flat, memory_cache=[0] * 4, memory_usage_bytes=flat,
        memory_max_usage_bytes=[110 * MIB, 110 * MIB, 180 * MIB, 180 * MIB],
    )  # fmt: skip
    text = _written(tmp_path, *series)
    assert "MODELLED: 1 peaks between scrapes, up to 80 MiB above" in text
    # between the second and the third scrape, when the mark rose
    assert _rows(tmp_path)[2].tolist() == [T0 + 1.5 * STEP, 180 * MIB, 0]
    # the mark that was set before the recording shows nothing of it
    assert len(_rows(tmp_path)) == 5


def test_a_peak_at_the_limit_may_have_been_cache(tmp_path: Path) -> None:
    rss, cache = [100 * MIB] * 3, [100 * MIB] * 3
    series = web(
        memory_rss=rss, memory_cache=cache, memory_usage_bytes=[200 * MIB] * 3,
        memory_max_usage_bytes=[200 * MIB, 300 * MIB, 300 * MIB],
        spec_memory_limit_bytes=[300 * MIB] * 3,
    )  # fmt: skip
    assert "1 of them reached the limit: shared out" in " ".join(
        _written(tmp_path, *series).replace("#", " ").split()
    )
    assert _rows(tmp_path)[1].tolist() == [T0 + STEP / 2, 150 * MIB, 150 * MIB]


@pytest.mark.parametrize(
    ("sign", "values", "at"),
    [
        ("start_time_seconds", [T0 - 5, T0 - 5, T0 + 40, T0 + 40], T0 + 40),
        ("cpu_usage_seconds_total", [5, 9, 1, 4], T0 + 1.5 * STEP),
    ],
)
def test_restarts_by_counters(tmp_path: Path, sign: str, values: list[float], at: float) -> None:
    rss = [100 * MIB, 110 * MIB, 90 * MIB, 95 * MIB]
    text = _written(tmp_path, *web(memory_rss=rss, **{sign: values}))
    assert "1 restarts" in text
    trace = load_trace(TraceQuery(tmp_path / "traces/web-1.csv", "time", "rss"))
    assert (trace.t_s[trace.restarts] + T0).tolist() == [at]
    assert not load_trace_restarts(tmp_path / "calm", rss)


def load_trace_restarts(out: Path, rss: list[float]) -> bool:
    """Whether the same curve without a counter has a restart."""
    _written(out, *web(memory_rss=rss))
    query = TraceQuery(out / "traces/web-1.csv", "time", "rss")
    return bool(load_trace(query).restarts.any())


def test_a_pod_that_comes_and_goes(tmp_path: Path) -> None:
    other = dict(POD, pod="web-0", container="web")
    long = line("container_memory_rss", [MIB] * 20, **other)
    short = web(memory_rss=[2.0 * MIB] * 20)[0]
    short["values"] = short["values"][5:12]
    text = _written(tmp_path, long, short)
    assert "at_end: exit" in text
    spec = capplan.load(tmp_path / "node.yaml")
    assert spec.containers["web-1"].start.constant == 5 * STEP * 10**9
    assert (spec.containers["web-1"].restart, spec.containers["web-0"].restart) == (
        "Never", "Always",
    )  # fmt: skip


def test_stated_bursts(tmp_path: Path) -> None:
    text = _written(
        tmp_path, *web(memory_rss=[100.0 * MIB] * 4), given=Given(burst=Burst(1.5, 600))
    )
    assert "STATED, not measured: bursts to 1.5 times its mean, 50 MiB for 15 s" in text
    assert "by: 50Mi" in text


def test_pause_containers_and_slices_are_left_out(tmp_path: Path) -> None:
    extra = [
        line("container_memory_rss", [MIB] * 4, **dict(POD, container=name)) for name in ("", "POD")
    ]
    _written(tmp_path, *web(memory_rss=[MIB] * 4), *extra)
    assert list(capplan.load(tmp_path / "node.yaml").containers) == ["web-1"]


def test_several_nodes_need_a_name() -> None:
    there = line("container_memory_rss", [MIB] * 4, **dict(POD, pod="b", node="n2"))
    store = _store(*web(memory_rss=[MIB] * 4), there, *node())
    with pytest.raises(InputError, match=r"on 2 nodes: n1, n2\n.*--node NAME"):
        draft_of(store)
    with pytest.raises(InputError, match="did you mean 'n2'"):
        draft_of(store, Given(node="n22"))
    assert list(draft_of(store, Given(node="n2")).node["containers"]) == ["b"]


def test_the_node_is_found_among_several() -> None:
    other = {"instance": "10.0.0.2:9100"}
    results = [
        *web(memory_rss=[MIB] * 4), *node(),
        line("node_memory_MemTotal_bytes", [64 * GIB] * 4, **other),
        line("node_sysctl_vm_min_free_kbytes", [1] * 4, **other),
        line("kube_node_info", [1] * 4, node="n1", kubelet_version="v1.34.0", instance="ksm:8080"),
        line("kube_node_info", [1] * 4, node="n2", kubelet_version="v1.2.0", instance="ksm:8080"),
    ]  # fmt: skip
    # 10.0.0.1 is n1 by node_uname_info
    machine = draft_of(_store(*results)).node["node"]
    assert machine["memory"].value == "8Gi"
    assert machine["sysctl"]["vm.min_free_kbytes"].value == 67584


def test_openmetrics_is_the_same_as_json(tmp_path: Path) -> None:
    results = [*web(memory_rss=[MIB, 2 * MIB]), *node()]
    (tmp_path / "a.json").write_text(answer(*results), encoding="utf-8")
    lines = [
        "{}{{{}}} {} {}".format(
            r["metric"]["__name__"],
            ",".join(f'{k}="{v}"' for k, v in r["metric"].items() if k != "__name__"), v, t,
        )
        for r in results for t, v in r["values"]
    ]  # fmt: skip
    text = "# TYPE x gauge\n" + "\n".join(lines) + "\n# EOF\n"
    with gzip.open(tmp_path / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    first, second = (read_files([tmp_path / name]).series for name in ("a.json", "b.txt.gz"))
    assert first == second
    assert first


def test_text_with_milliseconds_escapes_and_rubbish() -> None:
    store = Store()
    store.take_text(
        'container_memory_rss{pod="a\\"},b",container="c"} 5 1700000000000\n'
        'container_memory_rss{pod="a"\nfoo{} 1\ncontainer_memory_rss{pod="a"} NaN 5\n',
        "text",
    )
    first = next(iter(store.series.values()))
    assert (first.labels["pod"], list(first.times)) == ('a"},b', [1_700_000_000])
    assert [problem.place.line for problem in store.problems] == [2]
    assert store.samples == 1


def test_a_sample_that_no_counter_holds_is_passed_over() -> None:
    store = Store()
    for number, value in enumerate(("1e300", "+Inf", "NaN", "-1e19", "9e18")):
        store.take_text(
            f'container_memory_rss{{pod="a",container="c"}} {value} {number + 1}\n', "x"
        )
    assert list(next(iter(store.series.values())).values) == [9e18]


def test_nothing_of_memory_is_told() -> None:
    store = _store(line("container_memory_rs", [1.0], **POD))
    with pytest.raises(InputError, match=r"there are: container_memory_rs\)"):
        draft_of(store)


def test_series_without_a_name_take_the_metric() -> None:
    result = web(memory_rss=[MIB])[0]
    del result["metric"]["__name__"]
    store = Store()
    store.take_json(json.loads(answer(result)), "f", "container_memory_rss")
    assert [one.name for one in store.series.values()] == ["container_memory_rss"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"status": "error", "error": "out of memory"}', "the query had failed: 'out of memory'"),
        ('{"a": 1}', "no answer of Prometheus"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_answer(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=match):
        read_files([path])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["data", "result", "metric", "values", "value", "__name__", "pod"]),
            inner,
        )
    ),
    max_leaves=20,
)
VALUES = st.lists(
    st.tuples(st.floats() | st.integers(), st.text(max_size=5) | st.floats().map(str)), max_size=6
)


@given(JSON)
def test_any_json_is_read_or_refused(data: Any) -> None:
    try:
        Store().take_json(data, "fuzz", "container_memory_rss")
    except InputError as error:
        assert "fuzz" in str(error)  # noqa: PT017


@given(st.text(alphabet='container_memory_rss{pod="a\\}, 1.5eE#+-\n', max_size=200))
def test_any_text_is_read(text: str) -> None:
    store = Store()
    store.take_text(text, "fuzz")
    assert store.samples <= text.count("\n") + 1


@given(st.dictionaries(
    st.sampled_from(["memory_rss", "memory_cache", "memory_usage_bytes", "memory_swap",
                     "memory_max_usage_bytes", "start_time_seconds", "memory_failcnt",
                     "memory_working_set_bytes", "spec_memory_limit_bytes"]), VALUES))  # fmt: skip
def test_any_samples_make_a_draft_or_a_refusal(series: dict[str, list[tuple[Any, Any]]]) -> None:
    results = [
        {"metric": {"__name__": f"container_{name}", **POD}, "values": [list(p) for p in values]}
        for name, values in series.items()
    ]
    store = Store()
    store.take_json(results, "fuzz")
    try:
        draft = draft_of(store, Given(memory=8 * GIB))
    except InputError as error:
        assert "no container's memory" in str(error)  # noqa: PT017
    else:
        assert "web-1" in draft.node["containers"]


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(answer(*web(memory_rss=[MIB] * 4), *node()), encoding="utf-8")
    arguments = ["import", "prometheus", str(path), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "no request known: taken as none" in done.stderr
    assert "traces/web-1.csv" in done.stdout


def _reason(values: list[float], reason: str = "OOMKilled") -> dict[str, Any]:
    name = "kube_pod_container_status_last_terminated_reason"
    return line(name, values, reason=reason, **POD)


def test_an_oom_kill_clips_the_trace(tmp_path: Path) -> None:
    limit = 256 * MIB
    rss = [100 * MIB, 200 * MIB, 40 * MIB, 60 * MIB]
    series = web(memory_rss=rss, memory_cache=[8 * MIB] * 4, spec_memory_limit_bytes=[limit] * 4,
                 start_time_seconds=[T0 - 9, T0 - 9, T0 + 50, T0 + 50])  # fmt: skip
    # kube-state-metrics tells it one scrape later
    draft = draft_of(_store(*series, _reason([0, 0, 0, 1]), *node()))
    write(draft, tmp_path)
    text = (tmp_path / "profiles/web-1.yaml").read_text(encoding="utf-8")
    assert "CLIPPED: OOMKilled 1 times, seen at 60 s; the demand was higher" in text
    assert any("OOMKilled" in problem.message for problem in draft.problems)
    rows = _rows(tmp_path)
    # at 30 s the last sample, at 50 s the new start: killed half way, at the limit, without cache
    assert rows[:, 0].tolist() == [T0, T0 + 30, T0 + 40, T0 + 50, T0 + 60, T0 + 90]
    assert rows[2].tolist() == [T0 + 40, limit, 0]
    assert rows[3, 1] == 0


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ([_reason([1, 1, 1, 1], "Error")], ""),
        ([_reason([1, 1, 0, 0]), _reason([0, 0, 1, 1], "Error")], "before the trace begins"),
        ([_reason([0, 0, 1, 1])], "OOMKilled 1 times, seen at 60 s"),  # no sign of a restart
    ],
)
def test_other_terminations_are_no_oom_kills(
    tmp_path: Path, reasons: list[dict[str, Any]], told: str
) -> None:
    text = _written(tmp_path, *web(memory_rss=[100 * MIB] * 4), *reasons)
    assert told in text
    assert ("CLIPPED" in text) == ("seen at" in told)
    assert _rows(tmp_path).shape[0] == 4  # no limit is known, so no point is put in
