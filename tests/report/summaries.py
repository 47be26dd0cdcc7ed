"""Summaries of many runs, made by hand after docs/results.md."""

from __future__ import annotations

from typing import Any

from capplan.plan.intervals import wilson

MIB = 1 << 20
PROVENANCE = {
    "capplan": "0.1.0", "seed": 1, "machine": "x86_64", "command": "capplan risk x.yaml",
    "input": {},
}  # fmt: skip
INCIDENTS = ("kill", "pause", "throttle", "evict", "unfinished")


def odds(count: int, runs: int = 100) -> dict[str, Any]:
    """A proportion."""
    low, high = wilson(count, runs, 0.95)
    return {"count": count, "runs": runs, "p": count / runs, "low": low, "high": high}


def risks(**counts: int) -> dict[str, Any]:
    """Proportions by incident."""
    return {incident: odds(counts.get(incident, 0)) for incident in INCIDENTS}


def spread(*quantiles: float) -> dict[str, Any]:
    """A spread; its mean is the median."""
    low, *_, high = quantiles
    return {"mean": quantiles[2], "min": low, "max": high, "quantiles": list(quantiles),
            "runs": 100}  # fmt: skip


def of(kind: str, **more: Any) -> dict[str, Any]:
    """What all kinds share."""
    return {
        "fits": False, "verdict": "Does not fit: web is OOM-killed in 40 % of 100 runs.",
        "format": 1, "kind": kind, "name": "hand-made", "duration_s": 3600.0, "runs": 100,
        "gate": {"kill": 0.01}, "notes": ["a note"], "provenance": PROVENANCE,
    } | more  # fmt: skip


def risk(name: str = "web") -> dict[str, Any]:
    """40 of 100 runs kill a container from half an hour on."""
    steps = []
    for n in range(1, 101):
        count = max(0, min(40, n - 50))
        o = odds(count)
        steps.append([36.0 * n, count, o["p"], o["low"], o["high"]])
    return of(
        "risk", failed=0, node=risks(kill=40), fitting=odds(60), first_kill=steps,
        containers=[
            {"name": name, "replicas": 2, "risks": risks(kill=40)},
            {"name": "db", "replicas": 1, "risks": risks(kill=3, throttle=1)},
        ],
        replicas=[{"name": f"{name}-{n}", "container": name, "risks": risks(kill=20)}
                  for n in range(2)],
        spread={"available_min": spread(1e8, 2e8, 3e8, 4e8, 5e8),
                "direct_stalls": spread(0, 1, 1200, 40000, 2e6), "order9_min": None},
        victims=[
            {"container": f"{name}-0", "runs": 25, "first": 30, "kills": 33, "memcg": 33,
             "on_node": 0},
            {"container": "db", "runs": 3, "first": 10, "kills": 3, "memcg": 0, "on_node": 3},
        ],
        grown=[["db", f"{name}-0", 25], ["db", "db", 10], [f"{name}-0", f"{name}-0", 5]],
        orders=[["web-0", 30]], reach=[{"container": name, "statement": "declared"}],
        stop={"until": 0.05, "looks": [200], "at": 100, "reached": False},
        assumptions=["assumed"],
    )  # fmt: skip


def check() -> dict[str, Any]:
    """The gate held against the runs of :func:`risk`: one rule of each fate."""
    rules = [
        {"name": "max_throttle_share", "who": "db", "passed": True, "message": "throttled 0 %"},
        {"name": "max_pause_risk", "who": "hand-made", "passed": None, "message": "381 would"},
        {"name": "max_kill_risk", "who": "hand-made", "passed": False, "message": "at most 1 %"},
    ]
    return risk() | {"kind": "check", "rules": rules, "verdict": "Fails: hand-made: a rule."}


