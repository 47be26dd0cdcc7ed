"""Runtimes as regions: worked numbers, what the flags' own programs would refuse, what fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from capplan.errors import InputError
from capplan.sim.expand import expand
from capplan.spec import NodeSpec, load
from capplan.spec.common import Dist
from capplan.spec.runtime import Go
from capplan.spec.runtimes.common import Facts, scans
from capplan.spec.runtimes.go import heap_goal, pace_of
from capplan.spec.runtimes.jvm import collector_of, heap_of, metadata_of
from capplan.spec.runtimes.jvm_flags import parse_jvm
from capplan.spec.runtimes.nodejs import generations, growing_factor

MIB, GIB = 1 << 20, 1 << 30
LIVE = "live: 400Mi, allocation_rate: 50Mi/s"


def facts(
    limit: int | None, *, memory: int = 64 * GIB, cpus: int = 4, version: str = "v2"
) -> Facts:
    return Facts(memory, limit, None, cpus, version)


def go(**keys: object) -> Go:
    return Go.model_validate({"live": "100Mi", "allocation_rate": "10Mi/s", **keys})


def node(folder: Path, runtime: str, *, limit: str = "memory.max: 1Gi", more: str = "") -> NodeSpec:
    (folder / "profile.yaml").write_text(
        "capplan: 1\nprofile: it\nprocesses:\n  it:\n    runtime:\n      " + runtime + "\n" + more
    )
    path = folder / "node.yaml"
    path.write_text(
        "capplan: 1\nnode: {memory: 8Gi, cpus: 4}\n"
        f"containers:\n  api: {{profile: profile.yaml, {limit}}}\nrun: {{duration: 1min}}\n"
    )
    return load(path)


# --- the JVM --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "limit", "initial", "most"),
    [
        ("", GIB, 16, 256),
        ("", 200 * MIB, 8, 100),
        ("", 400 * MIB, 8, 126),
        ("-XX:MaxRAMPercentage=75.0", GIB, 16, 768),
        ("-XX:MaxRAMPercentage=75 -XX:InitialRAMPercentage=50", GIB, 512, 768),
        ("-Xms256m -Xmx512m -XX:MaxRAMPercentage=90", GIB, 256, 512),
        ("-Xmx100m -Xmx300m", GIB, 16, 300),
        ("-XX:-UseContainerSupport", GIB, 1024, 16 * 1024),
    ],
)
def test_heap_of_flags_and_limit(flags: str, limit: int, initial: int, most: int) -> None:
    heap = heap_of(parse_jvm(flags.split()), facts(limit))
    assert (heap.initial // MIB, heap.most // MIB) == (initial, most)


@pytest.mark.parametrize(
    ("limit", "cpus", "flags", "collector"),
    [
        (GIB, 4, "", "Serial"),
        (1792 * MIB, 2, "", "G1"),
        (4 * GIB, 1, "", "Serial"),
        (4 * GIB, 1, "-XX:ActiveProcessorCount=2", "G1"),
        (GIB, 1, "-XX:+UseZGC", "Z"),
    ],
)
def test_collector_of_a_machine(limit: int, cpus: int, flags: str, collector: str) -> None:
    assert collector_of(parse_jvm(flags.split()), facts(limit, cpus=cpus)) == collector


def test_metadata_of_a_heap() -> None:
    assert metadata_of("G1", GIB, 21) == 20 * MIB
    assert metadata_of("G1", GIB, 17) == 36 * MIB
    assert metadata_of("Parallel", GIB, 21) == 34 * MIB
    assert metadata_of("Serial", GIB, 21) == 4 * MIB


def test_jvm_regions_add_up_to_the_heap_in_use(tmp_path: Path) -> None:
    spec = node(tmp_path, f"jvm: {{{LIVE}, threads: 120, flags: -Xmx800m}}")
    process = spec.profiles["api"].processes["it"]
    sizes = {
        name: int(region.size.middle) for name, region in process.regions.items() if region.size
    }
    # 40 % free after a mark: 400 / 0.6, on 2 MiB
    assert sizes["old"] + sizes["young"] == 668 * MIB
    assert sizes["stacks"] == 120 * 100 * 1024
    assert process.threads == 120
    # the old generation is 2/3 of 668, so it has 45.3 MiB beside the live data; 5 MiB/s promoted
    (touch,) = process.phases[0].body.phases  # more often than each 10 s: without a pause
    assert touch.body.rate == pytest.approx(400 * MIB / (45.33 / 5), rel=0.01)


def test_a_jvm_that_may_outgrow_its_limit_is_told(tmp_path: Path) -> None:
    spec = node(tmp_path, f"jvm: {{{LIVE}, flags: -XX:MaxRAMPercentage=90}}")
    (warning,) = spec.warnings
    assert (warning.code, warning.place.line) == ("C035", 6)
    assert "1.03 GiB (heap 922 MiB" in warning.message
    assert node(tmp_path, f"jvm: {{{LIVE}, flags: -XX:MaxRAMPercentage=75}}").warnings == ()


def test_live_data_above_the_heap_are_no_matter_of_the_limit(tmp_path: Path) -> None:
    (warning,) = node(tmp_path, f"jvm: {{{LIVE}}}").warnings
    assert "OutOfMemoryError" in warning.message
    assert "256 MiB (MaxRAMPercentage 25 % of 1 GiB (the limit))" in warning.message


def test_the_heap_follows_the_group_above_and_settings(tmp_path: Path) -> None:
    node(tmp_path, f"jvm: {{{LIVE}, flags: -XX:MaxRAMPercentage=50}}")
    spec = load(tmp_path / "node.yaml", {"containers.api.memory.max": "2Gi"})
    assert "heap at most 1 GiB: MaxRAMPercentage 50 % of 2 GiB" in spec.sources["api"].notes[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "-XX:MaxRamPercentage=75",
            r"profile.yaml:6:\d+: .*did you mean '-XX:MaxRAMPercentage=75'",
        ),
        ("-Xmx512MiB", "did you mean '-Xmx512M'"),
        ("-Xms2g -Xmx1g", "larger than the maximum heap"),
        ("-XX:+UseG1GC -XX:+UseZGC", "conflicting collector"),
        ("-XX:MaxRAMPercentage=750", "not a number up to 100"),
    ],
)
def test_what_a_jvm_refuses_is_an_error(tmp_path: Path, flags: str, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        node(tmp_path, f'jvm: {{{LIVE}, flags: "{flags}"}}')


# --- Go -------------------------------------------------------------------------------------


def test_heap_goal_of_gogc_and_the_limit() -> None:
    keys = {"goroutines": 1024, "stack": "8Ki", "globals": "2Mi"}
    assert heap_goal(go(**keys), nonheap=18 * MIB) == 210 * MIB
    limited = go(**keys, GOMEMLIMIT="200MiB")
    assert heap_goal(limited, nonheap=18 * MIB) == 182 * MIB - 182 * MIB * 3 // 100
    assert heap_goal(go(GOMEMLIMIT="90MiB"), nonheap=0) == 100 * MIB  # never below what lives
    assert heap_goal(go(live="1Mi", GOGC=50), nonheap=0) == pytest.approx(3.9 * MIB, rel=0.02)


def test_a_collector_at_half_the_cpus_cannot_hold_the_goal() -> None:
    keys = {"live": "400Mi", "globals": "0", "goroutines": 1, "stack": "0",
            "allocation_rate": "100Mi/s"}  # fmt: skip
    pace = pace_of(go(**keys), 420 * MIB, 1)
    assert (pace.cpu, pace.limited) == (0.5, True)
    assert pace.every_ns == pytest.approx(0.78125e9)
    assert pace.peak == pytest.approx((400 + 2 * 78.125) * MIB)
    easy = pace_of(go(**keys), 800 * MIB, 1)
    assert (easy.peak, easy.limited) == (800 * MIB, False)
    assert easy.cpu == pytest.approx(400 / 1024 / 4)


def test_a_death_spiral_and_a_missing_limit_are_told(tmp_path: Path) -> None:
    spec = node(tmp_path, f"go: {{{LIVE}, GOMEMLIMIT: 405MiB, GOMAXPROCS: 1}}")
    assert any("above the GOMEMLIMIT of 405 MiB" in w.message for w in spec.warnings)
    spec = node(tmp_path, f"go: {{{LIVE}}}")
    assert any("Go does not look at the container's limit" in n for n in spec.sources["api"].notes)
    process = spec.profiles["api"].processes["it"]
    assert set(process.regions) == {"live", "allocated", "retained", "stacks", "runtime"}


def test_what_go_refuses_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"profile.yaml:6:\d+: (?s:.*)did you mean '450MiB'"):
        node(tmp_path, f"go: {{{LIVE}, GOMEMLIMIT: 450Mi}}")


# --- Node.js --------------------------------------------------------------------------------


def test_generations_by_version_and_limit() -> None:
    assert generations({}, 22, facts(GIB))[:2] == (512 * MIB, 4 * MIB)
    assert generations({}, 18, facts(GIB))[:2] == (4 * GIB, 16 * MIB)
    assert generations({}, 18, facts(GIB, version="v1"))[:2] == (512 * MIB, 4 * MIB)
    assert generations({}, 22, facts(8 * GIB))[:2] == (2 * GIB, 16 * MIB)
    assert generations({}, 22, Facts(64 * GIB, 2 * GIB, GIB, 4, "v2"))[0] == 512 * MIB  # high
    flags = {"max-old-space-size": 300 * MIB}
    assert generations(flags, 22, facts(GIB))[:2] == (300 * MIB, 4 * MIB)


def test_growing_factor_worked_example() -> None:
    assert growing_factor(100, 1, 2 * GIB) == pytest.approx(3 / 2.03)
    assert growing_factor(20, 1, 2 * GIB) == 4.0
    assert growing_factor(20, 1, 256 * MIB) == 1.3
    assert growing_factor(10_000, 1, 2 * GIB) == 1.1


def test_nodejs_regions(tmp_path: Path) -> None:
    spec = node(tmp_path, "nodejs: {live: 150Mi, allocation_rate: 30Mi/s}", limit="memory.max: 2Gi")
    sizes = {n: int(r.size.middle) for n, r in spec.profiles["api"].processes["it"].regions.items()
             if r.size}  # fmt: skip
    # R = 1024 / 3: 1.105; and two semi-spaces of 8 MiB
    assert (sizes["live"] + sizes["allocated"]) / MIB == pytest.approx(150 * 1.1053 + 16, abs=0.1)
    assert sizes["young"] == 16 * MIB
    assert spec.warnings == ()
    with pytest.raises(InputError, match="did you mean '--max-old-space-size=384'"):
        node(tmp_path, f'nodejs: {{{LIVE}, flags: "--max-old-space-size=384m"}}')


# --- all ------------------------------------------------------------------------------------


def test_scans_worked_example() -> None:
    (rare,) = scans("old", 400 * MIB, Dist[int](constant=60 * 10**9), float(GIB))
    hold, touch = rare.body.phases
    assert hold.body.duration.constant + touch.body.duration.constant == 60 * 10**9
    assert touch.body.duration.constant == pytest.approx(0.390625e9)
    (often,) = scans("old", 400 * MIB, Dist[int](constant=2 * 10**9), float(GIB))
    assert often.body.phases[0].body.rate == 200 * MIB


def test_the_resolved_input_has_regions_and_loads_as_the_same(tmp_path: Path) -> None:
    spec = node(tmp_path, f"jvm: {{{LIVE}, growth: 1Mi/min, flags: -Xmx800m}}")
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(spec.resolved, sort_keys=False))
    second = load(again)
    first = spec.resolved["containers"]["api"]
    assert "runtime" not in first["profile"]["processes"]["it"]
    assert second.resolved["containers"]["api"] == first
    assert expand(second).mappings == expand(spec).mappings
    notes = [a for a in expand(spec).assumptions if a.startswith("api/it: ")]
    assert notes == list(spec.sources["api"].notes)


def test_runtime_beside_a_trace_or_a_region_of_its_name_is_refused(tmp_path: Path) -> None:
    runtime = f"jvm: {{{LIVE}, flags: -Xmx800m}}"
    with pytest.raises(InputError, match="the runtime has a region 'old' of its own"):
        node(tmp_path, runtime, more="    regions: {old: {size: 1Mi}}\n")
    with pytest.raises(InputError, match="both runtime and fork_of"):
        node(tmp_path, runtime, more="    fork_of: it\n")
    kept = node(tmp_path, runtime, more="    regions: {jars: {kind: file, size: 9Mi}}\n")
    assert "jars" in kept.profiles["api"].processes["it"].regions
