"""A pool of huge pages that leaves little or nothing says so before anything runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.errors import InputError
from capplan.spec.hugepages import HPAGE_BYTES, most_hugepages
from capplan.units import GIB, MIB
from tests.spec.test_check import codes, load

SYSTEM = "system: {kernel: 400Mi, daemons: {memory: 350Mi, shmem: 0}}"


def machine(pool: int, memory: str = "4Gi") -> str:
    sysctl = f"sysctl: {{vm.min_free_kbytes: 8192, vm.nr_hugepages: {pool}}}"
    return f"memory: {memory}, {sysctl}, {SYSTEM}"


def test_most_hugepages_worked_example() -> None:
    assert most_hugepages(4 * GIB, 750 * MIB, 8 * MIB) == 1669


@given(st.integers(0, 64 * GIB), st.integers(0, 8 * GIB), st.integers(0, GIB))
def test_most_hugepages_is_the_largest_pool_that_fits(
    memory: int, system: int, minimum: int
) -> None:
    most = most_hugepages(memory, system, minimum)
    left = memory - system - minimum
    assert most >= 0
    assert most * HPAGE_BYTES <= max(left, 0) < (most + 1) * HPAGE_BYTES


@pytest.mark.parametrize("pool", [1669, 2048, 100_000])
def test_pool_that_leaves_nothing_is_refused_with_its_arithmetic(pool, tmp_path):
    with pytest.raises(InputError, match=r"MIN's 8 MiB leave room for 1669: no memory") as caught:
        load(tmp_path, machine=machine(pool))
    said = str(caught.value)
    assert f"node.sysctl.vm.nr_hugepages: '{pool}' huge pages of 2 MiB are" in said
    assert "the system's 750 MiB" in said
    assert "expected less than 1669" in said
    assert "[C036]" in said


def test_pool_above_what_it_leaves_is_a_warning(tmp_path):
    loaded = load(tmp_path, machine=machine(900))
    assert codes(loaded) == ["C037"]
    assert "are 1.76 GiB of 4 GiB" in str(loaded.warnings[0])
    assert "leave 1.5 GiB for everything else" in str(loaded.warnings[0])


@pytest.mark.parametrize("pool", [0, 1, 834])
def test_smaller_pool_is_no_problem(pool, tmp_path):
    assert codes(load(tmp_path, machine=machine(pool))) == []


def test_pool_written_by_the_timeline_is_judged_too(tmp_path):
    extra = "timeline: [{at: 5min, set: {vm.nr_hugepages: 4000}}]\n"
    with pytest.raises(InputError, match=r"timeline\[0\].set.vm.nr_hugepages: '4000' huge pages"):
        load(tmp_path, machine=machine(0), extra=extra)
