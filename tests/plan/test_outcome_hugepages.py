"""A pool of huge pages that stays short is an incident, told from what the node had free."""

from __future__ import annotations

from capplan.plan.outcome import Outcome, analyse
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Change, Op
from tests.sim.engine_cases import MS, S, node, process, scenario

HOLD = Op("hold", ns=2 * S)


def outcome(*changes: Change, boot: int = 0) -> Outcome:
    """A node of 32 MiB, 16 of it in use, with a pool at boot or written later."""
    parts = [process("p", "a", 3500, HOLD, HOLD)]
    machine = node(sysctl={"vm.nr_hugepages": boot})
    return analyse(run(scenario(parts, (Cgroup("a"),), changes, node=machine)))


def write(value: int, at: int) -> Change:
    return Change(at, "", "vm.nr_hugepages", value)


def test_pool_that_is_filled_is_no_incident() -> None:
    found = outcome(write(2, 300 * MS), boot=1)
    assert found.fits
    assert not [i for i in found.incidents if i.kind == "hugepages_short"]


def test_pool_that_stays_short_breaks_the_verdict() -> None:
    found = outcome(write(100, 300 * MS))
    (short,) = [i for i in found.incidents if i.kind == "hugepages_short"]
    got = 100 - int(short.title.split(" of 100 short")[0].split()[-1])
    assert 1 <= got <= 9
    assert short.breaks
    assert short.end is None
    assert not found.fits
    assert f"the pool of huge pages is {100 - got} of 100 short at 300 ms" in found.verdict
    assert short.chain[0] == (
        "vm.nr_hugepages asks for 100 huge pages, 200 MiB in blocks of 2 MiB; the node has made"
        f" {got}, {2 * got} MiB"
    )
    assert "0 blocks of 2 MiB among it" in short.chain[1]
    assert f"one of the {100 - got} that are missing gets ENOMEM" in short.chain[2]


def test_pool_is_short_until_it_is_made_smaller() -> None:
    found = outcome(write(100, 300 * MS), write(1, 800 * MS))
    (short,) = [i for i in found.incidents if i.kind == "hugepages_short"]
    assert short.end == 0.8


def test_pool_short_at_boot_is_told_at_once() -> None:
    found = outcome(boot=100)
    short = next(i for i in found.incidents if i.kind == "hugepages_short")
    assert short.t < 0.001  # what boot took
    assert "of 100 short" in short.title