def sweep(*kills: int) -> dict[str, Any]:
    """A limit from 400 MiB up in steps of 20."""
    points = [
        {"index": n, "settings": {"containers.web.memory.max": f"{400 + 20 * n}Mi"},
         "fits": kill == 0, "runs": 100, "failed": 0, "error": None, "risks": risks(kill=kill),
         "metrics": {"swap_out": 0.0}}
        for n, kill in enumerate(kills)
    ]  # fmt: skip
    return of(
        "sweep", knobs=[{"key": "containers.web.memory.max", "low": "400Mi", "high": "480Mi"}],
        points=points, replicates=100,
        grown=[["web", "web", 80], ["db", "web", 30]],
        fitting=[n for n, k in enumerate(kills) if not k],
        sensitivity=[
            {"knob": "a", "of": "P(kill)", "first": 0.6, "first_low": 0.5, "first_high": 0.7},
            {"knob": "b", "of": "P(kill)", "first": 0.1, "first_low": 0.0, "first_high": 0.2},
        ],
    )  # fmt: skip


def compare(pick: int | None = 1) -> dict[str, Any]:
    """Three values of vm.min_free_kbytes; the larger, the fewer stalls and the less memory."""
    settings = [
        {"label": f"vm.min_free_kbytes={kb}", "settings": {"vm.min_free_kbytes": kb}, "error": None,
         "marks": {"low_memory": 4096 * MIB, "minimum": kb * 1024, "low": kb * 1280,
                   "high": kb * 1536},
         "risk": risk() | {"node": risks(kill=k),
                           "spread": {"direct_stalls": spread(0, 0, d, d, d)}},
         "against": None if k else {"fits_only_here": 30, "fits_only_there": 0, "p_value": 2e-9},
         "burst": {"at_s": 1.0, "available_bytes": 1, "at_rates": [
             {"rate": 64 * MIB, "size_bytes": 1, "absorbed_bytes": kb * 512}]},
         "warnings": [f"{kb} kB are kept back"]}
        for kb, k, d in ((16384, 30, 900), (67584, 0, 40), (262144, 0, 0))
    ]  # fmt: skip
    return of(
        "comparison", pick=pick, settings=settings, keys=["vm.min_free_kbytes"], replicates=100
    )


def headroom() -> dict[str, Any]:
    """One knob of each kind."""
    rooms = [
        {"kind": "memory", "container": "", "key": "node.memory", "present": "4Gi",
         "value": 3072 * MIB, "statement": "3 GiB are enough", "found": {}},
        {"kind": "limit", "container": "web", "key": "containers.web.memory.max",
         "present": "512Mi", "value": None, "statement": "no lower limit", "found": {}},
        {"kind": "replicas", "container": "web", "key": "containers.web.replicas", "present": 4,
         "value": 6, "statement": "two more", "found": {}},
    ]  # fmt: skip
    return of("headroom", rooms=rooms, fits=None, verdict="Bears: two more of web.")


def recommendation() -> dict[str, Any]:
    """One container, one rule beside it."""
    return of(
        "recommendation", max_risk=0.01,
        settings={"containers.web.memory.max": "480Mi", "vm.min_free_kbytes": "67584"},
        containers=[{"container": "web", "replicas": 4, "limit_key": "memory.max",
                     "present_limit": 768 * MIB, "limit": 480 * MIB, "high": None,
                     "request": 448 * MIB, "peak": 460 * MIB, "confidence": 0.95,
                     "reason": "the least that holds"}],
        total_bytes=1920 * MIB, present_bytes=3072 * MIB, bad=odds(0), present_bad=odds(0),
        sysctl={"vm.min_free_kbytes": 67584}, sysctl_reason="fewer stalls",
        reserved={"kernel": 400 * MIB, "daemons": 300 * MIB, "high_mark": 200 * MIB,
                  "total": 900 * MIB},
        rivals=[{"name": "p99", "limits": {}, "total_bytes": 1800 * MIB, "bad": odds(12)}],
    )  # fmt: skip
