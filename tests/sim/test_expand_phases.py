from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.errors import InputError
from capplan.sim.expand_draws import Draws
from capplan.sim.expand_phases import (
    Extent,
    PhaseWriter,
    nominal_ns,
    pages_in,
    to_pages,
    write_ops,
    written_regions,
)
from capplan.sim.scenario import Op
from capplan.spec.profile import Process
from tests.sim.expand_cases import scenario

S = 1_000_000_000
MIB_PAGES = 256


def tuples(value: Any) -> Any:
    """Lists as tuples: the form in which the loader hands them to the models."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(v) for v in value) if isinstance(value, list | tuple) else value


def writer(*phases: Any, seconds: float = 3600, heap: int = 0, seed: int = 1) -> PhaseWriter:
    """Ops of phases over a region ``heap`` (and files ``log``, 64 MiB, and ``new``)."""
    spec = Process.model_validate({"phases": tuples(phases)})
    regions = {
        "heap": Extent("m", "anon", heap, heap, heap),
        "log": Extent("f", "file", 64 * MIB_PAGES, 64 * MIB_PAGES, 64 * MIB_PAGES),
        "new": Extent("n", "file", limit=64 * MIB_PAGES),
        "shm": Extent("s", "shmem", limit=32 * MIB_PAGES),
    }
    out = PhaseWriter(
        Draws(seed, own=("c",)), regions, round(seconds * S), 1 << 20, "c: p", frozenset({"heap"})
    )
    out.write(spec.phases)
    return out


def test_to_pages_rounds_up() -> None:
    assert [to_pages(n) for n in (0, 1, 4096, 4097)] == [0, 1, 1, 2]


def test_nominal_ns_and_pages_in_are_inverse() -> None:
    assert nominal_ns(512, 256.0) == 2 * S
    assert nominal_ns(512, 0.0) == 0
    assert pages_in(256.0, 2 * S) == 512


def test_grow_to_takes_what_is_missing() -> None:
    out = writer({"grow": {"region": "heap", "to": "48Mi", "rate": "16Mi/s"}}, heap=MIB_PAGES)
    assert out.ops == [Op("grow", "m", 47 * MIB_PAGES, 16.0 * MIB_PAGES)]
    assert out.t == round(47 / 16 * S)
    assert out.regions["heap"].peak == 48 * MIB_PAGES


def test_grow_to_less_than_there_is_does_nothing() -> None:
    assert writer({"grow": {"region": "heap", "to": "1Mi"}}, heap=2 * MIB_PAGES).ops == []


def test_grow_over_a_time_has_that_rate() -> None:
    out = writer({"grow": {"region": "heap", "by": "10Mi", "over": "20s"}})
    assert out.ops == [Op("grow", "m", 2560, 128.0)]
    assert out.t == 20 * S


def test_grow_over_a_time_takes_it_even_with_nothing_to_grow() -> None:
    out = writer({"grow": {"region": "heap", "to": "1Mi", "over": "20s"}}, heap=256)
    assert out.ops == [Op("hold", ns=20 * S)]


def test_grow_without_rate_is_as_fast_as_it_can() -> None:
    out = writer({"grow": {"region": "heap", "by": "10Mi"}})
    assert out.ops == [Op("grow", "m", 2560, 0.0)]
    assert out.t == 0


def test_grow_never_asks_for_more_than_ram_and_swap() -> None:
    out = writer({"grow": {"region": "heap", "by": "1Ti"}}, {"grow": {"region": "heap", "by": 1}})
    assert out.ops == [Op("grow", "m", 1 << 20, 0.0)]


def test_hold_touch_and_free() -> None:
    out = writer(
        {"hold": "90s"},
        {"touch": {"region": "heap", "pattern": "zipf", "rate": "1Mi/s", "for": "10s"}},
        {"free": {"region": "heap", "by": "1Mi"}},
        {"free": {"region": "heap", "to": "3Mi"}},
        {"free": {"region": "heap"}},
        {"free": {"region": "heap"}},
        heap=8 * MIB_PAGES,
    )
    assert out.ops == [
        Op("hold", ns=90 * S),
        Op("touch", "m", rate=256.0, ns=10 * S, pattern="zipf"),
        Op("free", "m", 256),
        Op("free", "m", 4 * 256),
        Op("free", "m", 3 * 256),
    ]
    assert out.t == 100 * S


def test_read_once_loop_and_random() -> None:
    out = writer(
        {"read": {"region": "log", "rate": "32Mi/s"}},
        {"read": {"region": "log", "size": "1Gi", "pattern": "cyclic", "for": "5s"}},
        {"read": {"region": "log", "size": "1Mi", "pattern": "uniform", "for": "5s"}},
    )
    assert out.ops == [
        Op("read", "f", 64 * MIB_PAGES, 32.0 * MIB_PAGES),
        Op("read_loop", "f", 64 * MIB_PAGES, 0.0, ns=5 * S),  # no more than there is
        Op("read_rand", "f", 256, 0.0, ns=5 * S),
    ]
    assert out.t == 12 * S


def test_write_by_size_and_by_time() -> None:
    out = writer(
        {"write": {"region": "new", "size": "8Mi", "rate": "4Mi/s"}},
        {"write": {"region": "new", "for": "3s", "rate": "4Mi/s"}},
    )
    assert out.ops == [Op("write", "n", 2048, 1024.0), Op("write", "n", 3072, 1024.0)]
    assert out.t == 5 * S


def test_write_ops_worked_example() -> None:
    log = Extent("f", "file", 80, limit=100)
    ops = [(op.op, op.pages) for op in write_ops(log, 250, 1.0, 1 << 20)]
    assert ops == [
        ("write", 20), ("free", 100), ("write", 100), ("free", 100), ("write", 100),
        ("free", 100), ("write", 30),
    ]  # fmt: skip
    assert log.pages == 30


def test_written_regions_looks_into_repeats() -> None:
    spec = Process.model_validate(
        {"phases": tuples([{"write": {"region": "a", "size": "1Mi"}},
                           {"repeat": {"phases": [{"write": {"region": "b", "size": "1Mi"}},
                                                  {"free": {"region": "c"}}]}}])}
    )  # fmt: skip
    assert written_regions(spec.phases) == {"a", "b"}


def test_grow_of_a_file_reads_it() -> None:
    out = writer({"grow": {"region": "log", "to": "1Gi", "rate": "32Mi/s"}})
    assert out.ops == [Op("read", "f", 64 * MIB_PAGES, 32.0 * MIB_PAGES)]


def test_read_of_a_file_that_is_still_empty_takes_its_time() -> None:
    out = writer({"read": {"region": "new", "pattern": "cyclic", "for": "5s"}})
    assert out.ops == [Op("hold", ns=5 * S)]


def test_write_shmem_stops_at_its_limit() -> None:
    out = writer(
        {"write": {"region": "shm", "size": "20Mi"}}, {"write": {"region": "shm", "size": "20Mi"}}
    )
    assert out.ops == [Op("write", "s", 20 * 256), Op("write", "s", 12 * 256)]
    assert out.regions["shm"].peak == 32 * 256


def test_burst_with_fixed_arrivals() -> None:
    out = writer(
        {"burst": {"region": "heap", "by": "4Mi", "every": "60s", "for": "5s", "rate": "2Mi/s",
                   "times": 2}},
        heap=10,
    )  # fmt: skip
    burst = [Op("grow", "m", 1024, 512.0), Op("hold", ns=5 * S), Op("free", "m", 1024)]
    # the second arrives 60 s after the first, which took 2 s to grow and 5 s to hold
    assert out.ops == [Op("hold", ns=60 * S), *burst, Op("hold", ns=53 * S), *burst]
    assert out.regions["heap"].pages == 10
    assert out.regions["heap"].peak == 1034


def test_burst_that_comes_during_another_waits_for_it() -> None:
    out = writer({"burst": {"region": "heap", "by": "4Mi", "every": "1s", "for": "5s", "times": 2}})
    burst = [Op("grow", "m", 1024), Op("hold", ns=5 * S), Op("free", "m", 1024)]
    assert out.ops == [Op("hold", ns=S), *burst, *burst]


def test_burst_arrivals_are_exponential() -> None:
    out = writer(
        {"burst": {"region": "heap", "by": 4096, "every": {"exponential": {"mean": "10s"}},
                   "for": "1us"}},
        seconds=40_000,
    )  # fmt: skip
    count = sum(op.op == "grow" for op in out.ops)
    assert count == pytest.approx(4000, abs=4 * 4000**0.5)  # Poisson: sd is the root
    gaps = [op.ns / S for op in out.ops if op.op == "hold" and op.ns != 1000]
    assert sum(g > 10 for g in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)  # 1 / e
    assert out.t == 40_000 * S


def test_burst_during_a_time_ends_with_it() -> None:
    out = writer(
        {"burst": {"region": "heap", "by": "1Mi", "every": "40s", "for": "1s", "during": "60s"}},
        {"exit": 3},
    )
    assert out.ops[-2:] == [Op("hold", ns=19 * S), Op("exit", code=3)]
    assert out.t == 60 * S


def test_leak_until_the_end_size_or_time() -> None:
    bare = {"region": "heap", "rate": "1Mi/s"}
    assert writer({"leak": bare}, seconds=10).ops == [Op("grow", "m", 2561, 256.0)]
    assert writer({"leak": bare | {"to": "4Mi"}}).ops == [Op("grow", "m", 1024, 256.0)]
    timed = writer({"leak": bare | {"during": "3s"}}, {"hold": "1s"})
    assert timed.ops == [Op("grow", "m", 768, 256.0), Op("hold", ns=S)]


def test_repeat_fills_the_run() -> None:
    out = writer(
        {"repeat": {"phases": [{"grow": {"region": "heap", "to": "1Mi"}}, {"hold": "10s"},
                               {"free": {"region": "heap"}}]}},
        seconds=25,
    )  # fmt: skip
    cycle = [Op("grow", "m", 256), Op("hold", ns=10 * S), Op("free", "m", 256)]
    assert out.ops == [*cycle, *cycle, *cycle[:2]]


def test_repeat_times_then_goes_on() -> None:
    out = writer({"repeat": {"times": 2, "phases": [{"hold": "1s"}]}}, {"exit": {}})
    assert out.ops == [Op("hold", ns=S), Op("hold", ns=S), Op("exit")]


def test_repeat_draws_anew_each_time() -> None:
    out = writer(
        {"repeat": {"phases": [{"hold": {"for": {"uniform": {"low": "1s", "high": "9s"}}}}]}}
    )
    assert len({op.ns for op in out.ops}) == len(out.ops) > 100


def test_restart_gives_back_and_begins_again() -> None:
    out = writer(
        {"grow": {"region": "heap", "by": "1Mi", "over": "10s"}},
        {"restart": "5s"},
        heap=100,
        seconds=26,
    )
    grow = Op("grow", "m", 256, 25.6)
    again = [Op("free", "m", 356), Op("hold", ns=5 * S), Op("grow", "m", 100)]
    assert out.ops == [grow, *again, grow, Op("free", "m", 356), Op("hold", ns=5 * S),
                       Op("grow", "m", 100)]  # fmt: skip


def test_phases_after_an_exit_are_not_written() -> None:
    assert writer({"exit": 1}, {"hold": "1s"}).ops == [Op("exit", code=1)]


def test_phases_past_the_end_are_not_written() -> None:
    assert writer({"hold": "20s"}, {"hold": "1s"}, seconds=10).ops == [Op("hold", ns=20 * S)]


@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        ({"repeat": {"phases": [{"grow": {"region": "heap", "to": "1Mi"}}]}}, "repeat"),
        ({"restart": {}}, "restart"),
        ({"burst": {"region": "heap", "by": "1Mi", "every": "0s", "for": "0s"}}, "burst"),
    ],
)
def test_phases_that_take_no_time_for_ever_are_refused(phase: dict[str, Any], kind: str) -> None:
    with pytest.raises(InputError, match=rf"c: p\.phases: a {kind} without end takes no time"):
        writer(phase)


def test_phases_too_many_operations_are_refused() -> None:
    with pytest.raises(InputError, match="more than 500000 operations until the run's end"):
        writer({"repeat": {"phases": [{"hold": "1us"}]}})


def test_phases_unknown_region_is_refused() -> None:
    with pytest.raises(InputError, match="there is no region 'heep'"):
        writer({"free": {"region": "heep"}})


SIZES = st.integers(0, 64).map(lambda n: f"{n}Mi")
PHASE = st.one_of(
    st.builds(lambda n: {"grow": {"region": "heap", "to": n}}, SIZES),
    st.builds(lambda n: {"grow": {"region": "heap", "by": n, "rate": "8Mi/s"}}, SIZES),
    st.builds(lambda n: {"free": {"region": "heap", "by": n}}, SIZES),
    st.builds(lambda n: {"free": {"region": "heap", "to": n}}, SIZES),
    st.builds(lambda n: {"hold": f"{n + 1}s"}, st.integers(0, 50)),
    st.builds(
        lambda n: {"burst": {"region": "heap", "by": n, "every": "7s", "for": "2s", "times": 3}},
        SIZES,
    ),
)


@given(phases=st.lists(PHASE, max_size=12), heap=st.integers(0, 5000))
def test_extent_is_what_the_ops_add_up_to(phases: list[dict[str, Any]], heap: int) -> None:
    out = writer(*phases, heap=heap)
    extent, peak = heap, heap
    for op in out.ops:
        assert op.pages > 0 or op.ns > 0
        extent += op.pages if op.op == "grow" else -op.pages
        assert extent >= 0
        peak = max(peak, extent)
    assert (extent, peak) == (out.regions["heap"].pages, out.regions["heap"].peak)


def test_phases_without_time_are_told_with_their_place(tmp_path: Path) -> None:
    profile = "capplan: 1\nprofile: p\nprocesses:\n  app:\n    regions: {heap: {}}\n    phases:\n"
    profile += "      - repeat: {phases: [{free: {region: heap}}]}\n"
    (tmp_path / "p.yaml").write_text(profile, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        scenario(tmp_path, {"web": {"profile": "p.yaml"}})
    (problem,) = caught.value.problems
    assert (problem.place.line, problem.place.column) == (7, 7)
    assert problem.path == "processes.app.phases"
    assert problem.message == "a repeat without end takes no time"
    assert problem.expected == "a hold, a rate or a number of times"
