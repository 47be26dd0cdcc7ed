from __future__ import annotations

from pathlib import Path

import pytest

from capplan.errors import InputError
from capplan.sim.expand import sample_ns
from tests.sim.expand_cases import HOUR, MIB, MIN, S, mapping, scenario


def test_expand_node_zones_and_assumptions(tmp_path: Path) -> None:
    found = scenario(tmp_path, {})
    assert [(z.name, z.managed) for z in found.node.zones] == [
        ("DMA", 3840), ("DMA32", 765952), ("Normal", 3311616),
    ]  # fmt: skip
    text = "\n".join(found.assumptions)
    assert "kernel memory 300 MiB (assumed)" in text
    assert "MemTotal 15.6 GiB of 16 GiB RAM" in text
    assert found.node.kernel_pages == 300 * MIB
    assert found.node.daemon_anon_pages == 200 * MIB
    assert found.node.disks[0].name == "disk"


def test_expand_node_that_is_written_out_assumes_less(tmp_path: Path) -> None:
    system = {
        "kernel": "1Gi",
        "slab_reclaimable": "1Mi",
        "slab_in_use": "256Ki",
        "daemons": {"memory": "10Mi", "file": "4Mi"},
    }
    zones = [{"zone": "DMA32", "managed": 500_000, "min": 10, "low": 20, "high": 30}]
    found = scenario(
        tmp_path,
        {},
        node={"zones": zones, "system": system, "disks": {"root": "nvme"}, "thp": "never"},
    )
    assert found.assumptions == ()
    (zone,) = found.node.zones
    assert (zone.spanned, zone.present, zone.managed) == (500_000, 500_000, 500_000)
    assert zone.wmark == (10, 20, 30)
    assert not found.node.thp
    assert (found.node.slab_reclaimable_pages, found.node.slab_pinned_pages) == (256, 64)


def test_slab_in_use_is_part_of_the_slab(tmp_path: Path) -> None:
    system = {"slab_reclaimable": "1Mi", "slab_in_use": "2Mi"}
    with pytest.raises(InputError, match="slab_in_use is more than slab_reclaimable"):
        scenario(tmp_path, {}, node={"memory": "4Gi", "system": system})


def test_expand_device_class_is_the_middle_of_its_range(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {},
        node={
            "memory": "4Gi",
            "disks": {"root": {"device": "nvme", "read": "4Mi/s", "origin": "fio"}},
            "swap": [
                {"device": "hdd", "size": "1Gi"},
                {"device": "zram", "size": "2Gi", "mem_limit": "1Gi"},
                {"device": "ssd", "size": "1Gi", "priority": 5},
            ],
        },
    )
    root, hdd = found.node.disks[:2]
    assert root.read_latency_ns == 70_711  # sqrt(50 us * 100 us)
    assert root.read_ns_per_page == pytest.approx(1e9 / 1024)  # 4 MiB/s is 1024 pages
    assert root.write_ns_per_page == pytest.approx(1e9 / (50e3 * 500e3) ** 0.5)
    assert root.origin.startswith("read: fio; the rest nvme")
    assert hdd.random_read_ns == pytest.approx(1e9 / (80 * 150) ** 0.5)
    swaps = [
        (s.disk, s.size_pages, s.priority, s.zram, s.zram_limit_pages) for s in found.node.swaps
    ]
    assert swaps == [
        ("swap0", 1024 * MIB, -2, False, 0),
        ("swap1", 2048 * MIB, -3, True, 1024 * MIB),
        ("swap2", 1024 * MIB, 5, False, 0),
    ]


@pytest.mark.parametrize(("kernel", "zpool"), [("6.1", "zbud"), ("6.12", "zsmalloc")])
def test_expand_zswap_pool_is_the_releases(tmp_path: Path, kernel: str, zpool: str) -> None:
    node = {"memory": "4Gi", "kernel": kernel, "zswap": {"enabled": False}}
    found = scenario(tmp_path, {}, node=node)
    assert found.node.zswap is not None
    assert found.node.zswap.zpool == zpool


def test_expand_sysctl_list_gets_numbers(tmp_path: Path) -> None:
    sysctl = {"vm.swappiness": 10, "vm.lowmem_reserve_ratio": [256, 256, 32, 0]}
    found = scenario(
        tmp_path, {}, node={"memory": "4Gi", "sysctl": sysctl, "lru_gen_min_ttl_ms": 7}
    )
    assert found.node.sysctl == {
        "vm.swappiness": 10,
        "vm.lowmem_reserve_ratio.0": 256,
        "vm.lowmem_reserve_ratio.1": 256,
        "vm.lowmem_reserve_ratio.2": 32,
        "vm.lowmem_reserve_ratio.3": 0,
        "lru_gen.min_ttl_ms": 7,
    }


def test_expand_daemons_that_may_be_killed_are_processes(tmp_path: Path) -> None:
    daemons = {"memory": "100Mi", "locked": "20Mi", "count": 2, "oom_score_adj": -500}
    found = scenario(tmp_path, {}, node={"memory": "4Gi", "system": {"daemons": daemons}})
    assert found.node.daemon_anon_pages == 0
    assert [p.name for p in found.processes] == ["system/daemon-0", "system/daemon-1"]
    assert {p.oom_score_adj for p in found.processes} == {-500}
    assert mapping(found, "system/daemon-0/heap").resident_pages == 40 * MIB
    locked = mapping(found, "system/daemon-1/locked")
    assert (locked.resident_pages, locked.locked) == (10 * MIB, True)


def test_sample_ns_worked_examples() -> None:
    assert sample_ns(24 * HOUR) == MIN
    assert sample_ns(HOUR) == 2 * S
    assert sample_ns(MIN) == S // 10
    assert sample_ns(10_000 * HOUR) == 5 * HOUR
