"""docker inspect and docker stats become node files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import capplan
from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources.compose import read_stats
from capplan.sources.docker import host_memory, read_containers

MIB, GIB = 1 << 20, 1 << 30


def _container(name: str, status: str = "running", **host: Any) -> dict[str, Any]:
    """As ``docker inspect`` prints it, less what has nothing to do with memory."""
    kept: dict[str, Any] = {
        "CgroupParent": "", "Memory": 0, "MemoryReservation": 0, "MemorySwap": 0,
        "MemorySwappiness": None, "OomKillDisable": None, "OomScoreAdj": 0,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "ShmSize": 64 * MIB,
    }  # fmt: skip
    return {
        "Id": "ab12",
        "Name": f"/{name}",
        "State": {"Status": status},
        "HostConfig": kept | host,
    }


INSPECT = [
    _container("web", Memory=512 * MIB, MemorySwap=GIB, MemoryReservation=256 * MIB,
               RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 3},
               Tmpfs={"/run": "rw,size=16m", "/tmp": ""}),
    _container("db", Memory=GIB, MemorySwap=-1, OomScoreAdj=-500, CgroupParent="/apps.slice"),
    _container("free"),
    _container("old", status="exited"),
]  # fmt: skip
STATS = """\
{"BlockIO":"0B / 0B","CPUPerc":"0.00%","Container":"ab12","ID":"ab12","MemPerc":"4.98%","MemUsage":"25.5MiB / 512MiB","Name":"web","NetIO":"1kB / 0B","PIDs":"1"}
{"BlockIO":"0B / 0B","CPUPerc":"0.00%","Container":"ab13","ID":"ab13","MemPerc":"1%","MemUsage":"800KiB / 15.5GiB","Name":"free","NetIO":"1kB / 0B","PIDs":"1"}
"""  # noqa: E501
API = {
    "name": "/db",
    "memory_stats": {"usage": 300 * MIB, "limit": GIB, "stats": {"inactive_file": 50 * MIB}},
}


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_limits_of_running_containers(tmp_path: Path) -> None:
    services, problems = read_containers([_file(tmp_path, "i.json", json.dumps(INSPECT, indent=4))])
    web, db, free = services
    assert (web.limit, web.memswap, web.reservation) == (512 * MIB, GIB, 256 * MIB)
    assert web.tmpfs == (("/run", 16 * MIB), ("/tmp", None))
    assert (db.memswap, db.oom_score_adj, db.parent) == (-1, -500, "apps.slice")
    assert (free.limit, free.reservation, free.restart) == (None, None, "Never")
    assert "old is exited: left out" in str(problems[0])


def test_stats_of_the_command_and_of_the_api(tmp_path: Path) -> None:
    stats = _file(tmp_path, "s.json", STATS + json.dumps(API, indent=2))
    assert read_stats(stats) == {"web": int(25.5 * MIB), "free": 800 << 10, "db": 250 * MIB}
    services, _ = read_containers([_file(tmp_path, "i.json", json.dumps(INSPECT))])
    assert host_memory(stats, services) == int(15.5 * GIB)  # free has no limit but the host


def test_the_node_file_loads(tmp_path: Path) -> None:
    inspect = _file(tmp_path, "i.json", json.dumps(INSPECT))
    stats = _file(tmp_path, "s.json", STATS)
    args = ["import", "docker", str(inspect), "--stats", str(stats), "--swap", "2Gi", "--out",
            str(tmp_path / "out")]  # fmt: skip
    result = CliRunner().invoke(cli, args, prog_name="capplan")
    assert result.exit_code == 0, result.stderr
    spec = capplan.load(tmp_path / "out" / "node.yaml")
    assert spec.node.memory == int(15.5 * GIB)
    assert spec.containers["web"].written() == {
        "memory.max": 512 * MIB, "memory.low": 256 * MIB, "memory.swap.max": 512 * MIB,
    }  # fmt: skip
    assert (spec.containers["web"].restart, spec.containers["web"].restart_by) == (
        "OnFailure", "docker",
    )  # fmt: skip
    assert spec.containers["db"].parent == "apps.slice"
    assert spec.containers["free"].written() == {}
    heap = spec.profiles["web"].processes["main"].regions["heap"]
    assert heap.size is not None
    assert heap.size.constant == int(25.5 * MIB)


def test_the_hosts_memory_has_to_come_from_somewhere(tmp_path: Path) -> None:
    inspect = _file(tmp_path, "i.json", json.dumps(INSPECT[:2]))
    args = ["import", "docker", str(inspect), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, args, prog_name="capplan")
    assert result.exit_code == 2
    assert "do not say how much memory the host has\n    expected --memory 16Gi" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "there is no running container"), ('[{"RepoTags": []}]', "object without HostConfig"),
     ("[\n{", "i.json:1: not JSON"), ("x", "i.json:1: not JSON")],
)  # fmt: skip
def test_what_is_no_container_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_containers([_file(tmp_path, "i.json", text)])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["HostConfig", "Name", "State", "Status", "Memory", "Tmpfs", "ShmSize",
                         "RestartPolicy", "MemoryReservation", "MemorySwappiness"]),
        inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(_JSON)
def test_no_object_makes_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    text = json.dumps([{"HostConfig": value, "State": value, "Name": value}, value])
    path = _file(tmp_path_factory.mktemp("fuzz"), "i.json", text)
    try:
        services, _ = read_containers([path])
        host_memory(path, services)
    except InputError:
        return
