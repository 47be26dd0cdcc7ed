"""One incident's story."""

from __future__ import annotations

import pytest

from capplan.errors import InputError
from capplan.plan.outcome import Outcome, analyse
from capplan.report.story import tell
from tests.plan.synthetic import Maker, global_kill, pages, quiet


def two() -> Outcome:
    made = global_kill()
    made.container("slow", [(0, 1)], limits={"memory_high": pages(1)}, throttle_s=50.0)
    return analyse(made.run())


def test_tell_single_incident_without_being_asked() -> None:
    told = tell(analyse(global_kill().run()))
    assert told.startswith("Incident 1: victim is OOM-killed at 1 min 30 s: the node is out of")
    assert "  1. leaker grew from 63 MiB at 17 s" in told
    assert "Signs before, the earliest first" in told


def test_tell_weighs_victim_and_runners_up() -> None:
    lines = tell(analyse(global_kill().run())).splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("  process"))
    assert lines[head + 1].split()[:2] == ["victim", "194,613"]
    assert lines[head + 2].split()[:2] == ["leaker", "~182,372"]


def test_tell_several_incidents_are_listed() -> None:
    told = tell(two())
    assert "2 incidents; name one for its story:" in told
    assert "slow is throttled at memory.high" in told
    assert "How it came about" not in told


@pytest.mark.parametrize("event", ["2", "oom_kill", "victim"])
def test_tell_finds_by_number_kind_or_name(event: str) -> None:
    assert tell(two(), event).startswith("Incident 2: victim")


def test_tell_unknown_event_lists_what_there_is() -> None:
    with pytest.raises(
        InputError, match=r"'pause' is no incident of this run\n.*throttled, oom_kill"
    ):
        tell(two(), "pause")


def test_tell_ambiguous_event_lists_its_numbers() -> None:
    made = Maker()
    for n in range(2):
        made.container(f"c{n}", [(0, 1)]).event(10.0 + n, "oom_kill", f"c{n}", "memcg")
    with pytest.raises(InputError, match=r"'oom_kill' is 2 incidents\n.*numbers 1, 2"):
        tell(analyse(made.run()), "oom_kill")


def test_tell_quiet_run_says_so() -> None:
    told = tell(analyse(quiet().run()))
    assert told.startswith("Fits: ")
    assert told.endswith("Nothing went wrong in this run.")
    with pytest.raises(InputError, match="none: all went well"):
        tell(analyse(quiet().run()), "1")


def test_tell_foreign_names_are_escaped() -> None:
    name = "a\x1b]0;x\x07"
    told = tell(analyse(Maker().container(name, [(0, 1)]).event(5.0, "oom_kill", name).run()))
    assert "\x1b" not in told
    assert "a\\x1b]0;x\\x07" in told
